# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Fixtures for all tests."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).resolve().parents[1]

# How long an example takes says how busy the machine is.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-gpu",
        action="store_true",
        help="fail the tests marked gpu, rather than skip them, where a GPU cannot be used",
    )


def find_data_dir() -> Path | None:
    """The folder of real scans: `$VOXGATE_DATA`, else `../shared/data` beside the checkout."""
    named = os.environ.get("VOXGATE_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real scans; the test is skipped where there is none."""
    folder = find_data_dir()
    if folder is None:
        pytest.skip("no real scans here: set VOXGATE_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def data_file(data_dir: Path) -> Callable[[str], Path]:
    """Path of one real scan by name; the test is skipped where it is missing."""

    def find(name: str) -> Path:
        path = data_dir / name
        if not path.is_file():
            pytest.skip(f"{name} is not in {data_dir}")
        return path

    return find


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session", autouse=True)
def _translations_are_parsed_once() -> Iterator[None]:
    """torch.onnx parses its 500 translations for every export, a third of a small export's time."""
    with pytest.MonkeyPatch.context() as patch:
        if "torch" in sys.modules:
            with suppress(ImportError, AttributeError):  # its internals, which may change
                from torch.onnx._internal._lazy_import import onnxscript_apis

                get = onnxscript_apis.__getattr__
                once = functools.cache(lambda: get("get_torchlib_ops")())  # noqa: PLW0108 - imported late
                patch.setitem(vars(onnxscript_apis), "get_torchlib_ops", once)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests go first: begun last, one would keep all but one process waiting."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
