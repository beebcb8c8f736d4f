# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The harness itself, on simulated sites and without the peer."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks import cases, quiet, sites
from benchmarks.__main__ import measure
from benchmarks.cases.backbone import relative_error
from benchmarks.cases.scaling import frame_counts
from benchmarks.context import ROOT, Context
from benchmarks.fma_peak import FmaPeak
from benchmarks.peer_environment import PeerUnavailableError
from benchmarks.protocol import Worker, WorkerError
from benchmarks.report import print_case, write_json
from benchmarks.result import CaseResult, Row, Target
from benchmarks.timing import Sample, alternate
from rich.console import Console


def our_worker() -> Worker:
    return Worker(sys.executable, "benchmarks.our_worker", ROOT)


@pytest.fixture(scope="module")
def street() -> sites.Scan:
    points = sites.simulated_points(columns=300)
    return sites.Scan("simulated street", *sites.voxelize(points), points)


class OfflineContext(Context):
    """No peer environment can be made here."""

    def peer(self, threads: int) -> Worker:
        raise PeerUnavailableError("pip could not install the peer: no network")


class StandInContext(Context):
    """Our own library stands in for the peer."""

    def peer(self, threads: int) -> Worker:
        return Worker(sys.executable, "tests.benchmarks.stand_in_worker", ROOT)


def test_alternate_runs_one_by_one_and_drops_the_warmup() -> None:
    calls: list[str] = []

    def participant(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    turns = {"a": lambda: participant("a"), "b": lambda: participant("b")}
    samples = alternate(turns, runs=3, warmup=1, settle=lambda: calls.append("settle"))
    assert calls == ["settle", "a", "settle", "b"] * 4
    assert samples["a"].values == (6.0, 10.0, 14.0)
    assert samples["b"].values == (8.0, 12.0, 16.0)


def test_alternate_refuses_zero_runs() -> None:
    with pytest.raises(ValueError, match="runs: expected at least 1, got 0"):
        alternate({}, runs=0, settle=lambda: None)


def test_quiet_gives_up_when_its_patience_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr(quiet, "_cpu_times", lambda: (0.0, float(next(ticks))))  # never idle
    wait = quiet.Quiet(patience=0.1)
    wait()
    wait()
    assert (wait.runs, wait.busy_runs) == (2, 2)


def test_quiet_returns_at_once_on_an_idle_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1000))

    def idle_times() -> tuple[float, float]:
        now = float(next(ticks))
        return now, now

    monkeypatch.setattr(quiet, "_cpu_times", idle_times)
    wait = quiet.Quiet(patience=60)
    wait()
    assert (wait.runs, wait.busy_runs) == (1, 0)


def test_sample_summary() -> None:
    summary = Sample((0.004, 0.001, 0.002)).as_json(scale=1e3)
    assert summary == {"median": 2.0, "min": 1.0, "max": 4.0, "runs": 3}


def test_a_failing_call_costs_the_call_and_not_the_worker() -> None:
    with our_worker() as worker:
        with pytest.raises(WorkerError, match="KeyError: 'nothing'"):
            worker.call("run", name="nothing")
        assert worker.call("peak_bytes") > 1 << 20


def test_a_dead_worker_is_an_error_with_its_name() -> None:
    with (
        Worker(sys.executable, "benchmarks.no_such_worker", ROOT) as worker,
        pytest.raises(WorkerError, match="no_such_worker"),
    ):
        worker.call("run", name="anything")


def test_voxelized_street_is_canonical_and_inside_the_grid(street: sites.Scan) -> None:
    assert 1000 < street.num_sites <= len(street.points)
    assert (np.lexsort(street.coords.T[::-1]) == np.arange(street.num_sites)).all()
    assert (street.coords[:, 1:] >= 0).all()
    assert (street.coords[:, 1:] < sites.SPATIAL_SHAPE).all()


def test_kitti_sweep_has_the_sites_that_the_targets_speak_of() -> None:
    path = sites.data_directory(ROOT) / sites.KITTI_SCAN
    if not path.exists():
        pytest.skip(f"{path} is not here")
    assert sites.load_scan(ROOT).num_sites == 41_264


def test_tiles_hold_whole_copies_in_canonical_order(street: sites.Scan) -> None:
    batch, features = sites.tile_batch(street, 3)
    assert len(batch) == len(features) == 3 * street.num_sites
    grid, shape = sites.tile_grid(street, 3)
    assert shape == [41, 4800, 1408]
    for coords in (batch, grid):
        assert (np.lexsort(coords.T[::-1]) == np.arange(len(coords))).all()
        assert len(np.unique(coords, axis=0)) == 3 * street.num_sites


def test_frame_counts_lie_below_100_k_and_above_1_m_sites() -> None:
    small, large = frame_counts(41_264, quick=False)
    assert small * 41_264 <= 100_000
    assert 1_000_000 <= large * 41_264 < 1_000_000 + 41_264


def test_relative_error_compares_site_by_site() -> None:
    coords = np.array([[0, 0, 0, 1], [0, 0, 0, 2]], np.int32)
    features = np.array([[1.0], [4.0]], np.float32)
    assert relative_error((coords, features), (coords[::-1], features[::-1])) == 0
    assert relative_error((coords, features + 1), (coords, features)) == 0.25
    with pytest.raises(ValueError, match="sites differ"):
        relative_error((coords[:1], features[:1]), (coords, features))


def test_targets_know_their_side() -> None:
    assert Target("ratio", 0.25, 0.25).met
    assert not Target("ratio", 0.26, 0.25).met
    assert Target("fraction", 0.7, 0.7, at_least=True).met
    assert not Target("fraction", 0.69, 0.7, at_least=True).met


def test_fma_peak_grows_with_the_vector_set(tmp_path: Path) -> None:
    peak = FmaPeak(tmp_path)
    assert peak.measure(1) > 0.5
    assert peak.isa in {"avx512", "avx2", "portable"}


def test_report_says_what_was_missed_and_what_was_not_measured(tmp_path: Path) -> None:
    result = CaseResult("rulebook", "a title", {"sites": 19})
    result.rows.append(Row("voxgate", 1, Sample((0.002, 0.001, 0.003)), {"ratio": 0.5}))
    result.targets.append(Target("of spconv's time", 0.5, 0.125))
    result.not_measured.append("spconv, 2 threads: no network")
    result.doubts.append("the machine was busy")
    console = Console(record=True, width=120)
    print_case(console, result)
    text = console.export_text()
    for part in (
        "a title",
        "sites 19",
        "2.00",
        "MISSED",
        "not measured spconv, 2 threads",
        "do not quote",
    ):
        assert part in text
    path = tmp_path / "new folder" / "result.json"
    write_json(path, {"cores": 2}, {"runs": 3}, [result])
    case = json.loads(path.read_text())["cases"][0]
    assert case["rows"][0]["milliseconds"]["median"] == pytest.approx(2.0)
    assert case["targets"][0]["met"] is False


@pytest.mark.parametrize("name", ["rulebook", "backbone"])
def test_a_case_without_its_peer_is_reported_by_name(
    name: str, street: sites.Scan, tmp_path: Path
) -> None:
    context = OfflineContext(1, [1], True, tmp_path)
    context.scan = street
    result = measure(context, name)
    assert not result.targets
    assert len(result.not_measured) == 1
    assert name in result.not_measured[0]
    assert "no network" in result.not_measured[0]


def test_a_case_runs_on_simulated_sites(street: sites.Scan, tmp_path: Path) -> None:
    context = StandInContext(2, [1], True, tmp_path)
    context.scan = street
    result = measure(context, "rulebook")
    assert result.not_measured == []
    assert [row.name for row in result.rows] == ["voxgate", "spconv"]
    assert result.conditions["pairs"] >= street.num_sites
    assert set(cases.ALL) >= {result.name}
