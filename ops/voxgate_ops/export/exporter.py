# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""`export_onnx`: a torch network becomes one ONNX file that needs nothing beside it."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import onnxruntime as ort
import torch
from onnx_ir.passes import common
from torch import nn

import voxgate_ops
from voxgate_ops import schemas
from voxgate_ops.errors import ExportError, ModelError
from voxgate_ops.export import fusion, tracing, translation, verification
from voxgate_ops.export.frames_alone import check_frames_alone
from voxgate_ops.export.precision import lower
from voxgate_ops.export.tracing import OutputPlan, OutputSpec, Voxelizer
from voxgate_ops.metadata import (
    PRECISIONS,
    InputKind,
    ModelMetadata,
    Precision,
    check_voxel_grid,
    write_metadata,
)
from voxgate_ops.session import open_session

_AXES = {1: ["x"], 2: ["y", "x"], 3: ["z", "y", "x"], 4: ["t", "z", "y", "x"]}
_FRAMES = 2

Progress = Callable[[str], None]
STEPS = (
    "tracing the network",
    "translating to ONNX",
    "fusing and sharing",
    "checking",
    "comparing with eager torch",
)


@dataclass(frozen=True)
class ExportReport:
    """What was written: `differences` is each output's largest one from eager torch."""

    path: Path
    metadata: ModelMetadata
    differences: dict[str, float]


def export_onnx(
    module: nn.Module,
    path: str | os.PathLike[str],
    *,
    spatial_shape: Sequence[int],
    num_features: int,
    voxelizer: Voxelizer | None = None,
    outputs: OutputSpec | None = None,
    precision: Precision = "fp32",
    sample: Mapping[str, Any] | None = None,
    feature_names: Sequence[str] | None = None,
    feature_units: Sequence[str] = (),
    point_range: Sequence[float] | None = None,
    voxel_size: Sequence[float] | None = None,
    axes: Sequence[str] | None = None,
    class_names: Sequence[str] = (),
    class_colors: Sequence[str] = (),
    batchable: bool = True,
    allow_nonfinite: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> ExportReport:
    """Write `module` as an ONNX model of `voxgate` operators, after checking it against `module`.

    The graph's inputs are `coords` int32 [N, 1+D] in any row order, `features` float32 [N, C] and,
    only where the network needs it, `batch_size`, an int64 scalar. With a `voxelizer`, `points`
    float32 [P, F] and `point_batch` int32 [P] take the place of coords and features.

    Outputs are named after the keys of the dict that `module` returns, or `out`. A sparse output x
    becomes `x_coords` and `x_features` in canonical order. A plain tensor (float32, int32 or int64)
    with one row per input site is returned in the input's row order; with a voxelizer it is
    returned per point, and a point in no voxel gets 0, or -1 for integers.

    Args:
        module: takes a `voxgate_ops.nn.SparseConvTensor` and returns one, a tensor, or a dict of
            either. It is not changed; it is exported as it is in eval mode.
        path: the file to write; folders are made, an existing file is replaced at once or not at
            all.
        spatial_shape: size of the dense grid per axis, in the order of the coords' columns.
        num_features: columns of `features`, or of `points`.
        voxelizer: puts the voxelization of points into the model.
        outputs: what the rows of a plain tensor stand for, where that is not one per input site or
            one per frame: a meaning, or OutputMetadata for detections.
        precision: what features and weights are inside the graph; its inputs and outputs are
            float32 in any case. `fp16` is float16, `bf16` bfloat16 in the operators of voxgate.
        sample: inputs by name to compare on; a seeded one of clustered sites is made otherwise.
        feature_names, feature_units, point_range, voxel_size, axes, class_names, class_colors,
            batchable, allow_nonfinite: stored in the model's metadata, see ModelMetadata.
            With a voxelizer `point_range` and `voxel_size` are its own.
        seed: of the sample that is made.
        progress: called with the name of each step, one of STEPS, as it starts.

    Raises:
        ExportError: the network cannot be traced or expressed in ONNX, or the model disagrees with
            eager torch on the sample (the message has the output and the largest difference), or a
            frame's answer depends on its batch, or an argument is wrong. No file is written then.
        LibraryMissingError: the operators' library, needed for the comparison, is missing.
    """
    step = progress or (lambda _: None)
    path = Path(path)
    _check_place(path)
    _check_arguments(spatial_shape, num_features, precision)
    if voxelizer is not None:
        _check_same("point_range", point_range, voxelizer.point_range)
        _check_same("voxel_size", voxel_size, voxelizer.voxel_size)
        point_range, voxel_size = voxelizer.point_range, voxelizer.voxel_size
        _check_voxelizer(voxelizer, spatial_shape, num_features)
    _check_voxel_grid(point_range, voxel_size, spatial_shape)
    plan = OutputPlan(given=dict(outputs or {}))
    frames = _FRAMES if batchable else 1
    made = verification.generated_sample(spatial_shape, voxelizer, num_features, frames, seed)
    checked = made
    if sample is not None:
        checked = verification.given_sample(sample, voxelizer, len(spatial_shape), num_features)

    step(STEPS[0])
    eager = tracing.eager_copy(module)
    entry = tracing.Entry(tracing.traceable_copy(eager), spatial_shape, voxelizer, plan)
    program = tracing.trace(entry, torch.from_numpy(made.rows), torch.from_numpy(made.columns))
    step(STEPS[1])
    model = _translate(program)
    step(STEPS[2])
    fusion.simplify(model)
    if precision != "fp32":
        lower(model, precision)
    _finish_graph(model, plan, voxelizer)
    metadata = _metadata(
        plan,
        "voxels" if voxelizer is None else "points",
        {
            "axes": list(axes or _AXES[len(spatial_shape)]),
            "spatial_shape": list(spatial_shape),
            "feature_names": list(feature_names or _feature_names(num_features, voxelizer)),
            "feature_units": list(feature_units),
            "point_range": point_range,
            "voxel_size": voxel_size,
            "class_names": list(class_names),
            "class_colors": list(class_colors),
            "batchable": batchable,
            "allow_nonfinite": allow_nonfinite,
            "precision": precision,
        },
        num_features,
    )
    step(STEPS[3])
    proto = _checked_proto(model, metadata)
    with _replacing(path) as draft:
        onnx.save(proto, draft)
        del proto
        step(STEPS[4])
        session = _open(draft)
        reference = verification.Reference(
            eager, checked, spatial_shape, voxelizer, plan, precision
        )
        answers = verification.run_model(session, checked, plan, voxelizer)
        differences = verification.compare(answers, reference, plan)
        if batchable:
            check_frames_alone(session, checked, answers, plan, voxelizer, precision)
        refusal = verification.accepts_no_rows(session, checked, voxelizer)
        if refusal is not None:
            warnings.warn(f"{path} fails on a batch without sites: {refusal}", stacklevel=2)
    return ExportReport(path, metadata, differences)


def _check_place(path: Path) -> None:
    """What would not be written at the end is not worth the minutes before."""
    if path.is_dir():
        raise ExportError(f"{path} is a folder: name the file to write, {path / 'model.onnx'}")
    place = next(folder for folder in path.absolute().parents if folder.exists())
    if not place.is_dir():
        raise ExportError(f"{path} cannot be written: {place} is no folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ExportError(f"{path} cannot be written: {place} is not writable")


def _check_arguments(spatial_shape: Sequence[int], num_features: int, precision: str) -> None:
    if precision not in PRECISIONS:
        raise ExportError(f"precision is {precision!r}, expected {', '.join(PRECISIONS)}")
    if not 1 <= len(spatial_shape) <= max(_AXES):
        raise ExportError(
            f"spatial_shape has {len(spatial_shape)} axes, expected 1 to {max(_AXES)}"
        )
    if any(size < 1 for size in spatial_shape):
        raise ExportError(f"spatial_shape is {list(spatial_shape)}, every size must be positive")
    if num_features < 1:
        raise ExportError(f"num_features is {num_features}, expected at least 1")


def _check_same(name: str, given: Sequence[float] | None, voxelizers: Sequence[float]) -> None:
    if given is not None and list(given) != list(voxelizers):
        raise ExportError(f"{name} is {list(given)}, the voxelizer's is {list(voxelizers)}")


def _check_voxelizer(voxelizer: Voxelizer, spatial_shape: Sequence[int], num_features: int) -> None:
    _check_voxel_grid(voxelizer.point_range, voxelizer.voxel_size, spatial_shape)
    axes = len(voxelizer.voxel_size)
    if num_features < axes:
        raise ExportError(
            f"num_features is {num_features}, but points need {axes} columns of position"
        )


def _check_voxel_grid(
    point_range: Sequence[float] | None,
    voxel_size: Sequence[float] | None,
    spatial_shape: Sequence[int],
) -> None:
    """The metadata would refuse it too, but only after the network was traced."""
    if point_range is None and voxel_size is None:
        return
    if point_range is None or voxel_size is None:
        raise ExportError(
            f"point_range is {point_range} and voxel_size {voxel_size}: give both or neither"
        )
    try:
        check_voxel_grid(point_range, voxel_size, spatial_shape)
    except ValueError as error:
        raise ExportError(str(error)) from error


def _feature_names(num_features: int, voxelizer: Voxelizer | None) -> list[str]:
    positions = ["x", "y", "z"][: len(voxelizer.voxel_size)] if voxelizer else []
    return [*positions, *(f"feature_{i}" for i in range(len(positions), num_features))]


def _metadata(
    plan: OutputPlan, input_kind: InputKind, fields: dict[str, Any], num_features: int
) -> ModelMetadata:
    if len(fields["feature_names"]) != num_features:
        raise ExportError(
            f"feature_names has {len(fields['feature_names'])} entries, expected {num_features}"
        )
    for name in ("point_range", "voxel_size"):
        fields[name] = None if fields[name] is None else [float(x) for x in fields[name]]
    try:
        return ModelMetadata(
            input_kind=input_kind,
            outputs=plan.outputs,
            exporter_version=voxgate_ops.__version__,
            **fields,
        )
    except ValueError as error:
        raise ExportError(f"the model's metadata is not valid: {error}") from error


def _translate(program: torch.export.ExportedProgram) -> ir.Model:
    schemas.register_schemas()
    try:
        with _quiet():
            exported = torch.onnx.export(
                program,
                dynamo=True,
                custom_translation_table=translation.translation_table(),
                opset_version=translation.OPSET_VERSION,
                optimize=False,
                verbose=False,
            )
    except Exception as error:  # torch.onnx raises its own and its translations' errors
        cause = error.__cause__ or error
        raise ExportError(f"torch.onnx cannot translate the network: {cause}") from error
    if exported is None:
        raise ExportError("torch.onnx returned no model")
    return exported.model


def _finish_graph(model: ir.Model, plan: OutputPlan, voxelizer: Voxelizer | None) -> None:
    """Public names for inputs, outputs and dimensions; nothing about the exporting machine."""
    graph = model.graph
    rows, columns, batch_size = graph.inputs
    dims = {_symbol(rows.shape, 0): "P" if voxelizer else "N"}
    dims[_symbol(columns.shape, 0)] = dims[_symbol(rows.shape, 0)]
    public = ("points", "point_batch") if voxelizer else ("coords", "features")
    rows.name, columns.name = public
    if not batch_size.uses() and not batch_size.is_graph_output():
        graph.inputs.remove(batch_size)
    bounded = _after_dynamic_top_k(graph)
    for index, (name, output) in enumerate(zip(plan.outputs, list(graph.outputs), strict=True)):
        value = _as_own_value(graph, index, output)
        value.shape = _public_shape(value.shape, name, plan, dims, forget=id(output) in bounded)
        value.name = name
    for value in (rows, columns):
        value.shape = _public_shape(value.shape, "", plan, dims, forget=False)
    kept = {id(value) for value in (*graph.inputs, *graph.outputs)}
    for node in graph:
        for value in node.outputs:
            if id(value) not in kept:
                value.shape = None
    ir.passes.Sequential(
        common.NameFixPass(),
        common.ClearMetadataAndDocStringPass(),
        common.RemoveUnusedOpsetsPass(),
    )(model)
    model.producer_name, model.producer_version = "voxgate", voxgate_ops.__version__
    graph.name = "voxgate"


def _as_own_value(graph: ir.Graph, index: int, output: ir.Value) -> ir.Value:
    """The output's value, or a copy where it is an input or an earlier output too."""
    shared = any(output is other for other in graph.outputs[:index])
    if not shared and output.producer() is not None:
        return output
    copy = ir.node("Identity", [output])
    copy.outputs[0].type, copy.outputs[0].shape = output.type, output.shape
    graph.append(copy)
    graph.outputs[index] = copy.outputs[0]
    return copy.outputs[0]


def _symbol(shape: ir.Shape | None, axis: int) -> str:
    return "" if shape is None else str(shape[axis])


def _public_shape(
    shape: ir.Shape | None, name: str, plan: OutputPlan, dims: Mapping[str, str], forget: bool
) -> ir.Shape | None:
    if shape is None:
        return None
    output = plan.outputs.get(name)
    rows = f"{name}_rows"
    if output is not None and output.coords is not None:
        rows = f"{output.coords.removesuffix('_coords')}_rows"
    elif output is not None and output.frame is not None:
        rows = f"{output.frame}_rows"
    elif output is not None and output.meaning in ("dense", "per_frame"):
        rows = "B"
    public: list[int | str | None] = []
    for axis, dim in enumerate(shape):
        if isinstance(dim, int) and not forget:
            public.append(dim)
        elif str(dim) in dims:
            public.append(dims[str(dim)])
        else:
            public.append(rows if axis == 0 else None)
    return ir.Shape(public)


def _after_dynamic_top_k(graph: ir.Graph) -> set[int]:
    """Values whose declared sizes come from a TopK that takes all rows where there are too few."""
    tainted: set[int] = set()
    for node in graph:
        dynamic = node.op_type == "TopK" and not _is_constant(node.inputs[1])
        if dynamic or any(id(value) in tainted for value in node.inputs if value is not None):
            tainted.update(id(value) for value in node.outputs)
    return tainted


def _is_constant(value: ir.Value | None) -> bool:
    return value is not None and ir.convenience.get_const_tensor(value) is not None


def _checked_proto(model: ir.Model, metadata: ModelMetadata) -> onnx.ModelProto:
    try:
        proto = onnx.shape_inference.infer_shapes(ir.to_proto(model))
        write_metadata(proto, metadata)
        onnx.checker.check_model(proto, full_check=True)
    except (ValueError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the exported model is not valid ONNX: {error}") from error
    return proto


def _open(draft: Path) -> ort.InferenceSession:
    try:
        return open_session(draft, device="cpu")
    except ModelError as error:
        raise ExportError(f"the exported model does not load: {error}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps torch.onnx from warning about operators of packages that are not installed."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A draft beside `path` that takes its place when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
