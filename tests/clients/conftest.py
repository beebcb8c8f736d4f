# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A small server in this process that speaks the protocol and can be told to misbehave."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_protos import voxel_inference_pb2_grpc as pb_grpc

METADATA = {
    "point_range": [-8.0, -8.0, -4.0, 8.0, 8.0, 4.0],
    "voxel_size": [0.5, 0.5, 0.5],
    "class_names": ["ground", "tree"],
    "class_colors": ["#808080", "#00ff00"],
}
MAX_FRAME_BYTES = 1 << 20


def model_info(name: str, kind: str = "points", state: int = pb.ModelInfo.READY) -> pb.ModelInfo:
    return pb.ModelInfo(
        name=name,
        version="3",
        state=state,
        input_kind=kind,
        feature_names=["x", "y", "z", "intensity"],
        spatial_shape=[16, 32, 32],
        outputs=[pb.TensorInfo(name="label", dtype=pb.INT32, shape=[-1], meaning="per_point")],
        max_frame_bytes=MAX_FRAME_BYTES,
        metadata_json=json.dumps(METADATA),
    )


class FakeServer(pb_grpc.VoxelInferenceServicer):
    """Answers a frame with how many rows it has; `script` changes what a stream does.

    Frames whose id starts with "bad" get an error; "hold" frames get no answer. What "drain" and
    "abort once" say is done to one stream.
    """

    def __init__(self) -> None:
        self.models = {"unet": model_info("unet")}
        self.script = ""
        self.metadata: list[dict[str, str]] = []
        self.opened: list[pb.StreamOpen] = []
        self.frames: list[pb.Frame] = []
        self.chunks: list[pb.FrameChunk] = []
        self.cancelled: list[str] = []
        self.proceed = threading.Event()
        self.proceed.set()
        self.drained = threading.Event()

    def ListModels(self, request, context):
        return pb.ListModelsResponse(models=self.models.values())

    def GetModel(self, request, context):
        if request.name not in self.models:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.name!r}")
        return self.models[request.name]

    def Infer(self, request, context):
        self.frames.append(request.frame)
        if request.model not in self.models:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.model!r}")
        if request.frame.frame_id.startswith("bad"):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "bad frame")
        return self.answer(request.frame, request.model)

    def start(self, port: int = 0, credentials: grpc.ServerCredentials | None = None) -> None:
        """Serves on a port of this machine; again on the same one after `stop`."""
        options = [("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
        self.grpc_server = grpc.server(ThreadPoolExecutor(8), options=options)
        pb_grpc.add_VoxelInferenceServicer_to_server(self, self.grpc_server)
        address = f"127.0.0.1:{port}"
        if credentials is None:
            self.port = self.grpc_server.add_insecure_port(address)
        else:
            self.port = self.grpc_server.add_secure_port(address, credentials)
        self.target = f"127.0.0.1:{self.port}"
        self.grpc_server.start()

    def stop(self) -> None:
        self.grpc_server.stop(0).wait()

    def restart(self) -> None:
        self.stop()
        self.start(self.port)

    def StreamInfer(self, requests, context):
        self.metadata.append(dict(context.invocation_metadata()))
        opening = next(requests).open
        self.opened.append(opening)
        if opening.model not in self.models:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no model {opening.model!r}")
        self.proceed.wait(60)
        drained = self.script == "drain"
        if drained:
            self.script = ""
        yield pb.StreamResponse(
            opened=pb.StreamOpened(
                model=self.models[opening.model],
                max_frame_bytes=MAX_FRAME_BYTES,
                max_queued_frames=opening.max_queued_frames or 4,
            )
        )
        for request in requests:
            if drained:
                yield from self.drain(request, opening.model)
                return
            yield from self.respond(request, opening.model, context)

    def drain(self, request, model):
        """Says that it stops, and answers the frame it has only when told to."""
        notice = pb.ServerNotice(kind=pb.ServerNotice.DRAINING, message="stopping")
        yield pb.StreamResponse(notice=notice)
        self.drained.wait(10)
        yield pb.StreamResponse(result=self.answer(request.frame, model))

    def respond(self, request, model, context):
        kind = request.WhichOneof("message")
        if kind == "cancel_frame_id":
            self.cancelled.append(request.cancel_frame_id)
            error = pb.FrameError(
                frame_id=request.cancel_frame_id, code=1, message="cancelled by the client"
            )
            yield pb.StreamResponse(error=error)
            return
        if kind == "chunk":
            self.chunks.append(request.chunk)
            if not request.chunk.last:
                return
            frame = request.chunk.part
        else:
            frame = request.frame
        self.frames.append(frame)
        if self.script in ("abort", "abort once"):
            self.script = "abort" if self.script == "abort" else ""
            context.abort(grpc.StatusCode.INTERNAL, "engine on fire")
        if self.script == "notice":
            notice = pb.ServerNotice(
                kind=pb.ServerNotice.MODEL_RELOADED, message="new", model=self.models[model]
            )
            yield pb.StreamResponse(notice=notice)
        if self.script == "stray":
            yield pb.StreamResponse(result=pb.InferResponse(frame_id="never sent"))
            yield pb.StreamResponse(error=pb.FrameError(frame_id="", code=3, message="unparsable"))
        if frame.frame_id.startswith("hold"):
            return
        if frame.frame_id.startswith("bad"):
            error = pb.FrameError(frame_id=frame.frame_id, code=3, message="bad frame")
            yield pb.StreamResponse(error=error)
            return
        yield pb.StreamResponse(result=self.answer(frame, model))
        if self.script == "twice":
            yield pb.StreamResponse(result=self.answer(frame, model))

    def answer(self, frame: pb.Frame, model: str) -> pb.InferResponse:
        rows = frame.points.num_points or frame.voxels.num_sites
        data = (np.arange(rows, dtype="<i4") % 2).tobytes()
        if self.script == "short answer":
            data = data[:-1]
        label = pb.Tensor(name="label", dtype=pb.INT32, shape=[rows], data=data)
        timing = pb.Timing(
            receive_us=1, decode_us=2, queue_us=3, execute_us=4, encode_us=5, total_us=15,
            batch_frames=1, batch_sites=rows,
        )  # fmt: skip
        return pb.InferResponse(
            frame_id=frame.frame_id, model=model, version="3", outputs=[label], timing=timing,
            sensor_id=frame.sensor_id,
        )  # fmt: skip


@pytest.fixture
def fake_server() -> Iterator[FakeServer]:
    servicer = FakeServer()
    servicer.start()
    yield servicer
    servicer.stop()
