# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What a reader must know about the machine to judge a figure."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path


def _cpu_field(field: str) -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == field:
                return value.strip()
    return ""


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def load_average() -> float:
    """Mean number of runnable processes over the last minute."""
    return os.getloadavg()[0]


def describe() -> dict[str, str | int | float]:
    """Processor, cores, memory, system and the versions that matter."""
    flags = set(_cpu_field("flags").split())
    return {
        "processor": _cpu_field("model name") or platform.processor() or platform.machine(),
        "vector_sets": " ".join(f for f in ("avx2", "fma", "avx512f", "amx_bf16") if f in flags),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "onnxruntime": _version("onnxruntime-gpu") or _version("onnxruntime"),
        "numpy": _version("numpy"),
        "load_average": load_average(),
    }
