# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What a model file holds, for people. Needs neither torch nor the operators' library."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from pydantic import BaseModel
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from voxgate_ops.errors import ModelError
from voxgate_ops.metadata import METADATA_KEY, ModelMetadata, parse_metadata
from voxgate_ops.schemas import DOMAIN

_RULEBOOKS = ("SubmanifoldRulebook", "SparseRulebook", "InverseRulebook")


class TensorSummary(BaseModel):
    """An input or output of the graph; dimensions unknown before a run have names."""

    name: str
    dtype: str
    shape: list[int | str]


class OperatorSummary(BaseModel):
    """How many nodes a graph has of one operator."""

    name: str
    domain: str
    nodes: int


class ModelSummary(BaseModel):
    """What `voxgate inspect` shows."""

    path: str
    file_bytes: int
    producer: str
    opsets: dict[str, int]
    parameters: int
    parameter_bytes: int
    rulebooks: int
    inputs: list[TensorSummary]
    outputs: list[TensorSummary]
    operators: list[OperatorSummary]
    metadata: ModelMetadata | None


def summarize(path: Path) -> ModelSummary:
    """Read a model file.

    Raises:
        ModelError: it is missing, no ONNX, or its metadata is not valid.
    """
    try:
        model = onnx.load(path, load_external_data=False)
        size = path.stat().st_size
    except (OSError, DecodeError) as error:
        raise ModelError(f"{path} cannot be read as an ONNX model: {error}") from error
    if not model.graph.output:
        raise ModelError(f"{path} ({size} bytes) is not an ONNX model: it has no outputs")
    stored = {entry.key: entry.value for entry in model.metadata_props}.get(METADATA_KEY)
    counts = Counter((node.domain, node.op_type) for node in model.graph.node)
    return ModelSummary(
        path=str(path),
        file_bytes=size,
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        opsets={opset.domain or "ai.onnx": opset.version for opset in model.opset_import},
        parameters=sum(math.prod(tensor.dims) for tensor in model.graph.initializer),
        parameter_bytes=sum(_tensor_bytes(tensor) for tensor in model.graph.initializer),
        rulebooks=sum(counts[DOMAIN, name] for name in _RULEBOOKS),
        inputs=[_tensor(value) for value in model.graph.input],
        outputs=[_tensor(value) for value in model.graph.output],
        operators=[
            OperatorSummary(name=name, domain=domain or "ai.onnx", nodes=count)
            for (domain, name), count in sorted(counts.items(), key=lambda item: -item[1])
        ],
        metadata=None if stored is None else parse_metadata(stored),
    )


def _tensor(value: onnx.ValueInfoProto) -> TensorSummary:
    tensor = value.type.tensor_type
    return TensorSummary(
        name=value.name,
        dtype=_dtype_name(tensor.elem_type),
        shape=[
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?"
            for dim in tensor.shape.dim
        ],
    )


def _dtype_name(element_type: int) -> str:
    return (
        "unknown" if element_type == 0 else str(onnx.helper.tensor_dtype_to_np_dtype(element_type))
    )


def _tensor_bytes(tensor: onnx.TensorProto) -> int:
    item = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return math.prod(tensor.dims) * item


def tables(summary: ModelSummary) -> Iterator[RenderableType]:
    """The summary as rich tables."""
    yield _general(summary)
    yield _tensors("inputs", summary.inputs, None)
    yield _tensors("outputs", summary.outputs, summary.metadata)
    operators = Table(title="operators", title_justify="left")
    operators.add_column("operator")
    operators.add_column("domain")
    operators.add_column("nodes", justify="right")
    for operator in summary.operators:
        operators.add_row(escape(operator.name), escape(operator.domain), str(operator.nodes))
    yield operators


def _general(summary: ModelSummary) -> Table:
    table = Table(title=escape(summary.path), title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    opsets = ", ".join(f"{domain} {version}" for domain, version in summary.opsets.items())
    rows = {
        "size": f"{summary.file_bytes:,} bytes",
        "parameters": f"{summary.parameters:,} ({summary.parameter_bytes:,} bytes)",
        "rulebooks": str(summary.rulebooks),
        "opsets": opsets,
        "producer": summary.producer or "unknown",
    }
    if summary.metadata is None:
        rows["metadata"] = f"none: not written by voxgate export (key {METADATA_KEY!r})"
    else:
        rows.update(_metadata_rows(summary.metadata))
    for name, text in rows.items():
        table.add_row(name, escape(text))
    return table


def _metadata_rows(metadata: ModelMetadata) -> dict[str, str]:
    shape = zip(metadata.axes, metadata.spatial_shape, strict=True)
    units = metadata.feature_units or [""] * len(metadata.feature_names)
    rows = {
        "takes": metadata.input_kind,
        "spatial_shape": ", ".join(f"{axis} {size}" for axis, size in shape),
        "features": ", ".join(
            f"{name} ({unit})" if unit else name
            for name, unit in zip(metadata.feature_names, units, strict=True)
        ),
        "precision": metadata.precision,
        "batchable": "yes" if metadata.batchable else "no",
        "nonfinite features": "accepted" if metadata.allow_nonfinite else "refused",
        "exporter": metadata.exporter_version,
    }
    if metadata.point_range is not None:
        rows["point_range"] = ", ".join(f"{value:g}" for value in metadata.point_range) + " m"
    if metadata.voxel_size is not None:
        rows["voxel_size"] = ", ".join(f"{value:g}" for value in metadata.voxel_size) + " m"
    if metadata.class_names:
        rows["classes"] = ", ".join(metadata.class_names)
    return rows


def _tensors(title: str, tensors: list[TensorSummary], metadata: ModelMetadata | None) -> Table:
    table = Table(title=title, title_justify="left")
    for column in ("name", "type", "shape", *(("meaning",) if metadata else ())):
        table.add_column(column)
    for tensor in tensors:
        shape = f"[{', '.join(str(dim) for dim in tensor.shape)}]" if tensor.shape else "scalar"
        meaning = [_meaning(metadata, tensor.name)] if metadata else []
        table.add_row(*(escape(cell) for cell in (tensor.name, tensor.dtype, shape, *meaning)))
    return table


def _meaning(metadata: ModelMetadata, name: str) -> str:
    output = metadata.outputs.get(name)
    if output is None:
        return "unknown"
    other = output.coords or output.frame
    text = f"{output.meaning} ({other})" if other and other != name else output.meaning
    return f"{text}, hidden" if output.hidden else text
