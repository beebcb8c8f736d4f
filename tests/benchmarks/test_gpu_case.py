# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The GPU's benchmark, driven through on the CPU: what it asks for, and what it makes of it."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from benchmarks import cases, sites
from benchmarks.__main__ import measure
from benchmarks.context import ROOT, Context
from benchmarks.protocol import Worker

from voxgate_ops.device import cuda_obstacle
from voxgate_ops.session import operators_library


class StandInContext(Context):
    """The same stand-in on both sides."""

    def _worker(self) -> Worker:
        module = "tests.benchmarks.stand_in_gpu_worker"
        return Worker(sys.executable, module, ROOT, arguments=[str(self.models)])

    gpu_ours = gpu_peer = _worker


def test_it_compares_a_rulebook_layers_and_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="the network is exported here")
    precisions = ("fp32",)  # the others take longer on a CPU
    monkeypatch.setattr(cases.cuda, "LAYERS", ((1, 16), (4, 64)))
    monkeypatch.setattr(cases.cuda, "PRECISIONS", precisions)
    monkeypatch.setattr(cases.cuda, "AGREEMENT", {"fp32": 1e-6})
    context = StandInContext(1, [1], True, tmp_path)
    points = sites.simulated_points(columns=300)
    context.scan = sites.Scan("simulated street", *sites.voxelize(points), points)
    result = measure(context, "cuda")
    assert result.not_measured == []
    work = ["first rulebook"]
    work += [f"{c}->{c}, level {n}, {p}" for n, c in ((1, 16), (4, 64)) for p in precisions]
    work += [f"backbone, {precision}" for precision in precisions]
    assert [row.name for row in result.rows] == [
        f"{one}: {who}" for one in work for who in ("voxgate", "spconv")
    ]
    rates = [row.figures.get("TFLOP/s", 0.0) for row in result.rows]
    assert [rate > 0 for rate in rates] == ["->" in row.name for row in result.rows]
    assert all("ratio" in row.figures for row in result.rows[::2])
    assert [target.value for target in result.targets] == [0.0]


def test_without_a_gpu_it_says_so_and_ends_well() -> None:
    if cuda_obstacle(operators_library) is None:
        pytest.skip("this machine has a GPU")
    command = [sys.executable, "-m", "benchmarks", "--case", "cuda", "--check"]
    run = partial(subprocess.run, cwd=ROOT, capture_output=True, text=True, timeout=120)
    done = run(command, check=True)
    assert "cuda is left out: " in done.stdout
    assert "written to" not in done.stdout
