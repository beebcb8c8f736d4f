# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The GPUs that NVIDIA's driver shows to this process, asked through the driver's own library."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass

LIBRARY = "libcuda.so.1"
VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"
# CUdevice_attribute of cuda.h.
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
_NAME_BYTES = 256


class DriverError(Exception):
    """No GPU can be used here; the message says which step failed."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU, or a MIG slice of one; `memory_bytes` is all of its memory."""

    name: str
    compute_capability: tuple[int, int]
    memory_bytes: int

    def __str__(self) -> str:
        return f"{self.name}, {self.memory_bytes / 2**30:.0f} GiB"


@dataclass(frozen=True, slots=True)
class Driver:
    """What the driver says: the newest CUDA that it runs, and the GPUs in its order."""

    cuda_version: tuple[int, int]
    gpus: tuple[Gpu, ...]


def find_driver() -> Driver:
    """Ask the driver. `$CUDA_VISIBLE_DEVICES` chooses and orders the GPUs, as for all of CUDA.

    Raises:
        DriverError: there is no driver, it does not work, or it shows no GPU.
    """
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise DriverError(
            f"no NVIDIA GPU: no driver here ({error}). Install one; give a container --gpus all"
        ) from error
    _call(library, "cuInit", ctypes.c_uint(0))
    version, count = ctypes.c_int(), ctypes.c_int()
    _call(library, "cuDriverGetVersion", ctypes.byref(version))
    _call(library, "cuDeviceGetCount", ctypes.byref(count))
    if count.value < 1:
        raise DriverError(f"no NVIDIA GPU: the driver shows none{_visible()}")
    major, minor = divmod(version.value, 1000)
    gpus = tuple(_describe(library, index) for index in range(count.value))
    return Driver((major, minor // 10), gpus)


def _describe(library: ctypes.CDLL, index: int) -> Gpu:
    device, value, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    _call(library, "cuDeviceGet", ctypes.byref(device), ctypes.c_int(index))
    name = ctypes.create_string_buffer(_NAME_BYTES)
    _call(library, "cuDeviceGetName", name, ctypes.c_int(_NAME_BYTES), device)
    capability = []
    for attribute in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR):
        _call(library, "cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(attribute), device)
        capability.append(value.value)
    _call(library, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    return Gpu(name.value.decode(errors="replace"), (capability[0], capability[1]), memory.value)


def _call(library: ctypes.CDLL, name: str, *arguments: object) -> None:
    result = int(getattr(library, name)(*arguments))
    if result != 0:
        text = ctypes.c_char_p()
        library.cuGetErrorString(ctypes.c_int(result), ctypes.byref(text))
        said = (text.value or b"unknown error").decode(errors="replace")
        raise DriverError(
            f"no NVIDIA GPU can be used: {name} gave error {result}, {said}{_visible()}"
        )


def _visible() -> str:
    value = os.environ.get(VISIBLE_VARIABLE)
    return "" if value is None else f" ({VISIBLE_VARIABLE} is {value!r})"
