# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""SparseConv alone, rulebook given and weights packed, as a fraction of the FMA peak."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.context import Context
from benchmarks.networks_geometry import DOWNSAMPLING
from benchmarks.operator_models import write_sparse_conv_model
from benchmarks.result import CaseResult, Row, Target
from benchmarks.sites import SPATIAL_SHAPE
from benchmarks.timing import Sample, alternate

NAME = "convolution"
TITLE = "SparseConv 3x3x3 submanifold, rulebook given, against the FMA peak"
# (level, channels in and out, least fraction of the peak; 0: for information)
LAYERS = ((1, 16, 0.0), (2, 32, 0.50), (3, 64, 0.70), (4, 64, 0.0), (4, 128, 0.0))
_PEAK = "FMA peak"
# A pause leaves the caches cold and the pool asleep. Inside a network the layer before has just
# written what this one reads, and the peak's program warms up too.
_WARM_RUNS = 2


def level_rulebooks(context: Context) -> list[NDArray[np.int32]]:
    """neighbors [27, N] of the network's levels 1 to 4."""
    with context.ours(1) as ours:
        levels = ours.call(
            "levels",
            coords=context.scan.coords,
            spatial_shape=SPATIAL_SHAPE,
            downsampling=DOWNSAMPLING[:3],
        )
        return [
            ours.call(
                "submanifold_rulebook", coords=coords, spatial_shape=shape, kernel_size=[3, 3, 3]
            )
            for coords, shape in levels
        ]


def run(context: Context, result: CaseResult) -> None:
    """FLOPs are 2 * pairs * Ci * Co; the peak takes its turn in every round, like a layer."""
    rulebooks = level_rulebooks(context)
    peak = context.fma_peak
    result.conditions = {"scan": context.scan.name}
    for threads in context.threads:
        with context.ours(threads) as ours:
            turns: dict[str, Callable[[], float]] = {_PEAK: partial(peak.measure, threads)}
            for level, channels, _ in LAYERS:
                name, neighbors = _layer_name(level, channels), rulebooks[level - 1]
                path = context.models / f"sparse_conv_{channels}.onnx"
                write_sparse_conv_model(path, neighbors.shape[0], channels)
                features = np.random.default_rng(0).standard_normal(
                    (neighbors.shape[1], channels), np.float32
                )
                inputs = {"x": features, "neighbors": neighbors}
                ours.call(
                    "prepare_bound_session",
                    name=name,
                    path=str(path),
                    inputs=inputs,
                    output=np.zeros_like(features),
                )
                turns[name] = partial(ours.call, "run", name=name, warm_runs=_WARM_RUNS)
            samples = alternate(turns, runs=context.runs, settle=context.quiet)
        _report(result, threads, samples, rulebooks)
        result.conditions["peak's instruction set"] = peak.isa


def _layer_name(level: int, channels: int) -> str:
    return f"{channels}->{channels}, level {level}"


def _report(
    result: CaseResult,
    threads: int,
    samples: dict[str, Sample],
    rulebooks: list[NDArray[np.int32]],
) -> None:
    peak = samples[_PEAK].median
    spread: dict[str, float | str] = {
        "GFLOP/s": peak,
        "GFLOP/s range": f"{samples[_PEAK].minimum:.0f}-{samples[_PEAK].maximum:.0f}",
    }
    result.rows.append(Row(_PEAK, threads, None, spread))
    for level, channels, limit in LAYERS:
        name, neighbors = _layer_name(level, channels), rulebooks[level - 1]
        pairs = int((neighbors >= 0).sum())
        rate = 2e-9 * pairs * channels * channels / samples[name].median
        figures: dict[str, float | str] = {
            "sites": neighbors.shape[1],
            "pairs": pairs,
            "GFLOP/s": rate,
            "of peak": rate / peak,
        }
        result.rows.append(Row(name, threads, samples[name], figures))
        if limit > 0:
            label = f"{name}, of the FMA peak, {threads} thread(s)"
            result.targets.append(Target(label, rate / peak, limit, at_least=True))
