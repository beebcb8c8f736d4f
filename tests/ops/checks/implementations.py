# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The implementations under one face: numpy arrays in, numpy arrays out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from voxgate_ops import _native, reference


class Implementation(ABC):
    """`ops.sparse_conv(…)` runs the implementation's function of that name."""

    float_type: type = np.float32

    @abstractmethod
    def __getattr__(self, name: str) -> Callable[..., Any]:
        """The function of that name, taking and giving numpy arrays."""

    def floats(self, array: Any) -> Any:
        """The array in the type the implementation computes in."""
        return np.ascontiguousarray(array, dtype=self.float_type)


class Reference(Implementation):
    """`voxgate_ops.reference` in float64."""

    float_type = np.float64

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(reference, name)

        def run(*args: Any, **kwargs: Any) -> Any:
            out = function(
                *(_to_torch(arg) for arg in args),
                **{key: _to_torch(arg) for key, arg in kwargs.items()},
            )
            if isinstance(out, tuple):
                return tuple(part.numpy() for part in out)
            return out if out is None else out.numpy()

        return run


class Native(Implementation):
    """`voxgate_ops._native` on a fixed number of threads."""

    def __init__(self, threads: int = 2) -> None:
        self.threads = threads

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(_native, name)

        def run(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs, threads=self.threads)

        return run


def _to_torch(value: Any) -> Any:
    return torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value
