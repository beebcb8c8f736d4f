# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""On a GPU, ours against spconv's CUDA build: a rulebook, layers level by level, the backbone."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.cases.backbone import relative_error, sparse_output
from benchmarks.context import Context
from benchmarks.networks_geometry import DOWNSAMPLING
from benchmarks.operator_models import write_sparse_conv_model, write_submanifold_rulebook_model
from benchmarks.protocol import Worker
from benchmarks.result import CaseResult, Row, Target
from benchmarks.sites import SPATIAL_SHAPE
from benchmarks.timing import Sample, alternate, ratios

NAME = "cuda"
TITLE = "one sweep on a GPU, data in its memory: each run from idle to idle"
# (level, channels in and out)
LAYERS = ((1, 16), (2, 32), (3, 64), (4, 64), (4, 128))
PRECISIONS = ("fp32", "tf32", "fp16")
# Of the whole network, of the largest value: both sides have rounded a dozen times.
AGREEMENT = {"fp32": 1e-4, "tf32": 1e-2, "fp16": 2e-2}
_RUNS_OF_A_TURN = 20


@dataclass
class _Pair:
    """One line of the comparison: the same work on both sides."""

    name: str
    figures: dict[str, float | str]


def unavailable() -> str:
    """Why the case cannot run here; "" if it can."""
    from voxgate_ops.device import cuda_obstacle
    from voxgate_ops.session import operators_library

    obstacle = cuda_obstacle(operators_library)
    return obstacle.reason if obstacle else ""


def run(context: Context, result: CaseResult) -> None:
    """Both sides get the sites in canonical order, and take their turns on one GPU.

    A turn is the median of twenty runs in a row: a GPU's clock rises while it works.
    """
    scan = context.scan
    with context.gpu_peer() as peer, context.gpu_ours() as ours:
        result.conditions = {"GPU": peer.call("gpu"), "scan": scan.name, "sites": scan.num_sites}
        result.conditions |= peer.call("versions")
        pairs = [_rulebook(context, ours, peer)]
        pairs += _layers(context, ours, peer)
        pairs += _backbones(context, ours, peer)
        for pair in pairs:
            turns: dict[str, Callable[[], float]] = {
                "voxgate": partial(_turn, ours, pair.name, context),
                "spconv": partial(_turn, peer, pair.name, context),
            }
            samples = alternate(turns, runs=context.runs, settle=context.quiet)
            _report(result, pair, samples)
        for precision, limit in AGREEMENT.items():
            name = f"backbone, {precision}"
            difference = relative_error(
                sparse_output(ours.call("result", name=name)),
                peer.call("sparse_result", name=name),
            )
            result.targets.append(Target(f"{name}: largest relative difference", difference, limit))


def _turn(worker: Worker, name: str, context: Context) -> float:
    runs = 1 if context.quick else _RUNS_OF_A_TURN
    return statistics.median(float(worker.call("run", name=name)) for _ in range(runs))


def _report(result: CaseResult, pair: _Pair, samples: dict[str, Sample]) -> None:
    for who, sample in samples.items():
        figures = dict(pair.figures)
        if who == "voxgate":
            figures |= ratios(sample, samples["spconv"])
        flops = figures.pop("GFLOP", None)
        if isinstance(flops, float):
            figures["TFLOP/s"] = flops * 1e-3 / sample.median
        result.rows.append(Row(f"{pair.name}: {who}", 1, sample, figures))


def _rulebook(context: Context, ours: Worker, peer: Worker) -> _Pair:
    name = "first rulebook"
    coords = context.scan.coords
    path = context.models / "first_submanifold_rulebook.onnx"
    write_submanifold_rulebook_model(path, SPATIAL_SHAPE, [3, 3, 3])
    ours.call("prepare", name=name, path=str(path), inputs={"coords": coords})
    peer.call("prepare_rulebook", name=name, coords=coords, spatial_shape=SPATIAL_SHAPE)
    return _Pair(name, {})


def _layers(context: Context, ours: Worker, peer: Worker) -> list[_Pair]:
    pairs = []
    levels = _levels(context)
    for level, channels in LAYERS:
        coords, shape, neighbors = levels[level - 1]
        features = np.random.default_rng(0).standard_normal((len(coords), channels), np.float32)
        gflop = 2e-9 * int((neighbors >= 0).sum()) * channels * channels
        for precision in PRECISIONS:
            name = f"{channels}->{channels}, level {level}, {precision}"
            half = precision == "fp16"
            path = context.models / f"sparse_conv_{channels}{'_half' if half else ''}.onnx"
            weight = write_sparse_conv_model(path, len(neighbors), channels, half=half)
            inputs = {"x": features.astype(weight.dtype), "neighbors": neighbors}
            tf32 = precision == "tf32"
            ours.call("prepare", name=name, path=str(path), inputs=inputs, use_tf32=tf32)
            peer.call(
                "prepare_layer",
                name=name,
                precision=precision,
                coords=coords,
                spatial_shape=shape,
                weight=weight.astype(np.float32),
                features=features,
            )
            pairs.append(_Pair(name, {"sites": len(coords), "GFLOP": gflop}))
    return pairs


def _levels(context: Context) -> list[tuple[NDArray[np.int32], list[int], NDArray[np.int32]]]:
    """coords, grid and neighbors [27, N] of the network's levels 1 to 4, made on the CPU."""
    with context.ours(1) as worker:
        levels = worker.call(
            "levels",
            coords=context.scan.coords,
            spatial_shape=SPATIAL_SHAPE,
            downsampling=DOWNSAMPLING[:3],
        )
        return [
            (
                coords,
                shape,
                worker.call(
                    "submanifold_rulebook",
                    coords=coords,
                    spatial_shape=shape,
                    kernel_size=[3, 3, 3],
                ),
            )
            for coords, shape in levels
        ]


def _backbones(context: Context, ours: Worker, peer: Worker) -> list[_Pair]:
    inputs: dict[str, Any] = {"coords": context.scan.coords, "features": context.scan.features}
    pairs = []
    for precision in PRECISIONS:
        name = f"backbone, {precision}"
        path, weights = context.exported_backbone("fp16" if precision == "fp16" else "fp32")
        tf32 = precision == "tf32"
        ours.call("prepare", name=name, path=str(path), inputs=inputs, use_tf32=tf32)
        peer.call(
            "prepare_backbone",
            name=name,
            precision=precision,
            weights=weights,
            spatial_shape=SPATIAL_SHAPE,
            **inputs,
        )
        pairs.append(_Pair(name, {}))
    return pairs
