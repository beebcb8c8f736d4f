# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Streams that always have frames unanswered, and keep what becomes of each."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
from tests.end_to_end.faults.process import PATIENCE, ServerProcess, opened
from tests.server.driver import TIMEOUT, Stream, arrays, chunks, frame

from voxgate_protos import voxel_inference_pb2 as pb

SITES = 12
NOT_FOUND: int = grpc.StatusCode.NOT_FOUND.value[0]


class LoadedStream:
    """Sends frame after frame, `window` of them unanswered at once, until `stop` or DRAINING.

    Every frame is one of `SITES` sites. In chunks, it waits after each one for the event loop, so
    that anything may happen in the middle of a frame.
    """

    def __init__(self, stream: Stream, window: int = 4, *, chunked: bool = False) -> None:
        self.sent: dict[str, pb.Frame] = {}
        self.results: dict[str, pb.InferResponse] = {}
        self.errors: dict[str, pb.FrameError] = {}
        self.notices: list[pb.ServerNotice] = []
        self.code: grpc.StatusCode | None = None
        self._stream = stream
        self._window = window
        self._chunked = chunked
        self._stopped = False
        self._changed = asyncio.Event()
        self.task = asyncio.create_task(self._run())

    @property
    def unanswered(self) -> set[str]:
        return self.sent.keys() - self.results.keys() - self.errors.keys()

    @property
    def versions(self) -> list[str]:
        """Which version gave each result, in the order the frames were sent."""
        return [self.results[i].version for i in self.sent if i in self.results]

    @property
    def reloads(self) -> list[str]:
        """The versions that MODEL_RELOADED notices named."""
        kind = pb.ServerNotice.MODEL_RELOADED
        return [notice.model.version for notice in self.notices if notice.kind == kind]

    @property
    def draining(self) -> bool:
        return any(notice.kind == pb.ServerNotice.DRAINING for notice in self.notices)

    async def until(self, condition: Callable[[LoadedStream], Any], what: str) -> None:
        """Wait until `condition` holds after some message of the server."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition(self):
                    assert not self.task.done(), f"no {what}: the stream ended, {self}"
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"no {what} in {PATIENCE:g} s: {self}") from None

    async def more(self, count: int = 10) -> None:
        """Wait for so many answers more."""
        target = len(self.results) + len(self.errors) + count
        await self.until(lambda s: len(s.results) + len(s.errors) >= target, f"{count} answers")

    async def stop(self) -> None:
        """Send no more, and wait for the answers that are due and the stream's end."""
        self._stopped = True
        await asyncio.wait_for(self.task, PATIENCE)

    def scale(self, frame_id: str) -> float:
        """What the model that gave this result multiplies with: see `picky_model`."""
        payload = self.sent[frame_id].voxels
        coords = np.frombuffer(payload.coords, np.int32).reshape(-1, 3)
        features = np.frombuffer(payload.features, np.float32).reshape(-1, 2)
        first, score = features[:, 0], arrays(self.results[frame_id])["score"]
        scale = round(float(first @ (score - coords[:, 1]) / (first @ first)), 2)
        np.testing.assert_allclose(score, scale * first + coords[:, 1], atol=1e-4)
        return scale

    async def _run(self) -> None:
        number = 0
        half_closed = False
        while True:
            while not self._ending and len(self.unanswered) < self._window:
                await self._send(frame(f"{number}", SITES, number))
                number += 1
            if self._ending and not half_closed:
                half_closed = True
                with contextlib.suppress(asyncio.InvalidStateError):
                    await self._stream.call.done_writing()
            if not await self._read():
                break
        self.code = await self._stream.code()
        self._changed.set()

    @property
    def _ending(self) -> bool:
        return self._stopped or self.draining

    async def _send(self, sent: pb.Frame) -> None:
        self.sent[sent.frame_id] = sent
        # Where the server has ended the call, reading says so.
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            if not self._chunked:
                await self._stream.send(frame=sent)
                return
            for chunk in chunks(sent, [SITES // 3] * 3):
                await self._stream.send(chunk=chunk)
                await asyncio.sleep(0)

    async def _read(self) -> bool:
        try:
            response = await asyncio.wait_for(self._stream.call.read(), TIMEOUT)
        except grpc.aio.AioRpcError:
            return False
        if not isinstance(response, pb.StreamResponse):
            return False
        kind = response.WhichOneof("message")
        if kind == "notice":
            self.notices.append(response.notice)
        else:
            answer = response.result if kind == "result" else response.error
            assert answer.frame_id in self.unanswered, f"answered twice, or never sent: {answer}"
            answers: dict[str, Any] = self.results if kind == "result" else self.errors
            answers[answer.frame_id] = answer
        self._changed.set()
        return True

    def __repr__(self) -> str:
        errors = [f"{e.frame_id}: {e.code} {e.message}" for e in self.errors.values()][:3]
        return (
            f"{len(self.sent)} sent, {len(self.results)} results, {len(self.errors)} errors "
            f"{errors}, notices {[n.kind for n in self.notices]}, status {self.code}"
        )


@asynccontextmanager
async def loaded_streams(
    server: ServerProcess, openings: Sequence[dict[str, Any]], window: int = 4
) -> AsyncIterator[list[LoadedStream]]:
    """A LoadedStream for each opening; all are told to stop in the end.

    Args:
        openings: fields of `StreamOpen`, and `chunked=True` for frames in chunks.
    """
    async with server.channel() as channel:
        streams = []
        for opening in openings:
            fields = {"outputs": ["score"], **opening}
            chunked = fields.pop("chunked", False)
            stream = await opened(channel, **fields)
            streams.append(LoadedStream(stream, window, chunked=chunked))
        try:
            yield streams
        except BaseException:
            for stream in streams:
                stream.task.cancel()
            raise
        for stream in streams:
            await stream.stop()
