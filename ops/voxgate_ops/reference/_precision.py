# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""float16 and bfloat16: computed in float32, rounded once at the end."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

_LOW = (torch.float16, torch.bfloat16)
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def in_float32(operator: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """`operator` with its 16-bit arguments widened and its float results rounded to their type."""

    @functools.wraps(operator)
    def run(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        dtype = _low_dtype((*args, *kwargs.values()))
        if dtype is None:
            return operator(*args, **kwargs)
        wide = (_cast(arg, _LOW, torch.float32) for arg in args)
        named = {name: _cast(arg, _LOW, torch.float32) for name, arg in kwargs.items()}
        result: Any = operator(*wide, **named)
        if isinstance(result, tuple):
            return tuple(_cast(part, (torch.float32,), dtype) for part in result)  # type: ignore[return-value]
        rounded: _Result = _cast(result, (torch.float32,), dtype)
        return rounded

    return run


def _low_dtype(values: Iterable[object]) -> torch.dtype | None:
    found = {value.dtype for value in values if isinstance(value, Tensor) and value.dtype in _LOW}
    if len(found) > 1:
        raise ValueError("float16 and bfloat16 tensors in one call: convert one of them")
    return found.pop() if found else None


def _cast(value: Any, dtypes: Iterable[torch.dtype], to: torch.dtype) -> Any:
    return value.to(to) if isinstance(value, Tensor) and value.dtype in dtypes else value
