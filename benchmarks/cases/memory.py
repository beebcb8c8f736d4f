# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Peak resident memory of the backbone, each side in a fresh process."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.context import Context
from benchmarks.protocol import Worker
from benchmarks.result import CaseResult, Row, Target
from benchmarks.sites import SPATIAL_SHAPE

NAME = "memory"
TITLE = "peak resident memory of VoxelBackBone8x, fresh processes, 1 thread"
_RUNS = 3


def run(context: Context, result: CaseResult) -> None:
    """`growth` is counted from after the imports: libraries' code is not the network's memory."""
    scan = context.scan
    result.conditions = {"scan": scan.name, "sites": scan.num_sites, "runs": _RUNS}
    path, weights = context.backbone
    sites = {"coords": scan.coords, "features": scan.features}
    with context.ours(1) as ours:
        ours.call("versions")  # imports ONNX Runtime and the library
        session = {"name": NAME, "path": str(path), "inputs": sites}
        our_peak, our_growth = _peak_and_growth(ours, "prepare_session", session)
    with context.peer(1) as peer:
        network = {"name": NAME, "weights": weights, "spatial_shape": SPATIAL_SHAPE, **sites}
        peer_peak, peer_growth = _peak_and_growth(peer, "prepare_backbone", network)
    rows = {"voxgate": (our_peak, our_growth), "spconv": (peer_peak, peer_growth)}
    for who, (peak, growth) in rows.items():
        figures: dict[str, float | str] = {"peak MiB": peak / 2**20, "growth MiB": growth / 2**20}
        result.rows.append(Row(who, 1, None, figures))
    result.targets.append(Target("peak, of spconv's", our_peak / peer_peak, 1.0))
    result.targets.append(Target("growth, of spconv's", our_growth / peer_growth, 1.0))


def _peak_and_growth(
    worker: Worker, prepare: str, arguments: Mapping[str, object]
) -> tuple[int, int]:
    before = worker.call("peak_bytes")
    worker.call(prepare, **arguments)
    for _ in range(_RUNS):
        worker.call("run", name=NAME)
    peak = worker.call("peak_bytes")
    return peak, max(peak - before, 1)
