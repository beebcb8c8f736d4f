# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Frames into one batch's arrays, and a batch's outputs back to its frames."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from voxgate_server.codec import Array, DecodedFrame, FrameSpec, OutputSpec
from voxgate_server.errors import InternalError

_CACHE_LINE = 64
_MIN_BYTES = 1 << 16
_MATRIX_RANK = 2


class HighWater:
    """Tells when what was once needed is worth giving back: much less has been for a long time."""

    def __init__(self, *, remembered: int = 256, slack: int = 4) -> None:
        self._remembered = remembered
        self._slack = slack
        self._uses = 0
        self._recent = 0
        self.most = 0

    def use(self, size: int) -> bool:
        """Note a use; True: the last `remembered` ones needed less than 1 / `slack` of `most`.

        `most` is then what those needed.
        """
        self._uses += 1
        self._recent = max(self._recent, size)
        self.most = max(self.most, size)
        if self._uses < self._remembered:
            return False
        sunk = self._slack * self._recent < self.most
        if sunk:
            self.most = self._recent
        self._uses = self._recent = 0
        return sunk


class _Buffer:
    """Bytes on a cache line, kept from batch to batch; they grow by doubling."""

    def __init__(self) -> None:
        self.bytes = _aligned(0)
        self._needed = HighWater()

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """An array of this shape, its content whatever was there; it ends the one before."""
        size = math.prod(shape) * dtype.itemsize
        sunk = self._needed.use(size)
        if size > len(self.bytes):
            self._resize(max(size, 2 * len(self.bytes), _MIN_BYTES))
        elif sunk and len(self.bytes) > _MIN_BYTES:
            self._resize(max(2 * self._needed.most, _MIN_BYTES))
        return self.bytes[:size].view(dtype).reshape(shape)

    def _resize(self, size: int) -> None:
        self.bytes = _aligned(0)  # the old ones go before the new ones come
        self.bytes = _aligned(size)


def _aligned(size: int) -> NDArray[np.uint8]:
    raw = np.empty(size + _CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % _CACHE_LINE
    return raw[start : start + size]


class BatchBuffers:
    """The arrays of one engine instance's batches, reused: a batch is over before the next."""

    def __init__(self) -> None:
        self._buffers: dict[str, _Buffer] = {}

    @property
    def nbytes(self) -> int:
        return sum(len(buffer.bytes) for buffer in tuple(self._buffers.values()))

    def take(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """The input `name` of the next batch, to be filled."""
        return self._buffers.setdefault(name, _Buffer()).take(shape, dtype)


def concatenate(
    frames: Sequence[DecodedFrame], spec: FrameSpec, buffers: BatchBuffers
) -> dict[str, Array]:
    """The graph's inputs for a batch of `frames`, in their order, their batch index rewritten.

    The arrays of a frame alone are given as they are; those of several are copied once, into
    `buffers`, and hold until the next call.

    Args:
        frames: one at least.
        spec: the model's.
        buffers: of the instance that is going to run the batch.
    """
    if len(frames) == 1:
        return dict(frames[0].inputs)
    ends = list(accumulate(frame.num_sites for frame in frames))
    batch: dict[str, Array] = {}
    for name, first in frames[0].inputs.items():
        rows = buffers.take(name, (ends[-1], *first.shape[1:]), first.dtype)
        batch[name] = np.concatenate([frame.inputs[name] for frame in frames], out=rows)
    index = batch["point_batch"] if spec.input_kind == "points" else batch["coords"][:, 0]
    for position, rows_of_frame in enumerate(_slices(ends)):
        index[rows_of_frame] = position
    return batch


def split(
    outputs: Mapping[str, Array], specs: Sequence[OutputSpec], site_counts: Sequence[int]
) -> list[dict[str, Array]]:
    """Each frame's part of a batch's outputs, by name: views wherever its rows lie together.

    Rows keep the graph's order. The batch axis of `per_frame` and `dense` outputs and the batch
    column of sites are gone. Rows of `detections` that name no frame of the batch are dropped.

    Args:
        outputs: of the run, by name.
        specs: the outputs to give; those that they name (`coords`, `frame`) are in `outputs` too.
        site_counts: of the batch's frames (points, where the model takes points).

    Raises:
        InternalError: outputs that are not what the model's metadata says.
    """
    parts: list[dict[str, Array]] = [{} for _ in site_counts]
    rows_of: dict[str, list[slice | NDArray[np.intp]]] = {}
    for spec in specs:
        array = outputs[spec.name]
        if spec.meaning in ("per_frame", "dense"):
            _check_rows(spec, array, len(site_counts), "frames")
            for frame, part in enumerate(parts):
                part[spec.name] = array[frame]
            continue
        key = spec.coords or spec.frame
        if key not in rows_of:
            rows_of[key] = _rows(outputs, spec, site_counts)
        if key:
            _check_rows(spec, array, len(outputs[key]), f"rows of {key!r}")
        else:
            _check_rows(spec, array, sum(site_counts), "sites")
        if spec.name == spec.coords:
            array = array[:, 1:]
        for part, rows in zip(parts, rows_of[key], strict=True):
            part[spec.name] = array[rows]
    return parts


def _rows(
    outputs: Mapping[str, Array], spec: OutputSpec, site_counts: Sequence[int]
) -> list[slice | NDArray[np.intp]]:
    """Which rows of an output like `spec` belong to each frame."""
    if spec.coords:
        coords = outputs[spec.coords]
        if coords.ndim != _MATRIX_RANK:
            raise InternalError(
                f"output {spec.coords!r} has the shape {coords.shape}, not [M, 1+D]"
            )
        frames = coords[:, 0]
        rows = _rows_by_frame(frames, len(site_counts))
        if sum(_length(part) for part in rows) != len(frames):
            raise InternalError(
                f"output {spec.coords!r}: sites of batch index {frames.min()} to {frames.max()} "
                f"in a batch of {len(site_counts)} frames"
            )
        return rows
    if spec.frame:
        frames = outputs[spec.frame]
        if frames.ndim != 1:
            raise InternalError(f"output {spec.frame!r} has the shape {frames.shape}, not [R]")
        return _rows_by_frame(frames, len(site_counts))
    return [*_slices(list(accumulate(site_counts)))]


def _rows_by_frame(frames: Array, count: int) -> list[slice | NDArray[np.intp]]:
    if bool((frames[1:] >= frames[:-1]).all()):
        first, *ends = np.searchsorted(frames, np.arange(count + 1, dtype=frames.dtype)).tolist()
        return [*_slices(ends, first)]
    return [np.flatnonzero(frames == frame) for frame in range(count)]


def _slices(ends: Sequence[int], start: int = 0) -> Iterator[slice]:
    """The rows of each frame, from where each one's end."""
    for end in ends:
        yield slice(start, end)
        start = end


def _length(rows: slice | NDArray[np.intp]) -> int:
    length: int = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
    return length


def _check_rows(spec: OutputSpec, array: Array, expected: int, unit: str) -> None:
    if array.shape[:1] != (expected,):
        raise InternalError(
            f"output {spec.name!r} ({spec.meaning}) has the shape {array.shape}, "
            f"the batch has {expected} {unit}"
        )
