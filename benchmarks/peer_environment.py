# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The peer's own virtual environment, created once under the git-ignored build/ folder."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

# spconv's CPU wheel declares no torch; this is the one the project pins, so both sides share it.
REQUIREMENTS = ("spconv==2.3.8", "torch==2.13.0")
# The newest CUDA that spconv has a wheel for, and the torch whose own wheel is built for it.
CUDA = ("spconv-cu126==2.3.8", "torch==2.7.1")
_STAMP = "requirements.txt"


class PeerUnavailableError(RuntimeError):
    """The peer's environment could not be made; the message holds pip's last words."""


def peer_python(directory: Path, requirements: Sequence[str] = REQUIREMENTS) -> Path:
    """Path of an interpreter with the peer installed, creating the environment when needed.

    Raises:
        PeerUnavailableError: pip failed (no network, or no wheel for this Python).
    """
    python = directory / "bin" / "python"
    stamp = directory / _STAMP
    wanted = "\n".join(requirements)
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"benchmarks: installing {', '.join(requirements)} into {directory}", file=sys.stderr)
    venv.EnvBuilder(with_pip=True, clear=True).create(directory)
    done = subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        + list(requirements),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise PeerUnavailableError(f"pip could not install the peer: {done.stderr.strip()[-500:]}")
    stamp.write_text(wanted)
    return python
