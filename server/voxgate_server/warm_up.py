# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A model's first runs, on synthetic frames: a robot's shall find everything in place."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from voxgate_ops.errors import ModelError
from voxgate_ops.metadata import ModelMetadata, voxel_grid_shape
from voxgate_server.codec import DecodedFrame, FrameSpec, OutputSpec
from voxgate_server.errors import InternalError, InvalidFrame, RequestError
from voxgate_server.instance import Execution, Instance

_ODD = 989  # rows that fill no vector register and no tile
_FLATNESS = 8  # a scan is mostly ground: the block's first axis is that much thinner


log = logging.getLogger(__name__)


class WarmUp:
    """Runs frames of no, one, some and `sites` sites on instances of a model.

    Attributes:
        runs, seconds: how many runs there were, and what they took together.
    """

    def __init__(
        self,
        spec: FrameSpec,
        metadata: ModelMetadata,
        outputs: Sequence[OutputSpec],
        *,
        name: str,
        sites: int,
    ) -> None:
        self.runs = 0
        self.seconds = 0.0
        self._outputs = outputs
        self._name = name
        self._frames = [
            synthetic_frame(spec, metadata, min(count, sites)) for count in (0, 1, _ODD, sites)
        ]

    def run(self, instance: Instance) -> list[Execution | None]:
        """Each frame's answer alone; None: refused, which is logged.

        Raises:
            ModelError: a run failed, or the model took none of the frames.
        """
        answers = [self._try(instance, [frame]) for frame in self._frames]
        refusals = [answer for answer in answers if isinstance(answer, RequestError)]
        # What is refused for its size, or for want of memory, may be taken another day.
        if len(refusals) == len(answers) and isinstance(refusals[-1], InvalidFrame):
            raise ModelError(f"every frame of the warm-up was refused: {refusals[-1]}")
        return [None if isinstance(answer, RequestError) else answer[0] for answer in answers]

    def differing(self, instance: Instance, alone: Sequence[Execution | None]) -> list[str]:
        """The outputs that are other bits when the frames of `alone` share a batch.

        Raises:
            ModelError: the batch failed.
        """
        accepted = [
            (frame, answer)
            for frame, answer in zip(self._frames, alone, strict=True)
            if answer is not None
        ]
        if not accepted:
            return []
        # The largest comes first, so that every other one lies elsewhere in the batch's arrays.
        accepted.reverse()
        together = self._try(instance, [frame for frame, _ in accepted])
        if isinstance(together, RequestError):
            return []
        pairs = [
            (one.outputs, answer.outputs)
            for one, (_, answer) in zip(together, accepted, strict=True)
        ]
        return [
            spec.name
            for spec in self._outputs
            if any(a[spec.name].tobytes() != b[spec.name].tobytes() for a, b in pairs)
        ]

    def _try(
        self, instance: Instance, frames: Sequence[DecodedFrame]
    ) -> list[Execution] | RequestError:
        sites = " + ".join(str(frame.num_sites) for frame in frames)
        try:
            executions = instance.execute(frames, self._outputs, ort.RunOptions())
        except InternalError as error:
            raise ModelError(f"warm-up with {sites} sites: {error}") from error
        except RequestError as error:
            log.warning("%s: warm-up with %s sites: %s", self._name, sites, error)
            return error
        self.runs += 1
        self.seconds += executions[0].seconds
        return executions


def synthetic_frame(spec: FrameSpec, metadata: ModelMetadata, sites: int) -> DecodedFrame:
    """A frame of `sites` sites (points, where the model takes them), fewer if the grid is smaller.

    They fill a flat block in the middle of the grid, so that they have neighbours as a scan's
    sites have; features are even in [0, 1). The same arguments give the same frame.
    """
    random = np.random.default_rng(sites)
    if metadata.point_range is None or metadata.voxel_size is None or spec.input_kind != "points":
        block = _block(spec.spatial_shape, sites)
        coords = np.zeros((len(block), 1 + block.shape[1]), np.int32)
        coords[:, 1:] = block
        features = random.random((len(block), spec.num_features), np.float32)
        inputs = {"coords": coords, "features": features.astype(spec.features_dtype, copy=False)}
        return DecodedFrame(inputs, len(block), None)
    block = _block(voxel_grid_shape(metadata.point_range, metadata.voxel_size), sites)
    axes = block.shape[1]
    points = random.random((len(block), spec.num_features), np.float32)
    size = np.asarray(metadata.voxel_size)
    points[:, :axes] = np.asarray(metadata.point_range[:axes]) + (block[:, ::-1] + 0.5) * size
    inputs = {
        "points": points.astype(spec.features_dtype, copy=False),
        "point_batch": np.zeros(len(points), np.int32),
    }
    return DecodedFrame(inputs, len(points), None)


def _block(grid: list[int] | tuple[int, ...], count: int) -> NDArray[np.int64]:
    count = min(count, math.prod(grid))
    sides = [1] * len(grid)
    while math.prod(sides) < count:
        growing = [axis for axis, size in enumerate(grid) if sides[axis] < size]
        weights = {axis: sides[axis] * (_FLATNESS if axis == 0 else 1) for axis in growing}
        axis = min(growing, key=lambda one: weights[one])
        sides[axis] = min(2 * sides[axis], grid[axis])
    cells: NDArray[np.int64] = np.stack(np.unravel_index(np.arange(count), sides), axis=1)
    return cells + (np.asarray(grid, np.int64) - np.asarray(sides, np.int64)) // 2
