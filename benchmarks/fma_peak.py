# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The machine's float32 multiply-add peak, measured by native/fma_peak.cc."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).parent / "native" / "fma_peak.cc"
_SECONDS = 0.1


class FmaPeak:
    """Compiles the program once and runs it on demand.

    Raises:
        RuntimeError: no C++ compiler was found (CXX, c++, g++, clang++), or it refused the source.
    """

    def __init__(self, build_directory: Path) -> None:
        compiler = next(
            (c for c in (os.environ.get("CXX"), "c++", "g++", "clang++") if c and shutil.which(c)),
            None,
        )
        if compiler is None:
            raise RuntimeError("no C++ compiler (CXX, c++, g++ or clang++) for the FMA peak")
        build_directory.mkdir(parents=True, exist_ok=True)
        self._program = build_directory / "fma_peak"
        options = ["-O2", "-std=c++17", "-pthread", "-ffp-contract=fast"]
        command = [compiler, *options, str(_SOURCE), "-o", str(self._program)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
        self.isa = ""

    def measure(self, threads: int) -> float:
        """GFLOP/s of `threads` threads together over a tenth of a second (2 FLOP an FMA lane)."""
        done = subprocess.run(
            [str(self._program), str(threads), str(_SECONDS)],
            capture_output=True,
            text=True,
            check=True,
        )
        answer = json.loads(done.stdout)
        self.isa = str(answer["isa"])
        return float(answer["gflops"])
