# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Time per site as the number of sites grows tenfold, and a kernel of volume 343."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.context import Context
from benchmarks.operator_models import (
    write_sparse_conv_model,
    write_submanifold_rulebook_model,
)
from benchmarks.protocol import Worker
from benchmarks.result import CaseResult, Row, Target
from benchmarks.sites import SPATIAL_SHAPE, tile_batch, tile_grid
from benchmarks.timing import Sample, alternate

NAME = "scaling"
TITLE = "time per site from 100 k to 1 M sites; a 7x7x7 kernel"
LIMIT = 1.1
_SMALL, _LARGE = 100_000, 1_000_000
_BACKBONE, _GRID = "backbone, frames of one batch", "rulebook 3x3x3, one frame, grid tiled along y"


def frame_counts(num_sites: int, quick: bool) -> tuple[int, int]:
    """Whole copies of a scan of `num_sites` sites: just under 100 k sites and just over 1 M.

    Whole copies keep the pairs per site equal, so the ratio shows the size's effect alone.
    """
    if quick:
        return 1, 2
    return max(1, _SMALL // num_sites), -(-_LARGE // num_sites)


def run(context: Context, result: CaseResult) -> None:
    """The copies are frames of one batch for the network, and one larger grid for the rulebook."""
    scan = context.scan
    counts = frame_counts(scan.num_sites, context.quick)
    result.conditions = {"scan": scan.name, "copies": list(counts), "tiled from": scan.num_sites}
    for threads in context.threads:
        with context.ours(threads) as ours:
            _measure_grid(context, ours, threads, counts, result)
            _measure_large_kernel(context, ours, threads, result)
        with context.ours(threads) as ours:
            path, _ = context.backbone
            for copies in counts:
                coords, features = tile_batch(scan, copies)
                inputs: dict[str, NDArray[np.generic]] = {"coords": coords, "features": features}
                ours.call("prepare_session", name=f"{copies}", path=str(path), inputs=inputs)
            samples = _alternate(context, ours, [f"{copies}" for copies in counts])
            _compare(result, _BACKBONE, threads, scan.num_sites, samples)


def _alternate(context: Context, ours: Worker, names: list[str]) -> dict[str, Sample]:
    turns = {name: partial(ours.call, "run", name=name) for name in names}
    return alternate(turns, runs=context.runs, settle=context.quiet)


def _measure_grid(
    context: Context, ours: Worker, threads: int, counts: tuple[int, int], result: CaseResult
) -> None:
    for copies in counts:
        coords, shape = tile_grid(context.scan, copies)
        path = context.models / f"submanifold_rulebook_{copies}.onnx"
        write_submanifold_rulebook_model(path, shape, [3, 3, 3])
        ours.call(
            "prepare_bound_session",
            name=f"{copies}",
            path=str(path),
            inputs={"coords": coords},
            output=np.zeros((27, len(coords)), np.int32),
        )
    samples = _alternate(context, ours, [f"{copies}" for copies in counts])
    _compare(result, _GRID, threads, context.scan.num_sites, samples)


def _compare(
    result: CaseResult, name: str, threads: int, sites_per_copy: int, samples: dict[str, Sample]
) -> None:
    per_site = []
    for copies, sample in samples.items():
        sites = int(copies) * sites_per_copy
        per_site.append(sample.median / sites * 1e9)
        figures: dict[str, float | str] = {"sites": sites, "ns per site": per_site[-1]}
        result.rows.append(Row(name, threads, sample, figures))
    label = f"{name}: time per site, large over small, {threads} thread(s)"
    result.targets.append(Target(label, per_site[-1] / per_site[0], LIMIT))


def _measure_large_kernel(context: Context, ours: Worker, threads: int, result: CaseResult) -> None:
    scan, kernel_size = context.scan, [7, 7, 7]
    sites = {"coords": scan.coords, "spatial_shape": SPATIAL_SHAPE, "kernel_size": kernel_size}
    path = context.models / "submanifold_rulebook_7x7x7.onnx"
    write_submanifold_rulebook_model(path, SPATIAL_SHAPE, kernel_size)
    ours.call(
        "prepare_session", name="rulebook 7x7x7", path=str(path), inputs={"coords": scan.coords}
    )
    neighbors = ours.call("submanifold_rulebook", **sites)
    path = context.models / "sparse_conv_7x7x7.onnx"
    write_sparse_conv_model(path, neighbors.shape[0], 16)
    features = np.random.default_rng(0).standard_normal((scan.num_sites, 16), np.float32)
    inputs = {"x": features, "neighbors": neighbors}
    name = "SparseConv 7x7x7, 16->16"
    ours.call("prepare_session", name=name, path=str(path), inputs=inputs)
    samples = _alternate(context, ours, ["rulebook 7x7x7", name])
    figures: dict[str, float | str] = {
        "sites": scan.num_sites,
        "pairs": int((neighbors >= 0).sum()),
    }
    for what, sample in samples.items():
        result.rows.append(Row(what, threads, sample, figures))
