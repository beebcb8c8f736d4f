# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""VoxelBackBone8x, rulebooks included, ours against the peer's; and whether the two agree."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.context import Context
from benchmarks.protocol import Worker, WorkerError
from benchmarks.result import CaseResult, Row, Target
from benchmarks.sites import SPATIAL_SHAPE
from benchmarks.timing import alternate, ratios

NAME = "backbone"
TITLE = "VoxelBackBone8x with BatchNorm and ReLU, float32, rulebooks included"
LIMIT = 1 / 4
AGREEMENT = 1e-4
_UNSORTED = "voxgate, sites unsorted"


def relative_error(
    ours: tuple[NDArray[np.int32], NDArray[np.float32]],
    theirs: tuple[NDArray[np.int32], NDArray[np.float32]],
) -> float:
    """Largest |difference| over the largest |value| of theirs, site by site.

    Raises:
        ValueError: the two have different sites.
    """
    order = [np.lexsort(coords.T[::-1]) for coords, _ in (ours, theirs)]
    if not np.array_equal(ours[0][order[0]], theirs[0][order[1]]):
        raise ValueError(f"the output sites differ: {len(ours[0])} ours, {len(theirs[0])} theirs")
    difference = np.abs(ours[1][order[0]] - theirs[1][order[1]]).max()
    return float(difference / np.abs(theirs[1]).max())


def sparse_output(
    outputs: dict[str, NDArray[np.generic]],
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The one sparse output of a model, by its names' endings."""
    coords = next(value for name, value in outputs.items() if name.endswith("coords"))
    features = next(value for name, value in outputs.items() if name.endswith("features"))
    return coords.astype(np.int32), features.astype(np.float32)


def run(context: Context, result: CaseResult) -> None:
    """Sites in canonical order for both; a third row gives ours them shuffled, so it must sort."""
    scan = context.scan
    result.conditions = {"scan": scan.name, "sites": scan.num_sites, "grid": SPATIAL_SHAPE}
    for threads in context.threads:
        with context.peer(threads) as peer, context.ours(threads) as ours:
            participants = {"spconv": peer}
            weights = None
            try:
                weights = _prepare_ours(context, ours)
                participants = {"voxgate": ours, _UNSORTED: ours, "spconv": peer}
            except WorkerError as error:
                result.not_measured.append(f"voxgate, {threads} thread(s): {error}")
            peer.call(
                "prepare_backbone",
                name="spconv",
                weights=weights,
                coords=scan.coords,
                features=scan.features,
                spatial_shape=SPATIAL_SHAPE,
            )
            samples = alternate(
                {who: partial(w.call, "run", name=who) for who, w in participants.items()},
                runs=context.runs,
                settle=context.quiet,
            )
            for who, sample in samples.items():
                figures = ratios(sample, samples["spconv"])
                result.rows.append(Row(who, threads, sample, figures))
                if who == "voxgate":
                    label = f"of spconv's time, {threads} thread(s)"
                    result.targets.append(Target(label, float(figures["ratio"]), LIMIT))
            if weights is not None and threads == 1:  # more threads race in spconv's scatter
                difference = relative_error(
                    sparse_output(ours.call("result", name="voxgate")),
                    peer.call("sparse_result", name="spconv"),
                )
                result.targets.append(Target("largest relative difference", difference, AGREEMENT))


def _prepare_ours(context: Context, ours: Worker) -> dict[str, NDArray[np.generic]]:
    path, weights = context.backbone
    coords, features = context.scan.coords, context.scan.features
    shuffled = np.random.default_rng(0).permutation(len(coords))
    for name, order in (("voxgate", slice(None)), (_UNSORTED, shuffled)):
        inputs = {
            "coords": np.ascontiguousarray(coords[order]),
            "features": np.ascontiguousarray(features[order]),
        }
        ours.call("prepare_session", name=name, path=str(path), inputs=inputs)
    return weights
