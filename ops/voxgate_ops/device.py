# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Where a model runs: `auto`, `cpu`, `cuda` or `cuda:N`, and what a GPU needs here for that."""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort
from onnxruntime.capi import build_and_package_info

from voxgate_ops.cuda_driver import Driver, DriverError, find_driver
from voxgate_ops.errors import LibraryMissingError

CUDA_PROVIDER = "CUDAExecutionProvider"
# The kernels use asynchronous copies and tensor cores of bfloat16, which came with Ampere.
_MIN_CAPABILITY = (8, 0)
_HAS_CUDA, _DEVICE_COUNT = "VoxgateHasCuda", "VoxgateCudaDeviceCount"
_INSTALL_LIBRARIES = "pip install 'voxgate[cuda]' brings it, as do NVIDIA's own packages"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Device:
    """The CPU, or the GPU of number `index` as CUDA counts them.

    `reason`: why `auto` is the CPU; "" wherever the device was asked for.
    """

    index: int | None = None
    reason: str = ""

    def __str__(self) -> str:
        return "cpu" if self.index is None else f"cuda:{self.index}"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why no model can run on a GPU. `gpu_here`: it has one, so that what is missing can be had."""

    reason: str
    gpu_here: bool


def choose_device(name: str, library: Callable[[], Path]) -> Device | Obstacle:
    """The device that `name` stands for on this machine.

    `auto` is the first GPU if all is there that it needs, else the CPU, which is logged with the
    reason.

    Args:
        name: auto, cpu, cuda (the first GPU) or cuda:N.
        library: finds the custom-operator library; called where there is a GPU.

    Returns:
        The device; where a GPU was asked for that cannot be used, the obstacle.

    Raises:
        LibraryMissingError: `library` raised it.
        ValueError: `name` is no legal value.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ValueError(f"device is {name!r}, expected auto, cpu, cuda or cuda:N")
    if name == "cpu":
        return Device()
    index = int(name.partition(":")[2] or 0)
    obstacle = cuda_obstacle(library, index)
    if obstacle is None:
        return Device(index)
    if name != "auto":
        return obstacle
    # With a GPU in the machine somebody will wonder why it is idle.
    level = logging.WARNING if obstacle.gpu_here else logging.INFO
    log.log(level, "device auto is the CPU: %s", obstacle.reason)
    return Device(reason=obstacle.reason)


def cuda_obstacle(library: Callable[[], Path], index: int = 0) -> Obstacle | None:
    """What keeps models from GPU `index`; None: nothing. Loads CUDA's libraries on the way.

    Arguments and errors as of `choose_device`.
    """
    try:
        driver = find_driver()
    except DriverError as error:
        return Obstacle(str(error), gpu_here=False)
    reason = (
        _unsuitable(driver, index)
        or _no_provider()
        or _no_operators(library(), index)
        or _missing_libraries()
    )
    return Obstacle(reason, gpu_here=True) if reason else None


def provider_options(index: int, *, use_tf32: bool) -> dict[str, str]:
    """The options of ONNX Runtime's CUDA provider; all others are left as they are."""
    return {
        "device_id": str(index),
        # On unless said otherwise, and then "float32" has 10 bits of mantissa.
        "use_tf32": str(int(use_tf32)),
        # Hardly two frames have the same shapes; the default tries every algorithm for each new
        # one, which takes hundreds of times longer than this choice by rule.
        "cudnn_conv_algo_search": "HEURISTIC",
        # A stream of their own would let copies race with the kernels (ONNX Runtime issue 4829).
        "do_copy_in_default_stream": "1",
        # Few allocations, each of which stops the whole GPU; `Instance` has the surplus returned.
        "arena_extend_strategy": "kNextPowerOfTwo",
    }


def cuda_version(library: Callable[[], Path]) -> str:
    """The CUDA that is installed here for models, with or without a GPU: `13.0`.

    "" where ONNX Runtime or the custom-operator library is one without, or the latter is missing.
    """
    built = _built_for()
    try:
        without = built is None or _no_provider() or not _has_cuda(library())
    except (LibraryMissingError, OSError):
        return ""
    return "" if without or built is None else _dotted(built)


def cuda_libraries() -> list[str]:
    """The shared libraries that ONNX Runtime's CUDA provider cannot do without."""
    version = _built_for()
    if version is None:
        return []
    names = ["cudart", "cublasLt", "cublas"]
    return [f"lib{name}.so.{version[0]}" for name in names] + ["libcurand.so.10", "libcudnn.so.9"]


def _unsuitable(driver: Driver, index: int) -> str:
    if index >= len(driver.gpus):
        listed = "; ".join(f"{number}: {gpu}" for number, gpu in enumerate(driver.gpus))
        return f"there is no GPU {index}, the driver shows {len(driver.gpus)} ({listed})"
    gpu = driver.gpus[index]
    if gpu.compute_capability < _MIN_CAPABILITY:
        return (
            f"GPU {index} ({gpu.name}) has compute capability {_dotted(gpu.compute_capability)}, "
            f"at least {_dotted(_MIN_CAPABILITY)} is needed"
        )
    built = _built_for()
    if built is not None and driver.cuda_version[0] < built[0]:
        return (
            f"the driver runs CUDA {_dotted(driver.cuda_version)} and ONNX Runtime "
            f"{ort.__version__} is built for CUDA {_dotted(built)}: install a newer driver"
        )
    return ""


def _no_provider() -> str:
    if CUDA_PROVIDER in ort.get_available_providers():
        return ""
    return (
        f"ONNX Runtime {ort.__version__} here is one without CUDA: "
        "pip uninstall onnxruntime, then pip install onnxruntime-gpu"
    )


def _no_operators(library: Path, index: int) -> str:
    try:
        if not _has_cuda(library):
            return (
                f"the custom-operator library {library} was built without CUDA: "
                "build it where CUDA's compiler nvcc is, with VOXGATE_CUDA=ON"
            )
    except OSError as error:
        return f"the custom-operator library {library} cannot be loaded: {error}"
    count = int(getattr(ctypes.CDLL(os.fspath(library)), _DEVICE_COUNT)())
    if count <= index:
        return f"the CUDA runtime of {library} finds {count} GPUs: install a newer driver"
    return ""


def _has_cuda(library: Path) -> bool:
    function = getattr(ctypes.CDLL(os.fspath(library)), _HAS_CUDA, None)
    return function is not None and bool(function())


def _missing_libraries() -> str:
    """Load what the CUDA provider needs: those of pip's packages are on no search path."""
    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
            ort.preload_dlls()
    missing = []
    for name in cuda_libraries():
        try:
            ctypes.CDLL(name)
        except OSError as error:
            missing.append(f"{name} ({error})" if name not in str(error) else str(error))
    if not missing:
        return ""
    return f"a library of CUDA is missing: {'; '.join(missing)}. {_INSTALL_LIBRARIES}"


def _built_for() -> tuple[int, int] | None:
    """The CUDA that ONNX Runtime is built for."""
    version = str(getattr(build_and_package_info, "cuda_version", "") or "")
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else None


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
