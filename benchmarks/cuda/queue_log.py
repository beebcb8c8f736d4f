# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What host code queues, as the emulator logs it: blocks of each kernel, launches, read-backs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cuda.symbols import demangle

VARIABLE = "VOXGATE_EMULATED_QUEUE"  # the file that a program writes its log to


@dataclass(frozen=True, order=True)
class Block:
    """Shape of a kernel's blocks."""

    threads: int
    dynamic_bytes: int


@dataclass(frozen=True)
class Launch:
    """One launch, in the words of `tests/cuda_emulation/queue_log.h`."""

    block: Block
    address: int
    file: str


def parse(text: str) -> tuple[list[Launch], dict[str, int]]:
    """The launches, and how often everything else was asked for: copy, fill, sort, sum, wait."""
    launches: list[Launch] = []
    calls: dict[str, int] = {}
    for line in text.splitlines():
        word, *rest = line.split(" ", 4)
        if word == "launch":
            threads, dynamic, address, file = rest
            launches.append(Launch(Block(int(threads), int(dynamic)), int(address, 16), file))
        else:
            calls[word] = calls.get(word, 0) + 1
    return launches, calls


def read_build(build: Path) -> list[Launch]:
    """The launches of the native tests, which run every kernel, as ctest ran them last.

    Raises:
        FileNotFoundError: a test was not run, or not since it was built.
    """
    folder = build / "tests" / "ops" / "native" / "cuda"
    programs = [path for path in folder.glob("cuda_*_test") if os.access(path, os.X_OK)]
    if not programs:
        raise FileNotFoundError(f"{folder} has no tests of CUDA kernels: make test-native")
    launches: list[Launch] = []
    for program in sorted(programs):
        log = program.with_name(f"{program.name}.queue")
        if not log.exists() or log.stat().st_mtime < program.stat().st_mtime:
            raise FileNotFoundError(f"{program} was not run since it was built: make test-native")
        launches += parse(log.read_text(encoding="utf-8"))[0]
    return launches


def blocks_by_kernel(launches: Iterable[Launch]) -> dict[str, set[Block]]:
    """Blocks that each kernel was launched with, by its full C++ name."""
    by_file: dict[str, dict[int, set[Block]]] = {}
    for launch in launches:
        by_file.setdefault(launch.file, {}).setdefault(launch.address, set()).add(launch.block)
    found: dict[str, set[Block]] = {}
    for file, by_address in by_file.items():
        symbols = _symbols(file)
        for address, blocks in by_address.items():
            found.setdefault(symbols[address], set()).update(blocks)
    return found


def _symbols(file: str) -> dict[int, str]:
    """Full C++ name of each function in a program or library, by its address there."""
    listed = subprocess.run(["nm", file], capture_output=True, text=True, check=True)
    mangled: dict[int, str] = {}
    for line in listed.stdout.splitlines():
        words = line.split()
        if len(words) == 3 and words[1] in "tTwW":
            mangled[int(words[0], 16)] = words[2]
    names = demangle(mangled.values())
    return {address: names[symbol] for address, symbol in mangled.items()}
