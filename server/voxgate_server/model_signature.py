# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What a model takes and gives, from its graph and its metadata, and as clients are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime as ort

from voxgate_ops.errors import ModelError
from voxgate_ops.metadata import ModelMetadata, OutputMetadata
from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_server.codec import FrameSpec, OutputSpec, wire_type

_TENSOR_TYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(int8)": np.dtype(np.int8),
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(int16)": np.dtype(np.int16),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(bool)": np.dtype(np.bool_),
}
_MATRIX_RANK = 2
_BY_INDEX = ("per_frame", "dense")  # outputs whose first axis counts the frames of a batch


def frame_spec(
    session: ort.InferenceSession, metadata: ModelMetadata, max_sites: int, max_bytes: int
) -> FrameSpec:
    """What a frame of this model is held to.

    Raises:
        ModelError: inputs that are not those of the metadata's kind.
    """
    inputs = {item.name: item for item in session.get_inputs()}
    points = metadata.input_kind == "points"
    expected = ("points", "point_batch") if points else ("coords", "features")
    for name in expected:
        if name not in inputs:
            have = ", ".join(inputs)
            raise ModelError(
                f"input {name!r} is missing: a model of {metadata.input_kind} has "
                f"{' and '.join(expected)}, this one {have}"
            )
    for name in inputs:
        if name not in (*expected, "batch_size"):
            raise ModelError(f"input {name!r} is unknown: expected {' and '.join(expected)}")
    values = inputs["points" if points else "features"]
    dtype = _TENSOR_TYPES.get(values.type)
    if dtype is None or dtype.kind != "f":
        raise ModelError(f"input {values.name!r} is {values.type}, expected float or float16")
    columns = len(metadata.feature_names)
    shape = list(values.shape)
    if len(shape) != _MATRIX_RANK or (isinstance(shape[1], int) and shape[1] != columns):
        raise ModelError(
            f"input {values.name!r} has shape {shape}, its metadata names {columns} columns"
        )
    return FrameSpec(
        input_kind=metadata.input_kind,
        spatial_shape=tuple(metadata.spatial_shape),
        num_features=columns,
        features_dtype=dtype,
        allow_nonfinite=metadata.allow_nonfinite,
        max_sites=max_sites,
        max_bytes=max_bytes,
    )


def output_specs(session: ort.InferenceSession, metadata: ModelMetadata) -> dict[str, OutputSpec]:
    """The outputs that clients get, by name, in the graph's order.

    Raises:
        ModelError: outputs that the metadata does not describe, or that cannot be sent.
    """
    graph = {item.name: item for item in session.get_outputs()}
    for name in metadata.outputs:
        if name not in graph:
            raise ModelError(f"output {name!r} of the metadata is none of the graph's")
    specs: dict[str, OutputSpec] = {}
    for name, item in graph.items():
        described = metadata.outputs.get(name)
        if described is None:
            raise ModelError(f"output {name!r} of the graph is not in the metadata")
        if not described.hidden:
            specs[name] = _output_spec(item, described)
    if not specs:
        raise ModelError("every output is hidden: there is nothing to send")
    return specs


def _output_spec(item: Any, described: OutputMetadata) -> OutputSpec:
    dtype = _TENSOR_TYPES.get(item.type)
    wire = None if dtype is None else wire_type(dtype)
    if wire is None:
        raise ModelError(f"output {item.name!r} is {item.type}, which cannot be sent")
    shape = [size if isinstance(size, int) else -1 for size in item.shape]
    if described.meaning in _BY_INDEX:
        shape = shape[1:]
    elif described.coords == item.name and shape and shape[-1] > 0:
        shape[-1] -= 1
    return OutputSpec(
        name=item.name,
        dtype=wire,
        shape=tuple(shape),
        meaning=described.meaning,
        coords=described.coords or "",
        frame=described.frame or "",
    )


def is_batchable(session: ort.InferenceSession, metadata: ModelMetadata) -> bool:
    """Whether a run may take several frames: the metadata says so and no axis of them is fixed."""
    fixed = any(
        described.meaning in _BY_INDEX and item.shape and isinstance(item.shape[0], int)
        for item in session.get_outputs()
        if (described := metadata.outputs.get(item.name)) is not None
    )
    return metadata.batchable and not fixed


def input_infos(spec: FrameSpec) -> list[pb.TensorInfo]:
    """The inputs as clients send them."""
    features = wire_type(spec.features_dtype) or pb.FLOAT32
    if spec.input_kind == "points":
        return [pb.TensorInfo(name="points", dtype=features, shape=[-1, spec.num_features])]
    return [
        pb.TensorInfo(name="coords", dtype=pb.INT32, shape=[-1, len(spec.spatial_shape)]),
        pb.TensorInfo(name="features", dtype=features, shape=[-1, spec.num_features]),
    ]


def output_infos(specs: Sequence[OutputSpec]) -> list[pb.TensorInfo]:
    """The outputs as clients get them."""
    return [
        pb.TensorInfo(
            name=spec.name,
            dtype=spec.dtype,
            shape=spec.shape,
            meaning=spec.meaning,
            coords=spec.coords,
        )
        for spec in specs
    ]
