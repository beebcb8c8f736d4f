# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The counts that the custom-operator library keeps, by the session's model."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from voxgate_ops.errors import LibraryMissingError
from voxgate_ops.operator_times import OperatorTime, operator_times
from voxgate_ops.session import LIBRARY_VARIABLE, operators_library

Array = NDArray[Any]
GRID = [12, 17, 19]


class Layer:
    """A submanifold layer over 200 sites, in sessions of any model's name."""

    def __init__(self, operators: Any, sites: Any) -> None:
        self.feeds = {"coords": sites.coords(200, GRID), "features": sites.floats(200, 8)}
        rulebook = operators.node(
            "SubmanifoldRulebook",
            ["coords"],
            ["neighbors"],
            spatial_shape=GRID,
            kernel_size=[3, 3, 3],
        )
        conv = operators.node("SparseConv", ["features", "neighbors", "weight"], ["y"])
        weight = {"weight": sites.floats(27, 8, 8)}
        self.model = operators.model([rulebook, conv], self.feeds, ["y"], weight)

    def session(self, name: str | None) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        if name is not None:
            options.add_session_config_entry("voxgate.model", name)
        options.register_custom_ops_library(os.fspath(operators_library()))
        return ort.InferenceSession(
            self.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )


@pytest.fixture
def layer(operators: Any, sites: Any) -> Layer:
    return Layer(operators, sites)


def rows_of(model: str) -> dict[str, OperatorTime]:
    return {row.operator: row for row in operator_times() if row.model == model}


def test_calls_and_seconds_by_model_and_operator(layer: Layer) -> None:
    first, second = layer.session("first"), layer.session("second")
    for _ in range(3):
        first.run(None, layer.feeds)
    second.run(None, layer.feeds)
    for model, calls in (("first", 3), ("second", 1)):
        rows = rows_of(model)
        assert set(rows) == {"SubmanifoldRulebook", "SparseConv"}
        for row in rows.values():
            assert (row.model, row.device, row.calls) == (model, "cpu", calls)
            assert 0 < row.seconds < 60


def test_operators_are_there_at_zero_before_the_first_run(layer: Layer) -> None:
    session = layer.session("fresh")
    assert {row[3:] for row in rows_of("fresh").values()} == {(0, 0.0)}
    session.run(None, layer.feeds)
    assert {row.calls for row in rows_of("fresh").values()} == {1}


def test_sessions_of_one_name_count_together_and_counts_outlive_them(layer: Layer) -> None:
    for expected in (1, 2):
        session = layer.session("again")
        session.run(None, layer.feeds)
        del session
        assert rows_of("again")["SparseConv"].calls == expected


def test_sessions_without_a_name_count_under_none(layer: Layer) -> None:
    before = rows_of("").get("SparseConv")
    layer.session(None).run(None, layer.feeds)
    layer.session("").run(None, layer.feeds)
    assert rows_of("")["SparseConv"].calls == (before.calls if before else 0) + 2


def test_failed_calls_count(layer: Layer) -> None:
    session = layer.session("failing")
    outside: dict[str, Array] = {
        "coords": np.array([[0, 99, 0, 0]], np.int32),
        "features": np.zeros((1, 8), np.float32),
    }
    with pytest.raises(Exception, match="99"):
        session.run(None, outside)
    rows = rows_of("failing")
    assert (rows["SubmanifoldRulebook"].calls, rows["SparseConv"].calls) == (1, 0)


def test_no_call_of_many_threads_is_lost(layer: Layer) -> None:
    session = layer.session("threads")
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(session.run, None, layer.feeds) for _ in range(80)]:
            done.result()
    assert {row.calls for row in rows_of("threads").values()} == {80}


@pytest.mark.parametrize("name", ["fünf Wörter", 'a"b\\c', "x" * 500])
def test_any_name(layer: Layer, name: str) -> None:
    layer.session(name).run(None, layer.feeds)
    assert rows_of(name)["SparseConv"].calls == 1


def test_a_library_without_counters_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "other.so"
    library.write_bytes(b"no library")
    monkeypatch.setenv(LIBRARY_VARIABLE, str(library))
    with pytest.raises(LibraryMissingError, match="other.so cannot tell its times"):
        operator_times()
