# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""One model in ONNX Runtime: what it takes and gives, and its runs on a thread of their own."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from voxgate_ops.errors import ModelError
from voxgate_ops.metadata import ModelMetadata, OutputMetadata, read_metadata
from voxgate_ops.session import open_session
from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_server.codec import Array, DecodedFrame, FrameSpec, OutputSpec, wire_type
from voxgate_server.errors import InternalError, InvalidFrame, InvalidRequest, ModelLimitExceeded
from voxgate_server.settings import Settings

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
# How the operators mark a limit that was passed: ONNX Runtime has no code for it.
_EXHAUSTED = "resource exhausted"


@dataclass(frozen=True, slots=True)
class Execution:
    """The outputs of one run by name, and how long it took in seconds."""

    outputs: dict[str, Array]
    seconds: float
    batch_frames: int
    batch_sites: int


class Engine:
    """Runs one model. `run` calls are queued on one thread: ONNX Runtime releases the GIL there."""

    def __init__(
        self, session: ort.InferenceSession, metadata: ModelMetadata, settings: Settings
    ) -> None:
        """Check the graph against its metadata.

        Raises:
            ModelError: inputs or outputs that the metadata does not describe.
        """
        self.metadata = metadata
        self.inputs = {item.name: item for item in session.get_inputs()}
        self.frame_spec = _frame_spec(self.inputs, metadata, settings)
        self.outputs = _output_specs(session, metadata)
        self._session = session
        self._takes_batch_size = "batch_size" in self.inputs
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")

    @classmethod
    def load(cls, path: str | os.PathLike[str], settings: Settings) -> Engine:
        """Open the model at `path`.

        Raises:
            VoxgateError: the file, its metadata or the operator library is missing or broken.
        """
        session = open_session(path, device=settings.device, threads=settings.threads)
        return cls(session, read_metadata(session), settings)

    def select(self, names: Sequence[str]) -> list[OutputSpec]:
        """The outputs that a client asked for; all of them if it named none.

        Sites of sparse outputs are added: rows without their sites mean nothing.

        Raises:
            InvalidRequest: no such output.
        """
        if not names:
            return list(self.outputs.values())
        chosen: dict[str, OutputSpec] = {}
        for name in names:
            if name not in self.outputs:
                known = ", ".join(self.outputs)
                raise InvalidRequest(f"outputs: {name!r} is unknown, the model has {known}")
            spec = self.outputs[name]
            for wanted in (spec.coords, name):
                if wanted in self.outputs:
                    chosen[wanted] = self.outputs[wanted]
        return list(chosen.values())

    async def run(self, frame: DecodedFrame, outputs: Sequence[OutputSpec]) -> Execution:
        """Run one frame.

        Raises:
            InvalidFrame: an operator refused the frame's values.
            ModelLimitExceeded: an operator's output would be too large, or memory ran out.
            InternalError: anything else went wrong in ONNX Runtime.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._run, frame, outputs)

    def close(self) -> None:
        """Let the run that is going on end and stop the thread."""
        self._thread.shutdown(wait=True)

    def _run(self, frame: DecodedFrame, outputs: Sequence[OutputSpec]) -> Execution:
        inputs = dict(frame.inputs)
        if self._takes_batch_size:
            inputs["batch_size"] = np.array(1, np.int64)
        names = list(dict.fromkeys(n for spec in outputs for n in (spec.name, spec.frame) if n))
        started = time.monotonic()
        try:
            arrays = self._session.run(names, inputs)
        except ort_errors.InvalidArgument as error:
            raise InvalidFrame(f"the model refused the frame: {error}") from error
        except Exception as error:  # ONNX Runtime's exceptions share no base but this
            if isinstance(error, ort_errors.Fail) and _EXHAUSTED in str(error):
                raise ModelLimitExceeded(f"the model has no room for the frame: {error}") from error
            raise InternalError(f"the model failed: {error}") from error
        seconds = time.monotonic() - started
        return Execution(dict(zip(names, arrays, strict=True)), seconds, 1, frame.num_sites)


def _frame_spec(inputs: dict[str, Any], metadata: ModelMetadata, settings: Settings) -> FrameSpec:
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
        max_sites=settings.max_frame_sites,
        max_bytes=settings.max_frame_bytes,
    )


def _output_specs(session: ort.InferenceSession, metadata: ModelMetadata) -> dict[str, OutputSpec]:
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
    if described.meaning in ("per_frame", "dense"):
        shape = shape[1:]
    elif described.coords == item.name and shape[-1] > 0:
        shape[-1] -= 1
    return OutputSpec(
        name=item.name,
        dtype=wire,
        shape=tuple(shape),
        meaning=described.meaning,
        coords=described.coords or "",
        frame=described.frame or "",
    )


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
