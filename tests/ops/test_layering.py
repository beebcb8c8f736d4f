# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Who may know whom: native sources by their #include lines, packages by what importing them loads.

Imports between the Python packages are held to the same rules by import-linter (pyproject.toml).
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)
ONNXRUNTIME = re.compile(r"onnxruntime|^core/")
PYTHON = re.compile(r"^Python\.h|^pybind11|^nanobind|^numpy/")
TORCH = re.compile(r"^torch/|^ATen/|^c10/")

# Folder under ops/native → what its files must not include.
FORBIDDEN = {
    "rulebook": (ONNXRUNTIME, PYTHON, TORCH),
    "onnxruntime": (PYTHON, TORCH),
    "python": (ONNXRUNTIME, TORCH),
}


def native_sources(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in {".h", ".cc", ".cu", ".cuh"})


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_native_includes(repository: Path, folder: str) -> None:
    sources = native_sources(repository / "ops" / "native" / folder)
    assert sources
    wrong = [
        f"{path.relative_to(repository)} includes {header}"
        for path in sources
        for header in INCLUDE.findall(path.read_text())
        if any(pattern.search(header) for pattern in FORBIDDEN[folder])
    ]
    assert not wrong


def test_public_headers_include_no_private_ones(repository: Path) -> None:
    folder = repository / "ops/native/rulebook/include/rulebook"
    public = {f"rulebook/{path.name}" for path in folder.glob("*.h")}
    quoted = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
    wrong = [
        f"{path.name} includes {header}"
        for path in folder.glob("*.h")
        for header in quoted.findall(path.read_text())
        if header not in public
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("voxgate_ops", {"torch", "grpc", "voxgate_server", "voxgate_client", "voxgate_protos"}),
        ("voxgate_ops.session", {"torch", "grpc", "voxgate_server", "voxgate_client"}),
        ("voxgate_ops.metadata", {"torch", "grpc", "onnxruntime"}),
        ("voxgate_client", {"torch", "voxgate_ops", "voxgate_server"}),
        ("voxgate_client.cli", {"torch", "onnxruntime", "voxgate_ops", "voxgate_server"}),
        ("voxgate_server", {"torch", "voxgate_client"}),
        ("voxgate_server.commands", {"torch", "onnxscript", "voxgate_client"}),
        ("voxgate_server.app", {"torch", "onnxscript", "voxgate_client"}),
    ],
)
def test_importing_loads_only_what_it_may(module: str, unwanted: set[str]) -> None:
    program = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    assert module.partition(".")[0] in loaded
    assert not unwanted & set(loaded)


def test_every_source_names_its_licence(repository: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "*.py", "*.cc", "*.h", "*.cu", "*.cuh", "*.cmake", "*.proto", "*.sh"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("no git checkout")
    sources = [repository / name for name in listed.stdout.splitlines()]
    assert sources
    without = [
        str(path.relative_to(repository))
        for path in sources
        if path.is_file() and "SPDX-License-Identifier: Apache-2.0" not in path.read_text()[:300]
    ]
    assert not without
