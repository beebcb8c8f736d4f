# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The native sweep on every other instruction set: the choice is made once per process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from voxgate_ops import _native

SWEEP = Path(__file__).with_name("test_native_operators.py")


def run_with_isa(isa: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Runs Python with the instruction set forced and the same modules within reach."""
    environment = {
        **os.environ,
        "VOXGATE_CPU_ISA": isa,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    return subprocess.run(
        [sys.executable, *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_generic_is_always_supported() -> None:
    assert _native.supported_isas()[0] == "generic"


@pytest.mark.parametrize("isa", ["generic", "avx2", "avx512", "amx"])
def test_sweep(isa: str, repository: Path) -> None:
    if isa not in _native.supported_isas():
        pytest.skip(f"this processor has no {isa}")
    if isa == _native.current_isa():
        pytest.skip(f"test_native_operators.py runs on {isa} itself")
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", str(repository)]
    result = run_with_isa(isa, "-m", "pytest", *options, str(SWEEP))
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]


@pytest.mark.parametrize("isa", ["", "sse9"])
def test_unknown_isa(isa: str) -> None:
    """An empty value chooses as none does; an unknown one is refused at the first use."""
    script = "from voxgate_ops import _native; print(_native.current_isa())"
    result = run_with_isa(isa, "-c", script)
    if isa:
        assert result.returncode != 0
        assert "InvalidArgument" in result.stderr
        assert "sse9" in result.stderr
    else:
        assert result.stdout.split() == [_native.supported_isas()[-1]]
