# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Holds an exported model to eager torch on a sample."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import torch
from torch import nn

from voxgate_ops.errors import ExportError
from voxgate_ops.export.row_sets import match_rows
from voxgate_ops.export.tracing import OutputPlan, Voxelizer, named_outputs
from voxgate_ops.metadata import Precision
from voxgate_ops.nn import SparseConvTensor

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Tolerance:
    """How far a model may be from eager torch.

    Attributes:
        relative: of a float output's largest magnitude.
        flipped: of an integer output's values, since two nearly equal scores may round to different
            winners; in 16 bits also of a float output's values, whose scores those may be, and of
            rows that values chose.
        most_relative, most_flipped: the same where the network amplifies rounding, which running it
            with other rounding shows.
    """

    relative: float
    flipped: float
    most_relative: float
    most_flipped: float


# fp32: sums in another order and folded weights differ by less. fp16 rounds to 2^-11 and bf16 to
# 2^-8 of a value, once for each layer; twelve layers were measured to add up to 0.001 and 0.014.
TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(1e-4, 0.005, 5e-3, 0.05),
    "fp16": Tolerance(2e-2, 0.02, 5e-2, 0.1),
    "bf16": Tolerance(5e-2, 0.05, 0.15, 0.2),
}
_ROUNDING_FACTOR = 4.0  # how many times the effect of other rounding is allowed
_TORCH_TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
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
        precision: Precision = "fp32",
    ) -> None:
        self.precision = precision
        self._network = network
        self._sample = sample
        self._spatial_shape = list(spatial_shape)
        self._voxelizer = voxelizer
        self._plan = plan
        self._rounded: dict[str, Array] | None = None
        self.outputs = self._run(network, torch.float32)

    def with_other_rounding(self, name: str) -> Array:
        """The output computed in float64 (as it is if the network only works in float32); for 16
        bits in float32, with weights and features rounded to them."""
        if self._rounded is None:
            network = copy.deepcopy(self._network)
            if self.precision != "fp32":
                low = _TORCH_TYPES[self.precision]
                self._rounded = self._run(network.to(low).float(), torch.float32, low)
                return self._rounded[name]
            try:
                self._rounded = self._run(network.to(torch.float64), torch.float64)
            except ExportError:
                self._rounded = self.outputs
        return self._rounded[name]

    def _run(
        self, network: nn.Module, dtype: torch.dtype, rounded_to: torch.dtype | None = None
    ) -> dict[str, Array]:
        rows, columns = torch.from_numpy(self._sample.rows), torch.from_numpy(self._sample.columns)
        if self._voxelizer is None:
            order = _canonical_order(self._sample.rows)
            coords, features = rows[order], columns[order]
            back = np.argsort(order)
        else:
            coords, features, row_of_point = self._voxelizer(rows, columns)
            back = row_of_point.numpy()
        if rounded_to is not None:
            features = features.to(rounded_to)
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


def run_model(
    session: ort.InferenceSession,
    sample: Sample,
    plan: OutputPlan,
    voxelizer: Voxelizer | None,
    what: str = "the sample",
) -> dict[str, Array]:
    """The model's outputs by name.

    Raises:
        ExportError: it fails; `what` is what the message says it fails on.
    """
    names = list(plan.outputs)
    try:
        found = session.run(names, sample.feeds(session, voxelizer))
    except Exception as error:  # ONNX Runtime's exceptions share no base but this
        raise ExportError(f"the exported model fails on {what}: {error}") from error
    return dict(zip(names, found, strict=True))


def compare(
    actual: Mapping[str, Array], reference: Reference, plan: OutputPlan
) -> dict[str, float]:
    """The largest absolute difference of each output that the model gave for the sample.

    What may differ says Tolerance. Where a network amplifies rounding errors more than that, its
    own difference under other rounding is the measure. In 16 bits the rows that values choose
    (sites of a threshold, detections) may be a few others: then the rows are compared as sets.

    Raises:
        ExportError: an output differs by more than its tolerance.
    """
    differences: dict[str, float] = {}
    for group in _row_groups(plan):
        if _may_choose_rows(group, actual, reference, plan):
            differences.update(_set_differences(group, actual, reference))
        else:
            differences.update({name: _difference(name, actual[name], reference) for name in group})
    return {name: differences[name] for name in plan.outputs}


def _row_groups(plan: OutputPlan) -> list[list[str]]:
    """Outputs with a row each for the same things; any other output is alone."""
    groups: dict[str, list[str]] = {}
    for name, output in plan.outputs.items():
        groups.setdefault(output.coords or output.frame or name, []).append(name)
    return list(groups.values())


def _may_choose_rows(
    group: Sequence[str], actual: Mapping[str, Array], reference: Reference, plan: OutputPlan
) -> bool:
    """Whether 16 bits may have led to other rows: detections, or sites that are not the same."""
    if reference.precision == "fp32":
        return False
    output = plan.outputs[group[0]]
    if output.coords is None:
        return output.frame is not None
    return not np.array_equal(actual[output.coords], reference.outputs[output.coords])


def _set_differences(
    group: Sequence[str], actual: Mapping[str, Array], reference: Reference
) -> dict[str, float]:
    tolerance = TOLERANCES[reference.precision]
    for name in group:
        _check_like(name, actual[name][:0], reference.outputs[name][:0])
    expected = [reference.outputs[name] for name in group]
    limits = [tolerance.relative * largest(array) for array in expected]
    match = match_rows([actual[name] for name in group], expected, limits)
    limit = tolerance.flipped
    if match.unmatched > limit:
        rounded = [reference.with_other_rounding(name) for name in group]
        share = match_rows(rounded, expected, limits).unmatched
        limit = max(limit, min(tolerance.most_flipped, _ROUNDING_FACTOR * share))
    if match.unmatched > limit:
        raise ExportError(
            f"outputs {', '.join(map(repr, group))} disagree with eager torch: a share of "
            f"{match.unmatched:.3g} of {len(actual[group[0]])} rows, expected {len(expected[0])}, "
            f"has no counterpart, allowed {limit:.3g}"
        )
    return dict(zip(group, match.gaps, strict=True))


def _check_like(name: str, actual: Array, expected: Array) -> None:
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        raise ExportError(
            f"output {name!r} disagrees with eager torch: {actual.dtype}{list(actual.shape)}, "
            f"expected {expected.dtype}{list(expected.shape)}"
        )


def _difference(name: str, actual: Array, reference: Reference) -> float:
    expected = reference.outputs[name]
    _check_like(name, actual, expected)
    if actual.size == 0:
        return 0.0
    tolerance = TOLERANCES[reference.precision]
    worst = largest_gap(actual, expected)
    if expected.dtype.kind == "f":
        scale = largest(expected)
        share, unit = worst / scale, "of the largest magnitude"
        limit, cap, measure = tolerance.relative, tolerance.most_relative, largest_gap
    else:
        share, unit = differing_share(actual, expected), "of the values"
        limit, cap, measure = tolerance.flipped, tolerance.most_flipped, differing_share
        scale = 1.0
        if name.endswith("_coords"):
            limit = cap = 0.0
    # Not `share > limit`: a NaN where torch has none must not pass.
    if not share <= limit and share <= cap:
        rounding = measure(expected, reference.with_other_rounding(name)) / scale
        limit = max(limit, min(cap, _ROUNDING_FACTOR * rounding))
    if share <= limit or _few_are_far(name, actual, reference):
        return worst
    raise ExportError(
        f"output {name!r} disagrees with eager torch: largest absolute difference "
        f"{worst:.6g} ({share:.3g} {unit}, allowed {limit:.3g})"
    )


def _few_are_far(name: str, actual: Array, reference: Reference) -> bool:
    """Whether a float output in 16 bits is within its tolerance but for a few values."""
    expected, tolerance = reference.outputs[name], TOLERANCES[reference.precision]
    if reference.precision == "fp32" or expected.dtype.kind != "f":
        return False
    gap = tolerance.relative * largest(expected)
    share = _far_share(actual, expected, gap)
    if tolerance.flipped < share <= tolerance.most_flipped:
        rounding = _far_share(reference.with_other_rounding(name), expected, gap)
        return share <= _ROUNDING_FACTOR * rounding
    return share <= tolerance.flipped


def _far_share(a: Array, b: Array, gap: float) -> float:
    """The share of values further apart; 1 where only one of two values is finite."""
    if not math.isfinite(largest_gap(a, b)):
        return 1.0
    finite = np.isfinite(b)
    return float(np.count_nonzero(np.abs(a[finite] - b[finite]) > gap)) / b.size


def largest(array: Array) -> float:
    """The largest finite magnitude, above 0."""
    if array.dtype.kind != "f":
        return 1.0
    return max(float(np.abs(array[np.isfinite(array)]).max(initial=0.0)), _TINY)


def largest_gap(a: Array, b: Array) -> float:
    """The largest absolute difference; infinite where only one of two values is finite."""
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite].astype(a.dtype), equal_nan=True):
        return float("inf")
    gap = np.abs(a[finite].astype(np.float64) - b[finite].astype(np.float64))
    return float(gap.max(initial=0.0))


def differing_share(a: Array, b: Array) -> float:
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
