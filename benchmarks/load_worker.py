# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A fleet's process: many streams to one server, closed loop or at a fixed rate.

Messages are serialized once and only their ids are new, as robots' processes would not share one
core with each other: what is measured beside the server is gRPC's own work and little else.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.protocol import serve

# Behind the last frame of a run: what a server that keeps its promises never needs.
_LAST_ANSWERS_SECONDS = 60.0
_METHOD = "/voxgate.v1.VoxelInference/StreamInfer"


@dataclass
class _Stream:
    """One open call and what became of its frames."""

    call: Any
    sent_at: dict[str, float] = field(default_factory=dict)
    answers: list[dict[str, Any]] = field(default_factory=list)
    free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    next_id: int = 0


class LoadWorker:
    """Opens streams and drives them; every answer comes back with its times."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._streams: list[_Stream] = []
        self._bodies: list[bytes] = []
        self._kinds: list[int] = []
        self._readers: list[asyncio.Task[None]] = []
        self._start = 0.0

    def connect(
        self,
        target: str,
        model: str,
        frames: list[tuple[NDArray[np.int32], NDArray[np.float32]]],
        streams: list[dict[str, Any]],
        timeout: float,
    ) -> None:
        """Open the streams as soon as the server answers.

        Args:
            frames: coords `[N, D]` and features of every kind of frame.
            streams: the fields of each one's StreamOpen beside its model.
            timeout: seconds.
        """
        self._bodies = [_body(coords, features) for coords, features in frames]
        self._loop.run_until_complete(self._connect(target, model, streams, timeout))

    def closed_loop(
        self, seconds: float, in_flight: int, kinds: list[int] | None = None
    ) -> list[list[dict[str, Any]]]:
        """Every stream keeps so many frames in flight for so long.

        It goes through the frames of `kinds`, all unless given, in turn. Returns, per stream, its
        answers: kind, latency (s), code, done_at (s from the start) and the server's stages (us).
        """
        self._kinds = kinds or list(range(len(self._bodies)))
        return self._loop.run_until_complete(self._drive(seconds, self._refill, in_flight))

    def open_loop(self, seconds: float, rate: float) -> list[list[dict[str, Any]]]:
        """Every stream sends `rate` frames a second, come what may; returns as `closed_loop`.

        A latency counts from the moment that the frame was due.
        """
        self._kinds = list(range(len(self._bodies)))
        return self._loop.run_until_complete(self._drive(seconds, self._schedule, rate))

    def disconnect(self) -> None:
        """End the streams and the connection."""
        self._loop.run_until_complete(self._disconnect())

    async def _connect(
        self, target: str, model: str, streams: list[dict[str, Any]], timeout: float
    ) -> None:
        import grpc.aio

        from voxgate_protos import voxel_inference_pb2 as pb

        options = (("grpc.max_receive_message_length", -1),)
        self._channel = grpc.aio.insecure_channel(target, options)
        await asyncio.wait_for(self._channel.channel_ready(), timeout)
        method: Any = self._channel.stream_stream(_METHOD)
        for fields in streams:
            call = method()
            opening = pb.StreamRequest(open=pb.StreamOpen(model=model, **fields))
            await call.write(opening.SerializeToString())
            opened = pb.StreamResponse.FromString(await asyncio.wait_for(call.read(), timeout))
            if opened.WhichOneof("message") != "opened":
                raise RuntimeError(f"expected the stream to open, got {opened}")
            stream = _Stream(call)
            self._streams.append(stream)
            # One reader for as long as the call: to cancel a read is to cancel the call.
            self._readers.append(asyncio.create_task(self._read(stream)))

    async def _drive(self, seconds: float, send: Any, pace: float) -> list[list[dict[str, Any]]]:
        start = self._start = time.perf_counter()
        for stream in self._streams:
            stream.answers = []
        senders = [
            send(index, stream, start, seconds, pace) for index, stream in enumerate(self._streams)
        ]
        await asyncio.gather(*senders)
        deadline = time.perf_counter() + _LAST_ANSWERS_SECONDS
        while any(stream.sent_at for stream in self._streams):
            if time.perf_counter() > deadline:
                left = [len(stream.sent_at) for stream in self._streams]
                raise RuntimeError(f"unanswered after {_LAST_ANSWERS_SECONDS} s: {left}")
            await asyncio.sleep(0.01)
        return [stream.answers for stream in self._streams]

    async def _refill(
        self, index: int, stream: _Stream, start: float, seconds: float, in_flight: float
    ) -> None:
        stream.free = asyncio.Semaphore(int(in_flight))
        while time.perf_counter() < start + seconds:
            await stream.free.acquire()
            await self._send(index, stream, time.perf_counter())

    async def _schedule(
        self, index: int, stream: _Stream, start: float, seconds: float, rate: float
    ) -> None:
        # Robots are not in step: streams begin one after the other within one period.
        first = start + index / len(self._streams) / rate
        for number in range(int(seconds * rate)):
            due = first + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            await self._send(index, stream, due)

    async def _send(self, index: int, stream: _Stream, since: float) -> None:
        number = stream.next_id
        stream.next_id += 1
        kind = self._kinds[(number + index) % len(self._kinds)]
        frame_id = f"{kind}-{number:08d}"
        stream.sent_at[frame_id] = since
        await stream.call.write(_message(frame_id, self._bodies[kind]))

    async def _read(self, stream: _Stream) -> None:
        from voxgate_protos import voxel_inference_pb2 as pb

        while True:
            response = pb.StreamResponse.FromString(await stream.call.read())
            kind = response.WhichOneof("message")
            if kind not in ("result", "error"):
                continue
            now = time.perf_counter()
            answer = getattr(response, kind)
            timing = answer.timing if kind == "result" else pb.Timing()
            stream.answers.append(
                {
                    "kind": int(answer.frame_id.partition("-")[0]),
                    "latency": now - stream.sent_at.pop(answer.frame_id),
                    "code": 0 if kind == "result" else answer.code,
                    "done_at": now - self._start,
                    **{f.name: getattr(timing, f.name) for f in timing.DESCRIPTOR.fields},
                }
            )
            stream.free.release()

    async def _disconnect(self) -> None:
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        self._streams, self._readers = [], []
        await self._channel.close()


def _body(coords: NDArray[np.int32], features: NDArray[np.float32]) -> bytes:
    """A serialized Frame without its id."""
    from voxgate_protos import voxel_inference_pb2 as pb

    voxels = pb.SparseVoxels(
        num_sites=len(coords),
        coords_dtype=pb.INT16,
        coords=coords.astype("<i2").tobytes(),
        num_features=features.shape[1],
        features_dtype=pb.FLOAT32,
        features=features.tobytes(),
    )
    return pb.Frame(voxels=voxels).SerializeToString()


def _message(frame_id: str, body: bytes) -> bytes:
    """A StreamRequest with the frame of `body`: protobuf lets fields be put together as bytes."""
    from voxgate_ops.protobuf_wire import encode_varint
    from voxgate_protos import voxel_inference_pb2 as pb

    head = pb.Frame(frame_id=frame_id).SerializeToString()
    tag = bytes([pb.StreamRequest.DESCRIPTOR.fields_by_name["frame"].number << 3 | 2])
    return b"".join((tag, encode_varint(len(head) + len(body)), head, body))


if __name__ == "__main__":
    serve(LoadWorker())
