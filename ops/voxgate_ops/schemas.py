# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The ONNX operator set `voxgate`, version 1: the one place that says what goes in and out.

`register_schemas()` makes the operators known to `onnx.checker`, shape inference and the exporter.
`docs/operators.md` is written from this table by `voxgate_ops.operator_docs`.

Dimensions are named by symbols: a symbol that occurs twice in one operator is the same size. `N`
are input sites, `M` output sites, `D` spatial axes, `K` the kernel volume, `P` points, `B` the
batch size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import onnx
from onnx import defs

if TYPE_CHECKING:
    from onnx.shape_inference import InferenceContext

DOMAIN: Final = "voxgate"
VERSION: Final = 1

_ELEMENT_TYPES = {
    "float32": onnx.TensorProto.FLOAT,
    "int32": onnx.TensorProto.INT32,
    "int64": onnx.TensorProto.INT64,
}
_ONNX_NAMES = {"float32": "float", "float16": "float16", "bfloat16": "bfloat16"}
FLOATS: Final = ("float32", "float16", "bfloat16")
ROW_TYPES: Final = (*FLOATS, "int32", "int64")


@dataclass(frozen=True)
class Tensor:
    """An input or output: `dtype` is an element type or `T`, `shape` a tuple of symbols.

    A symbol that starts with `*` stands for all remaining dimensions.
    """

    name: str
    dtype: str
    shape: tuple[str, ...]
    doc: str
    optional: bool = False

    def shape_text(self) -> str:
        """`[N, 1+D]`, or `scalar`."""
        return f"[{', '.join(self.shape)}]" if self.shape else "scalar"


@dataclass(frozen=True)
class Attribute:
    """An attribute. `default` None means required unless `default_doc` says what absence means."""

    name: str
    kind: str  # ints | floats | int | float | string
    doc: str
    default: int | float | str | None = None
    default_doc: str = ""
    choices: tuple[str, ...] = ()

    @property
    def required(self) -> bool:
        return self.default is None and not self.default_doc


@dataclass(frozen=True)
class Operator:
    """One operator of the set."""

    name: str
    doc: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    attributes: tuple[Attribute, ...] = ()
    types: tuple[str, ...] = FLOATS  # what T may be


_COORDS = Tensor("coords", "int32", ("N", "1+D"), "Canonical sites: batch index, then D axes.")
_POINTS = Tensor("points", "float32", ("P", "F"), "Points; columns 0 … D-1 are x, y, z in metres.")
_POINT_BATCH = Tensor("point_batch", "int32", ("P",), "Each point's batch index.")
_BATCH_SIZE = Tensor("batch_size", "int64", (), "Frames in the batch.")
_NEIGHBORS = Tensor(
    "neighbors",
    "int32",
    ("K", "M"),
    "Rulebook in gather form: `neighbors[k, o]` is the input row that feeds output row o through "
    "kernel offset k (row-major, last axis fastest), or -1.",
)
_SPATIAL_SHAPE = Attribute(
    "spatial_shape", "ints", "Size of the dense grid per axis, in the order of the coords' columns."
)
_POINT_RANGE = Attribute("point_range", "floats", "x0, y0, z0, x1, y1, z1 in metres.")
_VOXEL_SIZE = Attribute("voxel_size", "floats", "x, y, z size of a voxel in metres.")
_KERNEL_SIZE = Attribute("kernel_size", "ints", "Kernel size per axis.")
_DILATION = Attribute("dilation", "ints", "Dilation per axis.", default_doc="1 on every axis")
_STRIDE = Attribute("stride", "ints", "Stride per axis.", default_doc="1 on every axis")
_PADDING = Attribute("padding", "ints", "Padding per axis.", default_doc="0 on every axis")
_OUTPUT_PADDING = Attribute(
    "output_padding",
    "ints",
    "Transposed only: size added to each output axis.",
    default_doc="0 on every axis",
)


def _mode(*choices: str, doc: str, default: str | None = None) -> Attribute:
    return Attribute("mode", "string", doc, default=default, choices=choices)


OPERATORS: Final[tuple[Operator, ...]] = (
    Operator(
        "SortSites",
        "Brings sites into canonical order: lexicographic by (batch, axis 0, …, axis D-1), each "
        "site once. Every other operator expects that order and keeps it. Fails for a site outside "
        "`spatial_shape` or with a negative batch index.",
        (Tensor("coords", "int32", ("N", "1+D"), "Sites in any order."),),
        (
            Tensor("coords", "int32", ("M", "1+D"), "The sites in canonical order."),
            Tensor("order", "int64", ("M",), "Sorted row j is input row `order[j]`."),
            Tensor("rank", "int64", ("N",), "Input row i is sorted row `rank[i]`."),
        ),
        (
            _SPATIAL_SHAPE,
            Attribute(
                "duplicates",
                "string",
                "What a site given twice does: `error` fails, `first` keeps its lowest input row.",
                default="error",
                choices=("error", "first"),
            ),
        ),
    ),
    Operator(
        "Voxelize",
        "Puts points into voxels. index = ⌊(p - lo) / voxel_size⌋ in float32; a point is kept iff "
        "0 ≤ index < round((hi - lo) / voxel_size) on every axis, so a NaN position is out of "
        "range. The position's x, y, z become coords in z, y, x order. All F columns are reduced, "
        "in point order.",
        (_POINTS, _POINT_BATCH),
        (
            Tensor("coords", "int32", ("V", "1+D"), "Voxels with at least one point, canonical."),
            Tensor("features", "float32", ("V", "F"), "The reduced points."),
            Tensor("point_voxel", "int32", ("P",), "Each point's row of `coords`; -1: none."),
        ),
        (
            _POINT_RANGE,
            _VOXEL_SIZE,
            Attribute(
                "reduce",
                "string",
                "How the points of a voxel become its features.",
                default="mean",
                choices=("mean", "max", "sum", "first"),
            ),
            Attribute(
                "max_points",
                "int",
                "Points reduced per voxel, the first ones (later points keep their `point_voxel`); "
                "0: all.",
                default=0,
            ),
            Attribute(
                "max_voxels",
                "int",
                "Voxels kept per batch index, by first appearance (the points of dropped voxels "
                "get -1); 0: all.",
                default=0,
            ),
        ),
    ),
    Operator(
        "SubmanifoldRulebook",
        "The rulebook of a submanifold convolution: output sites are the input sites, stride 1, "
        "odd kernel, padding (kernel_size // 2) · dilation.",
        (_COORDS,),
        (Tensor("neighbors", "int32", ("K", "N"), "The rulebook in gather form; -1: no pair."),),
        (_KERNEL_SIZE, _DILATION, _SPATIAL_SHAPE),
    ),
    Operator(
        "SparseRulebook",
        "The rulebook and output sites of a regular or transposed convolution. Regular: input site "
        "i feeds output site o through kernel index k iff i = o·stride - padding + k·dilation on "
        "every axis; transposed: o = i·stride - padding + k·dilation. Output sites are those that "
        "some input site feeds, or exactly the `out_coords` given. Output size, regular: "
        "⌊(n + 2·padding - dilation·(kernel_size - 1) - 1) / stride⌋ + 1; transposed: "
        "(n - 1)·stride - 2·padding + dilation·(kernel_size - 1) + 1 + output_padding.",
        (
            _COORDS,
            Tensor("out_coords", "int32", ("M", "1+D"), "Exactly these output sites.", True),
        ),
        (Tensor("out_coords", "int32", ("M", "1+D"), "The output sites, canonical."), _NEIGHBORS),
        (
            _KERNEL_SIZE,
            _STRIDE,
            _PADDING,
            _DILATION,
            _SPATIAL_SHAPE,
            Attribute("transposed", "int", "1: transposed (generative).", default=0),
            _OUTPUT_PADDING,
        ),
    ),
    Operator(
        "InverseRulebook",
        "Swaps the roles of a rulebook: its output sites are the input sites of the convolution "
        "that `neighbors` belongs to, row for row.",
        (_NEIGHBORS, Tensor("coords", "int32", ("N", "1+D"), "That convolution's input sites.")),
        (Tensor("neighbors", "int32", ("K", "N"), "`inverse[k, i] = o` iff the input holds i."),),
    ),
    Operator(
        "SparseConv",
        "y[o] = act(bias + residual[o] + Σ_k W[k]ᵀ·x[neighbors[k, o]]) over the pairs, accumulated "
        "in float32 with k ascending. A row without pairs is act(bias + residual).",
        (
            Tensor("features", "T", ("N", "Ci"), "Input features."),
            _NEIGHBORS,
            Tensor("weight", "T", ("K", "Ci/groups", "Co"), "Weights."),
            Tensor("bias", "T", ("Co",), "Added to every row.", True),
            Tensor("residual", "T", ("M", "Co"), "Added row for row.", True),
        ),
        (Tensor("features", "T", ("M", "Co"), "Output features."),),
        (
            Attribute(
                "groups", "int", "Groups of channels; Ci: a depthwise convolution.", default=1
            ),
            Attribute(
                "activation",
                "string",
                "Applied last; `gelu` is the exact one (erf).",
                default="none",
                choices=("none", "relu", "leaky_relu", "sigmoid", "silu", "gelu"),
            ),
            Attribute("alpha", "float", "Slope of `leaky_relu` below 0.", default=0.01),
        ),
    ),
    Operator(
        "SparsePool",
        "Pools over the active inputs of every output row; a row without pairs is 0. Unpooling is "
        "mode `sum` over an InverseRulebook.",
        (Tensor("features", "T", ("N", "C"), "Input features."), _NEIGHBORS),
        (Tensor("features", "T", ("M", "C"), "Pooled features."),),
        (_mode("max", "avg", "sum", doc="How active inputs are combined."),),
    ),
    Operator(
        "SparseGlobalPool",
        "Pools each frame's sites into one row; a frame without sites is 0.",
        (Tensor("features", "T", ("N", "C"), "Features of the sites."), _COORDS, _BATCH_SIZE),
        (Tensor("pooled", "T", ("B", "C"), "One row per frame."),),
        (_mode("max", "avg", "sum", doc="How sites are combined."),),
    ),
    Operator(
        "SparseToDense",
        "Writes sites into a dense grid that is 0 elsewhere.",
        (_COORDS, Tensor("features", "T", ("N", "C"), "Features of the sites."), _BATCH_SIZE),
        (Tensor("dense", "T", ("B", "C", "*spatial_shape"), "The dense grid."),),
        (_SPATIAL_SHAPE,),
    ),
    Operator(
        "DenseToSparse",
        "Keeps the cells in which any channel's |value| is above the threshold.",
        (Tensor("dense", "T", ("B", "C", "*S"), "A dense grid."),),
        (
            Tensor("coords", "int32", ("M", "1+D"), "The kept cells, canonical."),
            Tensor("features", "T", ("M", "C"), "Their features."),
        ),
        (Attribute("threshold", "float", "|value| above which a cell is kept.", default=0.0),),
    ),
    Operator(
        "SparseUnion",
        "The sites of either input.",
        (
            Tensor("coords_a", "int32", ("Na", "1+D"), "Canonical sites of a."),
            Tensor("features_a", "T", ("Na", "Ca"), "Features of a."),
            Tensor("coords_b", "int32", ("Nb", "1+D"), "Canonical sites of b."),
            Tensor("features_b", "T", ("Nb", "Cb"), "Features of b; for `sum`, Cb = Ca."),
        ),
        (
            Tensor("coords", "int32", ("M", "1+D"), "Sites of a or b, canonical."),
            Tensor("features", "T", ("M", "Co"), "Their features."),
        ),
        (
            _mode(
                "sum",
                "concat",
                doc="`sum` adds the features, Co = Ca; `concat` puts b's channels after a's, "
                "Co = Ca + Cb, 0 where a site is not in that input.",
            ),
        ),
    ),
    Operator(
        "FindSites",
        "Looks sites up.",
        (_COORDS, Tensor("query", "int32", ("P", "1+D"), "Sites to look for, in any order.")),
        (Tensor("row", "int32", ("P",), "The row of each in `coords`; -1: none."),),
    ),
    Operator(
        "GatherRows",
        "y[p] = x[row[p]], and `fill` where row[p] is -1. ONNX's Gather takes -1 for the last row "
        "and fails on zero rows.",
        (
            Tensor("x", "T", ("V", "C"), "Rows."),
            Tensor("row", "int32", ("P",), "Which row to take; -1: none."),
        ),
        (Tensor("y", "T", ("P", "C"), "The rows taken."),),
        (Attribute("fill", "float", "What a row that is -1 gives.", default=0.0),),
        types=ROW_TYPES,
    ),
    Operator(
        "ReduceRows",
        "Reduces the rows p with row[p] = v into output row v, p ascending; a row nothing is "
        "reduced into is 0.",
        (
            Tensor("x", "T", ("P", "C"), "Rows."),
            Tensor("row", "int32", ("P",), "Where each goes; -1: dropped."),
            Tensor("coords", "int32", ("V", "1+D"), "The sites reduced into: only V is used."),
        ),
        (Tensor("y", "T", ("V", "C"), "The reduced rows."),),
        (_mode("sum", "mean", "max", "first", doc="How rows are combined."),),
    ),
    Operator(
        "SparseInterpolate",
        "Samples features at points. Corners without a site drop out; a point with none gives 0.",
        (
            Tensor("features", "T", ("N", "C"), "Features of the sites."),
            _COORDS,
            _POINTS,
            _POINT_BATCH,
        ),
        (Tensor("sampled", "T", ("P", "C"), "One row per point."),),
        (
            _POINT_RANGE,
            _VOXEL_SIZE,
            _mode(
                "nearest",
                "trilinear",
                doc="`trilinear` weighs the 2^D sites around a point.",
                default="trilinear",
            ),
            Attribute(
                "anchor",
                "string",
                "Where in its voxel a site's feature lies.",
                default="center",
                choices=("center", "corner"),
            ),
            Attribute(
                "normalize", "int", "1: divide by the weights of the corners present.", default=1
            ),
        ),
    ),
    Operator(
        "RotatedNms",
        "Non-maximum suppression of boxes by their overlap seen from above, each frame on its own.",
        (
            Tensor(
                "boxes", "float32", ("R", "7"), "x, y, z, dx, dy, dz in metres, yaw in radians."
            ),
            Tensor("scores", "float32", ("R",), "Score of each box."),
            Tensor("frame", "int32", ("R",), "Batch index of each box."),
        ),
        (Tensor("kept", "int64", ("Q",), "Rows kept, by frame, best score first."),),
        (
            Attribute("iou_threshold", "float", "Overlap above which the lower score goes."),
            Attribute(
                "score_threshold", "float", "Boxes that score less are dropped.", default=0.0
            ),
            Attribute("max_per_frame", "int", "Boxes kept per frame; 0: all.", default=0),
        ),
    ),
)


def register_schemas() -> None:
    """Register the operator set with `onnx.defs`. Calling it again changes nothing."""
    for operator in OPERATORS:
        if not defs.has(operator.name, VERSION, DOMAIN):
            defs.register_schema(make_schema(operator))


def make_schema(operator: Operator) -> defs.OpSchema:
    """The `onnx.defs` schema of an operator, with type and shape inference."""
    uses_t = any(tensor.dtype == "T" for tensor in (*operator.inputs, *operator.outputs))
    schema = defs.OpSchema(
        operator.name,
        DOMAIN,
        VERSION,
        operator.doc,
        inputs=[_parameter(tensor) for tensor in operator.inputs],
        outputs=[_parameter(tensor) for tensor in operator.outputs],
        type_constraints=[("T", [_onnx_type(name) for name in operator.types], "")] * uses_t,
        attributes=[_attribute(attribute) for attribute in operator.attributes],
    )
    # Older onnx releases cannot take an inference function from Python; checking works without.
    if hasattr(schema, "set_type_and_shape_inference_function"):
        schema.set_type_and_shape_inference_function(lambda context: _infer(operator, context))
    return schema


def _onnx_type(dtype: str) -> str:
    return f"tensor({_ONNX_NAMES.get(dtype, dtype)})"


def _parameter(tensor: Tensor) -> defs.OpSchema.FormalParameter:
    option = defs.OpSchema.FormalParameterOption
    return defs.OpSchema.FormalParameter(
        tensor.name,
        "T" if tensor.dtype == "T" else _onnx_type(tensor.dtype),
        f"{tensor.shape_text()}: {tensor.doc}",
        param_option=option.Optional if tensor.optional else option.Single,
    )


def _attribute(attribute: Attribute) -> defs.OpSchema.Attribute:
    if attribute.default is not None:
        default = onnx.helper.make_attribute(attribute.name, attribute.default)
        return defs.OpSchema.Attribute(attribute.name, default, attribute.doc)
    kind = getattr(defs.OpSchema.AttrType, attribute.kind.upper())
    return defs.OpSchema.Attribute(attribute.name, kind, attribute.doc, required=attribute.required)


def _infer(operator: Operator, context: InferenceContext) -> None:
    """Types and shapes of the outputs from the symbols that the inputs and attributes bind."""
    bound: dict[str, list[onnx.TensorShapeProto.Dimension]] = {}
    element_type = 0
    for index, tensor in enumerate(operator.inputs):
        if not context.has_input(index):
            continue
        given = context.get_input_type(index)
        if given is None or not given.HasField("tensor_type"):
            continue
        if tensor.dtype == "T":
            element_type = element_type or given.tensor_type.elem_type
        if given.tensor_type.HasField("shape"):
            _bind_shape(operator, tensor, given.tensor_type.shape, bound)
    _bind_attributes(operator, context, bound)
    for index, tensor in enumerate(operator.outputs):
        if context.has_output(index):
            output = onnx.TypeProto()
            output.tensor_type.elem_type = _ELEMENT_TYPES.get(tensor.dtype, element_type)
            shape = output.tensor_type.shape
            for symbol in tensor.shape:
                shape.dim.extend(bound.get(symbol, [onnx.TensorShapeProto.Dimension()]))
            context.set_output_type(index, output)


def _bind_shape(
    operator: Operator,
    tensor: Tensor,
    shape: onnx.TensorShapeProto,
    bound: dict[str, list[onnx.TensorShapeProto.Dimension]],
) -> None:
    dims = list(shape.dim)
    variadic = bool(tensor.shape) and tensor.shape[-1].startswith("*")
    fixed = tensor.shape[:-1] if variadic else tensor.shape
    if len(dims) < len(fixed) or (len(dims) > len(fixed) and not variadic):
        raise onnx.shape_inference.InferenceError(
            f"{operator.name}: {tensor.name} has {len(dims)} dimensions, "
            f"expected {tensor.shape_text()}"
        )
    for symbol, dim in zip(fixed, dims, strict=False):
        if symbol not in bound or not bound[symbol][0].HasField("dim_value"):
            bound[symbol] = [dim]
    if variadic:
        bound[tensor.shape[-1]] = dims[len(fixed) :]
        bound["1+D"] = [_dimension(len(dims) - len(fixed) + 1)]


def _bind_attributes(
    operator: Operator,
    context: InferenceContext,
    bound: dict[str, list[onnx.TensorShapeProto.Dimension]],
) -> None:
    names = {attribute.name for attribute in operator.attributes}
    values: dict[str, Any] = {
        name: context.get_attribute(name)
        for name in ("kernel_size", "spatial_shape", "voxel_size")
        if name in names
    }
    if (kernel_size := values.get("kernel_size")) is not None:
        bound["K"] = [_dimension(math.prod(kernel_size.ints))]
    if (voxel_size := values.get("voxel_size")) is not None:
        bound["1+D"] = [_dimension(len(voxel_size.floats) + 1)]
    if (spatial_shape := values.get("spatial_shape")) is not None:
        bound["1+D"] = [_dimension(len(spatial_shape.ints) + 1)]
        bound["*spatial_shape"] = [_dimension(size) for size in spatial_shape.ints]


def _dimension(value: int) -> onnx.TensorShapeProto.Dimension:
    return onnx.TensorShapeProto.Dimension(dim_value=value)
