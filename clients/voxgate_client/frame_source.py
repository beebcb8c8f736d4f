# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Point clouds, from files or simulated, as frames that fit a model's input."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxgate_client.messages import Frame, ModelDescription
from voxgate_client.point_cloud import PointCloud
from voxgate_client.readers import read_points
from voxgate_client.simulator import SweepSimulator
from voxgate_client.voxelize import voxelize

# Prepared frames kept for --loop, so that rounds after the first measure the server and not us.
_MAX_KEPT = 64


@dataclass(frozen=True)
class Source:
    """One cloud to be read or simulated, and what to call it."""

    name: str
    load: Callable[[], PointCloud]


def sources(
    files: Sequence[Path], columns: int | None, simulate: int, simulator: SweepSimulator
) -> list[Source]:
    """The files in the order given, then the simulated sweeps."""

    def read(path: Path) -> Callable[[], PointCloud]:
        return lambda: read_points(path, columns=columns)

    def sweep(number: int) -> Callable[[], PointCloud]:
        return lambda: simulator.sweep(number).cloud

    found = [Source(path.name, read(path)) for path in files]
    return found + [Source(f"sweep {number}", sweep(number)) for number in range(simulate)]


def prepare(cloud: PointCloud, model: ModelDescription, fill: float | None = None) -> Frame:
    """Makes the frame a model takes out of a cloud.

    A points model gets the columns it names; for a voxels model they are averaged per voxel of the
    grid in the model's metadata.

    Args:
        fill: value for a feature the cloud does not have; None makes that a ValueError.

    Raises:
        ValueError: a feature is missing, or a voxels model says no grid.
    """
    try:
        features = cloud.select(model.feature_names, fill)
    except KeyError as error:
        wanted = ", ".join(model.feature_names)
        raise ValueError(
            f"model {model.name} takes {wanted}: {error.args[0]}. --fill VALUE stands in for what "
            "is missing; voxgate export --feature-names names a model's features"
        ) from error
    if model.input_kind == "points":
        return Frame(points=features)
    if model.grid is None:
        raise ValueError(
            f"model {model.name} takes voxels and its metadata has no point_range and voxel_size "
            "to make them with: export it with --point-range and --voxel-size"
        )
    axes = len(model.grid.voxel_size)
    if model.feature_names[:axes] == cloud.fields[:axes]:
        coords, means, _ = voxelize(features, model.grid)
        return Frame(coords=coords, features=means)
    placed = np.concatenate([cloud.points[:, :axes], features], axis=1)
    coords, means, _ = voxelize(placed, model.grid)
    return Frame(coords=coords, features=np.ascontiguousarray(means[:, axes:]))


def prepared_frames(
    clouds: Sequence[Source], rounds: int, model: ModelDescription, fill: float | None
) -> Iterator[Frame]:
    """Every source's frame, the whole list `rounds` times.

    Raises as `read_points` and `prepare`.
    """
    kept: dict[int, Frame] = {}
    for _ in range(rounds):
        for index, source in enumerate(clouds):
            frame = kept.get(index)
            if frame is None:
                frame = prepare(source.load(), model, fill)
                if rounds > 1 and len(kept) < _MAX_KEPT:
                    kept[index] = frame
            yield frame
