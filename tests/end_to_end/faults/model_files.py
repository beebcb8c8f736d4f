# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""How an operator brings models into a served folder: renamed in, replaced, taken out."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

from tests.end_to_end.faults.picky_model import picky_model

# Short, so that two looks do not take long.
POLL_INTERVAL = 0.1
FILES = {"model": "model.onnx", "config": "config.yaml"}
_numbers = itertools.count()


def staging(root: Path) -> Path:
    """A new folder on the same file system that the server does not look at."""
    folder = root / f".staging-{next(_numbers)}"
    folder.mkdir(parents=True)
    return folder


def model_bytes(root: Path, *, scale: float) -> bytes:
    """A picky model's file."""
    return picky_model(staging(root) / FILES["model"], scale=scale).read_bytes()


def rename_in(root: Path, name: str, version: int, **files: bytes) -> None:
    """Write these FILES elsewhere and rename their directory to NAME/VERSION."""
    folder = staging(root)
    for kind, content in files.items():
        (folder / FILES[kind]).write_bytes(content)
    (root / name).mkdir(exist_ok=True)
    folder.rename(root / name / f"{version}")


def replace_file(root: Path, name: str, version: int, **files: bytes) -> None:
    """Write these FILES elsewhere and rename each over the version's own."""
    folder = staging(root)
    for kind, content in files.items():
        (folder / FILES[kind]).write_bytes(content)
        (folder / FILES[kind]).replace(root / name / f"{version}" / FILES[kind])


def take_out(root: Path, name: str, version: int) -> None:
    """Rename a version's directory out of the folder and delete it there."""
    folder = staging(root)
    (root / name / f"{version}").rename(folder / "model")
    shutil.rmtree(folder)
