# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Holds an exported model to eager torch on a sample."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import torch
from torch import nn

from voxgate_ops.errors import ExportError
from voxgate_ops.export.tracing import OutputPlan, Voxelizer, named_outputs
from voxgate_ops.nn import SparseConvTensor

Array = npt.NDArray[Any]

# Of the output's largest magnitude: sums in another order and folded weights differ by less.
RELATIVE_TOLERANCE = 1e-4
# Of the values of an integer output: two nearly equal scores may round to different winners.
_FLIPPED = 0.005
# Where rounding is amplified: how many times eager torch's own error is allowed, and at most what.
_ROUNDING_FACTOR = 4.0
_MOST_ROUNDING = 5e-3
_MOST_FLIPPED = 0.05
_TINY = 1e-30

_WINDOW = 12  # cells per axis that a generated frame fills, so that sites have neighbours
_SITES_PER_FRAME = 400
_POINTS_PER_FRAME = 1500


@dataclass(frozen=True)
class Sample:
    """One batch: `rows` and `columns` are coords and features, or points and point_batch."""

    rows: Array
    columns: Array
    batch_size: int

    def feeds(self, session: ort.InferenceSession, voxelizer: Voxelizer | None) -> dict[str, Array]:
        """What the session's inputs take."""
        names = ("coords", "features") if voxelizer is None else ("points", "point_batch")
        given = dict(zip(names, (self.rows, self.columns), strict=True))
        given["batch_size"] = np.array(self.batch_size, dtype=np.int64)
        return {value.name: given[value.name] for value in session.get_inputs()}

    def without_rows(self) -> Sample:
        """The same batch with nothing in it."""
        return Sample(self.rows[:0], self.columns[:0], self.batch_size)


def given_sample(
    sample: Mapping[str, Any], voxelizer: Voxelizer | None, axes: int, num_features: int
) -> Sample:
    """A caller's sample by input name, checked.

    Raises:
        ExportError: an input is missing or has another shape than the model takes.
    """
    names = ("coords", "features") if voxelizer is None else ("points", "point_batch")
    missing = [name for name in names if name not in sample]
    if missing:
        raise ExportError(f"sample lacks {', '.join(missing)}, expected {', '.join(names)}")
    types = (np.int32, np.float32) if voxelizer is None else (np.float32, np.int32)
    rows, columns = (
        np.ascontiguousarray(np.asarray(sample[name]), dtype=dtype)
        for name, dtype in zip(names, types, strict=True)
    )
    widths = (1 + axes, num_features) if voxelizer is None else (num_features, None)
    for name, array, width in zip(names, (rows, columns), widths, strict=True):
        expected = (len(rows),) if width is None else (len(rows), width)
        if array.shape != expected:
            raise ExportError(f"sample: {name} has shape {array.shape}, expected {expected}")
    batch = rows[:, 0] if voxelizer is None else columns
    fallback = int(batch.max(initial=0)) + 1
    return Sample(rows, columns, int(sample.get("batch_size", fallback)))


def generated_sample(
    spatial_shape: Sequence[int],
    voxelizer: Voxelizer | None,
    num_features: int,
    frames: int,
    seed: int,
) -> Sample:
    """A seeded batch of clustered sites, or points, in no particular order."""
    generator = np.random.default_rng(seed)
    if voxelizer is not None:
        return _points(voxelizer, num_features, frames, generator)
    parts = [_frame_sites(spatial_shape, frame, generator) for frame in range(frames)]
    coords = np.concatenate(parts).astype(np.int32)
    coords = coords[generator.permutation(len(coords))]
    features = generator.standard_normal((len(coords), num_features), dtype=np.float32)
    return Sample(coords, features, frames)


def _frame_sites(shape: Sequence[int], frame: int, generator: np.random.Generator) -> Array:
    window = [min(size, _WINDOW) for size in shape]
    cells = int(np.prod(window))
    count = max(1, min(_SITES_PER_FRAME, cells // 2))
    chosen = generator.choice(cells, size=count, replace=False)
    origin = [generator.integers(0, size - w + 1) for size, w in zip(shape, window, strict=True)]
    sites = np.stack(np.unravel_index(chosen, window), axis=1) + np.array(origin)
    return np.concatenate([np.full((count, 1), frame), sites], axis=1)


def _points(
    voxelizer: Voxelizer, num_features: int, frames: int, generator: np.random.Generator
) -> Sample:
    axes = len(voxelizer.voxel_size)
    low, high = np.array(voxelizer.point_range).reshape(2, axes)
    size = np.array(voxelizer.voxel_size)
    span = np.minimum(high - low, _WINDOW * size)
    count = frames * _POINTS_PER_FRAME
    points = generator.standard_normal((count, num_features), dtype=np.float32)
    start = low + (high - low - span) * generator.random(axes)
    points[:, :axes] = start + span * generator.random((count, axes))
    points[::97, 0] = high[0] + 1.0  # out of range
    return Sample(points, generator.integers(0, frames, count).astype(np.int32), frames)


class Reference:
    """Eager torch on one sample.

    The network gets its sites in canonical order, as in the exported model: what it returns may
    number rows.

    Raises:
        ExportError: the network fails on the sample; the cause is its own error.
    """

    def __init__(
        self,
        network: nn.Module,
        sample: Sample,
        spatial_shape: Sequence[int],
        voxelizer: Voxelizer | None,
        plan: OutputPlan,
    ) -> None:
        self._network = network
        self._sample = sample
        self._spatial_shape = list(spatial_shape)
        self._voxelizer = voxelizer
        self._plan = plan
        self._exact: dict[str, Array] | None = None
        self.outputs = self._run(network, torch.float32)

    def exact(self, name: str) -> Array:
        """The output computed in float64; the float32 one if the network only works in float32."""
        if self._exact is None:
            network = copy.deepcopy(self._network).to(torch.float64)
            try:
                self._exact = self._run(network, torch.float64)
            except ExportError:
                self._exact = self.outputs
        return self._exact[name]

    def _run(self, network: nn.Module, dtype: torch.dtype) -> dict[str, Array]:
        rows, columns = torch.from_numpy(self._sample.rows), torch.from_numpy(self._sample.columns)
        if self._voxelizer is None:
            order = _canonical_order(self._sample.rows)
            coords, features = rows[order], columns[order]
            back = np.argsort(order)
        else:
            coords, features, row_of_point = self._voxelizer(rows, columns)
            back = row_of_point.numpy()
        sites = SparseConvTensor(
            features.to(dtype), coords, self._spatial_shape, self._sample.batch_size
        )
        try:
            with torch.no_grad():
                found = named_outputs(network(sites))
        except ExportError:
            raise
        except Exception as error:  # the network's own code
            raise ExportError(
                f"the network fails in eager torch on the sample ({len(coords)} sites): {error}"
            ) from error
        return self._named_arrays(found, back)

    def _named_arrays(
        self, found: Mapping[str, SparseConvTensor | torch.Tensor], back: Array
    ) -> dict[str, Array]:
        outputs: dict[str, Array] = {}
        for name, value in found.items():
            if isinstance(value, SparseConvTensor):
                order = _canonical_order(value.indices.numpy())
                outputs[f"{name}_coords"] = value.indices.numpy()[order]
                outputs[f"{name}_features"] = value.features.numpy()[order]
            elif self._plan.outputs[name].meaning in ("per_site", "per_point"):
                outputs[name] = _in_input_order(value.numpy(), back)
            else:
                outputs[name] = value.numpy()
        return outputs


def _canonical_order(coords: Array) -> Array:
    return np.lexsort(coords.T[::-1])


def _in_input_order(array: Array, back: Array) -> Array:
    out = np.full((len(back), *array.shape[1:]), 0 if array.dtype.kind == "f" else -1)
    out = out.astype(array.dtype)
    out[back >= 0] = array[back[back >= 0]]
    return out


def compare(
    session: ort.InferenceSession,
    sample: Sample,
    reference: Reference,
    plan: OutputPlan,
    voxelizer: Voxelizer | None,
) -> dict[str, float]:
    """Run the model on the sample; the largest absolute difference of each output.

    A float output may differ by RELATIVE_TOLERANCE of its largest magnitude, and a few integers may
    flip. Where a network amplifies rounding errors more than that, eager torch's own difference
    from float64 says how much is rounding.

    Raises:
        ExportError: the model fails, or an output differs by more than its tolerance.
    """
    names = list(plan.outputs)
    try:
        found = session.run(names, sample.feeds(session, voxelizer))
    except Exception as error:  # ONNX Runtime's exceptions share no base but this
        raise ExportError(f"the exported model fails on the sample: {error}") from error
    return {
        name: _difference(name, actual, reference)
        for name, actual in zip(names, found, strict=True)
    }


def _difference(name: str, actual: Array, reference: Reference) -> float:
    expected = reference.outputs[name]
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        raise ExportError(
            f"output {name!r} disagrees with eager torch: {actual.dtype}{list(actual.shape)}, "
            f"expected {expected.dtype}{list(expected.shape)}"
        )
    if actual.size == 0:
        return 0.0
    worst = _largest_gap(actual, expected)
    if expected.dtype.kind == "f":
        largest = float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0))
        share, unit = worst / max(largest, _TINY), "of the largest magnitude"
        limit, cap, measure = RELATIVE_TOLERANCE, _MOST_ROUNDING, _largest_gap
        scale = max(largest, _TINY)
    else:
        share, unit = _differing_share(actual, expected), "of the values"
        limit, cap, measure, scale = _FLIPPED, _MOST_FLIPPED, _differing_share, 1.0
        if name.endswith("_coords"):
            limit = cap = 0.0
    # Not `share > limit`: a NaN where torch has none must not pass.
    if not share <= limit and share <= cap:
        rounding = measure(expected, reference.exact(name)) / scale
        limit = max(limit, min(cap, _ROUNDING_FACTOR * rounding))
    if not share <= limit:
        raise ExportError(
            f"output {name!r} disagrees with eager torch: largest absolute difference "
            f"{worst:.6g} ({share:.3g} {unit}, allowed {limit:.3g})"
        )
    return worst


def _largest_gap(a: Array, b: Array) -> float:
    """The largest absolute difference; infinite where only one of two values is finite."""
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite].astype(a.dtype), equal_nan=True):
        return float("inf")
    gap = np.abs(a[finite].astype(np.float64) - b[finite].astype(np.float64))
    return float(gap.max(initial=0.0))


def _differing_share(a: Array, b: Array) -> float:
    return float(np.count_nonzero(a != b)) / a.size if a.shape == b.shape else float("inf")


def accepts_no_rows(
    session: ort.InferenceSession, sample: Sample, voxelizer: Voxelizer | None
) -> str | None:
    """None when the model takes a batch without sites, else what ONNX Runtime says."""
    try:
        session.run(None, sample.without_rows().feeds(session, voxelizer))
    except Exception as error:  # ONNX Runtime's exceptions share no base but this
        return str(error)
    return None
