# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What `nvcc -Xptxas -v` says of kernels, as the build keeps it beside the objects."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.cuda.symbols import demangle

_ENTRY = re.compile(r"Compiling entry function '(\S+)' for '(sm_\w+)'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


@dataclass(frozen=True)
class KernelUse:
    """What one kernel needs on one architecture; bytes are per thread, shared ones per block."""

    source: str  # the .cu file's name
    name: str  # demangled, with its parameters
    architecture: str
    registers: int
    shared_bytes: int  # static
    stack_bytes: int
    spill_stores: int
    spill_loads: int


def parse(text: str, source: str) -> Iterator[KernelUse]:
    """The kernels that a compiler's output speaks of, names still mangled.

    Raises:
        ValueError: a kernel without figures: ptxas has changed its words.
    """
    entries = list(_ENTRY.finditer(text))
    for number, entry in enumerate(entries):
        end = entries[number + 1].start() if number + 1 < len(entries) else len(text)
        about = text[entry.end() : end]
        stack, used = _STACK.search(about), _USED.search(about)
        if stack is None or used is None:
            raise ValueError(f"{source}: no registers or spills are told of {entry[1]}")
        shared = _SHARED.search(about)
        yield KernelUse(
            source,
            entry[1],
            entry[2],
            int(used[1]),
            int(shared[1]) if shared else 0,
            *(int(number) for number in stack.groups()),
        )


def read_build(build: Path, target: str) -> list[KernelUse]:
    """The kernels of a CMake target, as it was compiled last.

    Raises:
        FileNotFoundError: there is no such target, or no record of its compilation.
    """
    uses: list[KernelUse] = []
    for source, output in _objects(build, target):
        uses += parse(_record(output).read_text(encoding="utf-8"), source.name)
    names = demangle(use.name for use in uses)
    return [replace(use, name=names[use.name]) for use in uses]


def is_current(build: Path, target: str) -> bool:
    """Whether the target was compiled from the sources as they are now."""
    ninja = _cached(build, "CMAKE_MAKE_PROGRAM")
    for _, output in _objects(build, target):
        if not _record(output).exists():
            return False
        listed = subprocess.run(
            [ninja, "-C", build, "-t", "deps", output.relative_to(build)],
            capture_output=True,
            text=True,
            check=False,
        )
        sources = [build / line.strip() for line in listed.stdout.splitlines() if line[:1] == " "]
        compiled = _record(output).stat().st_mtime
        if not sources or not all(
            source.exists() and source.stat().st_mtime <= compiled for source in sources
        ):
            return False
    return True


def nvcc_version(build: Path) -> str:
    """Release of the nvcc that the build folder uses, as in `13.0.88`."""
    compiler = _cached(build, "CMAKE_CUDA_COMPILER")
    told = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True)
    version = re.search(r"\bV(\d[\d.]*)", told.stdout)
    if version is None:
        raise ValueError(f"{compiler} --version says no version: {told.stdout}")
    return version[1]


def _objects(build: Path, target: str) -> list[tuple[Path, Path]]:
    """Source and object of each file of the target."""
    commands = json.loads((build / "compile_commands.json").read_text(encoding="utf-8"))
    found = [
        (Path(command["file"]), build / command["output"])
        for command in commands
        if f"/{target}.dir/" in command.get("output", "")
    ]
    if not found:
        raise FileNotFoundError(f"{build} has no target {target}: it was configured without CUDA")
    return found


def _record(output: Path) -> Path:
    return output.with_name(f"{output.name}.ptxas")


def _cached(build: Path, variable: str) -> str:
    cache = (build / "CMakeCache.txt").read_text(encoding="utf-8")
    value = re.search(rf"^{variable}:\w+=(.+)$", cache, re.MULTILINE)
    if value is None:
        raise FileNotFoundError(f"{build}/CMakeCache.txt has no {variable}")
    return value[1]
