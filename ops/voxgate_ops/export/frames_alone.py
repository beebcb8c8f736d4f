# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Holds an exported model to its promise that a frame's answer does not depend on its batch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnxruntime as ort

from voxgate_ops.errors import ExportError
from voxgate_ops.export.tracing import OutputPlan, Voxelizer
from voxgate_ops.export.verification import (
    TOLERANCES,
    Array,
    Sample,
    differing_share,
    largest,
    largest_gap,
    run_model,
)
from voxgate_ops.metadata import OutputMetadata, Precision


def check_frames_alone(
    session: ort.InferenceSession,
    sample: Sample,
    together: Mapping[str, Array],
    plan: OutputPlan,
    voxelizer: Voxelizer | None,
    precision: Precision,
) -> None:
    """Run each frame of the sample by itself and compare with what it gets in the batch.

    Rounding may differ, as in kernels of ONNX Runtime that choose by size; more than the
    precision's tolerance may not.

    Args:
        together: what the model gave for the whole sample.

    Raises:
        ExportError: an output differs by more, or in its number of rows.
    """
    if sample.batch_size < 2:
        return
    frames = sample.rows[:, 0] if voxelizer is None else sample.columns
    for frame in range(sample.batch_size):
        chosen = np.flatnonzero(frames == frame)
        if not chosen.size:
            continue
        single = _single_frame(sample, chosen, voxelizer)
        alone = run_model(session, single, plan, voxelizer, "a frame alone")
        for name, output in plan.outputs.items():
            in_batch = _of_frame(name, output, together, frame, chosen)
            by_itself = _of_frame(name, output, alone, 0, np.arange(len(chosen)))
            _check_equal(name, in_batch, by_itself, precision)


def _single_frame(sample: Sample, chosen: Array, voxelizer: Voxelizer | None) -> Sample:
    rows, columns = sample.rows[chosen].copy(), sample.columns[chosen].copy()
    if voxelizer is None:
        rows[:, 0] = 0
    else:
        columns[:] = 0
    return Sample(rows, columns, 1)


def _of_frame(
    name: str, output: OutputMetadata, outputs: Mapping[str, Array], frame: int, rows: Array
) -> Array:
    """What of an output belongs to a frame, without its number; `rows` are its input rows."""
    values = outputs[name]
    if output.meaning in ("per_site", "per_point"):
        values = values[rows]
    elif output.coords is not None:
        values = values[outputs[output.coords][:, 0] == frame]
        values = values[:, 1:] if name == output.coords else values
    elif output.frame is not None:
        values = values[outputs[output.frame] == frame]
        values = np.zeros_like(values) if name == output.frame else values
    else:
        values = values[frame : frame + 1]
    return values


def _check_equal(name: str, in_batch: Array, alone: Array, precision: Precision) -> None:
    tolerance = TOLERANCES[precision]
    if in_batch.shape != alone.shape:
        how = f"shape {list(alone.shape)} alone and {list(in_batch.shape)} in the batch"
    elif in_batch.dtype.kind == "f":
        gap = largest_gap(in_batch, alone) / largest(alone)
        if gap <= tolerance.relative:
            return
        how = f"values that differ by {gap:.3g} of the largest magnitude"
    else:
        share = differing_share(in_batch, alone) if alone.size else 0.0
        if share <= tolerance.flipped:
            return
        how = f"a share of {share:.3g} of values that differ"
    raise ExportError(
        f"output {name!r} of a frame depends on what shares its batch: {how}. A layer takes all "
        "rows for one frame's (a mean, softmax or sort over rows): let it look at each frame's "
        "rows, as SparseGlobalAvgPool does, or export with batchable=False (--no-batchable)"
    )
