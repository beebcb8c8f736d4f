# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Frames as bytes, and a client over raw messages: it checks nothing, so it can send rubbish."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tests.server.models import GRID

from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_protos import voxel_inference_pb2_grpc as pb_grpc
from voxgate_server.app import Addresses, App

TIMEOUT = 20.0
Array = NDArray[Any]
NUMPY = {
    pb.FLOAT32: np.float32,
    pb.FLOAT16: np.float16,
    pb.INT8: np.int8,
    pb.UINT8: np.uint8,
    pb.INT16: np.int16,
    pb.INT32: np.int32,
    pb.INT64: np.int64,
    pb.BOOL: np.bool_,
}


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port of loopback for a server to be told: until the end nobody else is given it."""
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", 0))  # and never listens, so that whoever knows it may
        port: int = bound.getsockname()[1]
        yield port


def random_sites(count: int, seed: int = 0) -> tuple[Array, Array]:
    """Distinct sites in random order, int32 [count, 3], and their features, float32 [count, 2]."""
    rng = np.random.default_rng(seed)
    cells = rng.choice(int(np.prod(GRID)), count, replace=False)
    coords = np.stack(np.unravel_index(cells, GRID), axis=1).astype(np.int32)
    return coords, rng.normal(size=(count, 2)).astype(np.float32)


def voxels(coords: Array, features: Array, /, **changed: Any) -> pb.SparseVoxels:
    """The payload of these arrays, with fields `changed` to whatever a test wants to be wrong."""
    fields: dict[str, Any] = {
        "num_sites": len(coords),
        "coords_dtype": pb.INT16 if coords.dtype == np.int16 else pb.INT32,
        "coords": coords.tobytes(),
        "num_features": features.shape[1],
        "features_dtype": pb.FLOAT16 if features.dtype == np.float16 else pb.FLOAT32,
        "features": features.tobytes(),
    }
    return pb.SparseVoxels(**(fields | changed))


def frame(frame_id: str, count: int = 5, seed: int = 0, /, **changed: Any) -> pb.Frame:
    return pb.Frame(frame_id=frame_id, voxels=voxels(*random_sites(count, seed), **changed))


def cloud(points: Array) -> pb.PointCloud:
    return pb.PointCloud(
        num_points=len(points),
        num_fields=points.shape[1],
        dtype=pb.FLOAT32,
        points=points.astype(np.float32).tobytes(),
    )


def arrays(response: pb.InferResponse) -> dict[str, Array]:
    return {
        t.name: np.frombuffer(t.data, NUMPY[t.dtype]).reshape(tuple(t.shape))
        for t in response.outputs
    }


class Stream:
    """One StreamInfer call. Messages go out as given, bytes included."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        method = channel.stream_stream(
            "/voxgate.v1.VoxelInference/StreamInfer",
            response_deserializer=pb.StreamResponse.FromString,
        )
        self.call = method()

    async def send(self, **member: Any) -> None:
        await self.send_raw(pb.StreamRequest(**member).SerializeToString())

    async def send_raw(self, raw: bytes) -> None:
        await self.call.write(raw)

    async def open(self, model: str = "voxels", **fields: Any) -> pb.StreamOpened:
        await self.send(open=pb.StreamOpen(model=model, **fields))
        return (await self.read()).opened

    async def read(self) -> pb.StreamResponse:
        response = await asyncio.wait_for(self.call.read(), TIMEOUT)
        assert isinstance(response, pb.StreamResponse), "the stream has ended"
        return response

    async def result(self) -> pb.InferResponse:
        response = await self.read()
        assert response.WhichOneof("message") == "result", response
        return response.result

    async def error(self) -> pb.FrameError:
        response = await self.read()
        assert response.WhichOneof("message") == "error", response
        return response.error

    async def finish(self) -> list[pb.StreamResponse]:
        """Half-close and read to the end, whatever status that is."""
        await self.call.done_writing()
        return await self.rest()

    async def rest(self) -> list[pb.StreamResponse]:
        responses = []
        while True:
            try:
                response = await asyncio.wait_for(self.call.read(), TIMEOUT)
            except grpc.aio.AioRpcError:
                return responses
            if not isinstance(response, pb.StreamResponse):
                return responses
            responses.append(response)

    async def code(self) -> grpc.StatusCode:
        return await asyncio.wait_for(self.call.code(), TIMEOUT)

    async def details(self) -> str:
        return await self.call.details()


class Client:
    """Reaches one server over a socket of its own, and looks at what it has counted."""

    def __init__(self, app: App, addresses: Addresses) -> None:
        self.app = app
        self.addresses = addresses
        options = (
            ("grpc.max_receive_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),
        )
        target = f"{addresses.host}:{addresses.port}"
        self.channel = grpc.aio.insecure_channel(target, options=options)
        self.stub = pb_grpc.VoxelInferenceStub(self.channel)

    def stream(self) -> Stream:
        return Stream(self.channel)

    async def opened(self, model: str = "voxels", **fields: Any) -> Stream:
        stream = self.stream()
        await stream.open(model, **fields)
        return stream

    async def infer(self, frame: pb.Frame, model: str = "voxels", **fields: Any) -> Any:
        request = pb.InferRequest(model=model, frame=frame, **fields)
        return await self.stub.Infer(request, timeout=TIMEOUT)

    async def failed_infer(self, frame: pb.Frame, **fields: Any) -> grpc.aio.AioRpcError:
        try:
            await self.infer(frame, **fields)
        except grpc.aio.AioRpcError as error:
            return error
        raise AssertionError("the call succeeded")

    async def http(self, path: str, method: str = "GET") -> tuple[int, str]:
        """Status and body of a request to the metrics port."""
        reader, writer = await asyncio.open_connection(
            self.addresses.host, self.addresses.metrics_port
        )
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        answer = (await asyncio.wait_for(reader.read(), TIMEOUT)).decode()
        writer.close()
        head, _, body = answer.partition("\r\n\r\n")
        return int(head.split()[1]), body

    def outcomes(self) -> dict[str, float]:
        """Counted outcomes over all models, the zeros left out."""
        totals: dict[str, float] = {}
        for family in self.app.metrics.registry.collect():
            for sample in family.samples:
                if sample.name == "voxgate_frames_total" and sample.value:
                    outcome = sample.labels["outcome"]
                    totals[outcome] = totals.get(outcome, 0) + sample.value
        return totals

    def counted(self) -> tuple[float, float]:
        """Frames received, and frames counted under an outcome."""
        received = sum(
            sample.value
            for family in self.app.metrics.registry.collect()
            for sample in family.samples
            if sample.name == "voxgate_frames_received_total"
        )
        return received, sum(self.outcomes().values())

    async def settle(self, expected: int) -> dict[str, float]:
        """Wait until `expected` frames are counted; gives the outcomes."""
        async with asyncio.timeout(TIMEOUT):
            while self.counted() != (expected, expected):
                await asyncio.sleep(0.01)
        return self.outcomes()

    async def close(self) -> None:
        await self.channel.close()


def chunks(whole: pb.Frame, sizes: Sequence[int]) -> list[pb.FrameChunk]:
    """`whole` cut into parts of so many sites, the last one marked."""
    payload = whole.voxels
    coords = np.frombuffer(payload.coords, np.int32).reshape(-1, 3)
    features = np.frombuffer(payload.features, np.float32).reshape(-1, payload.num_features)
    assert sum(sizes) == len(coords)
    ends = np.cumsum(sizes)
    return [
        pb.FrameChunk(
            part=pb.Frame(
                frame_id=whole.frame_id,
                voxels=voxels(coords[end - size : end], features[end - size : end]),
            ),
            index=index,
            last=index == len(sizes) - 1,
        )
        for index, (size, end) in enumerate(zip(sizes, ends, strict=True))
    ]
