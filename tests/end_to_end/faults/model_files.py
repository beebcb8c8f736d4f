# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""How an operator brings models into a served folder: renamed in, replaced, taken out."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

from tests.end_to_end.faults.picky_model import picky_model

# Short, so that two looks do not take long.
POLL_INTERVAL = 0.1
_numbers = itertools.count()


def staging(root: Path) -> Path:
    """A new folder on the same file system that the server does not look at."""
    folder = root / f".staging-{next(_numbers)}"
    folder.mkdir(parents=True)
    return folder


def rename_in(root: Path, name: str, version: int, *, scale: float) -> None:
    """Write a picky model elsewhere and rename its directory to NAME/VERSION."""
    folder = staging(root) / "model"
    picky_model(folder / "model.onnx", scale=scale)
    (root / name).mkdir(exist_ok=True)
    folder.rename(root / name / f"{version}")


def replace_file(root: Path, name: str, version: int, *, scale: float) -> None:
    """Write a picky model elsewhere and rename it over the version's model.onnx."""
    replacement = picky_model(staging(root) / "model.onnx", scale=scale)
    replacement.replace(root / name / f"{version}" / "model.onnx")


def take_out(root: Path, name: str, version: int) -> None:
    """Rename a version's directory out of the folder and delete it there."""
    folder = staging(root)
    (root / name / f"{version}").rename(folder / "model")
    shutil.rmtree(folder)
