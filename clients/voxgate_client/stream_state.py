# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The book of one stream: which frames are unanswered, and who answers them. Does no I/O."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import grpc

from voxgate_client.messages import (
    Answer,
    FrameFailure,
    MessageError,
    ModelDescription,
    Notice,
    VoxgateRpcError,
    parse_model,
    parse_result,
    status_code,
)
from voxgate_protos import voxel_inference_pb2 as pb

_LOG = logging.getLogger(__name__)

# With these the server itself ended the stream, and the status answers the stream's open frames.
# Every other end is a broken stream to the caller, whatever the transport calls it.
_DELIBERATE = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
}


class StreamState:
    """Every registered frame gets exactly one answer: the server's, or the stream's end.

    Thread-safe: frames are registered on one thread while answers arrive on another.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._sent_at: dict[str, float] = {}
        self._next_id = 0
        self._end: VoxgateRpcError | None = None
        self.model: ModelDescription | None = None
        self.max_frame_bytes = 0
        self.max_queued_frames = 0

    @property
    def num_unanswered(self) -> int:
        return len(self._sent_at)

    @property
    def end_error(self) -> VoxgateRpcError | None:
        """Why the stream is over; None while it is not."""
        return self._end

    def register(self, frame_id: str) -> str:
        """Notes a frame about to be sent and starts its clock; "" chooses an id.

        Raises:
            MessageError: a frame of that id is unanswered.
            VoxgateRpcError: the stream is over.
        """
        with self._lock:
            if self._end is not None:
                raise VoxgateRpcError(grpc.StatusCode.UNAVAILABLE, f"stream is over: {self._end}")
            while not frame_id:
                candidate, self._next_id = str(self._next_id), self._next_id + 1
                frame_id = "" if candidate in self._sent_at else candidate
            if frame_id in self._sent_at:
                raise MessageError(f"frame {frame_id} of this stream is still unanswered")
            self._sent_at[frame_id] = self._clock()
            return frame_id

    def restart_clock(self, frame_id: str) -> None:
        """Counts the frame's client-seen time from now: its last byte is about to be sent."""
        with self._lock:
            if frame_id in self._sent_at:
                self._sent_at[frame_id] = self._clock()

    def forget(self, frame_id: str) -> None:
        """Drops a frame of which nothing was sent."""
        with self._lock:
            self._sent_at.pop(frame_id, None)

    def receive(self, response: pb.StreamResponse) -> Answer | Notice | None:
        """What one message from the server means to the caller; None: nothing to tell."""
        kind = response.WhichOneof("message")
        if kind == "opened":
            self.model = parse_model(response.opened.model)
            self.max_frame_bytes = response.opened.max_frame_bytes
            self.max_queued_frames = response.opened.max_queued_frames
            return None
        if kind == "result":
            return self._receive_result(response.result)
        if kind == "error":
            return self._receive_error(response.error)
        if kind == "notice":
            notice = response.notice
            model = parse_model(notice.model) if notice.HasField("model") else None
            known = notice.kind in pb.ServerNotice.Kind.values()
            name = pb.ServerNotice.Kind.Name(notice.kind) if known else str(notice.kind)
            return Notice(name, notice.message, model)
        return None  # a member newer than this client

    def _receive_result(self, result: pb.InferResponse) -> Answer | None:
        seconds = self._settle(result.frame_id)
        if seconds is None:
            _LOG.warning("result for frame %r, which is not unanswered, dropped", result.frame_id)
            return None
        try:
            return parse_result(result, seconds)
        except MessageError as error:
            return FrameFailure(result.frame_id, grpc.StatusCode.INTERNAL, str(error), seconds)

    def _receive_error(self, error: pb.FrameError) -> Answer | Notice | None:
        code = status_code(error.code)
        seconds = self._settle(error.frame_id)
        if seconds is not None:
            return FrameFailure(error.frame_id, code, error.message, seconds)
        return Notice("UNMATCHED", f"frame {error.frame_id!r}: {code.name}: {error.message}")

    def _settle(self, frame_id: str) -> float | None:
        with self._lock:
            sent_at = self._sent_at.pop(frame_id, None)
        return None if sent_at is None else self._clock() - sent_at

    def end(self, code: grpc.StatusCode, details: str) -> list[FrameFailure]:
        """Ends the stream and answers what is left; only the first call has an effect."""
        with self._lock:
            if self._end is not None:
                return []
            self._end = VoxgateRpcError(code, details)
            left, self._sent_at = self._sent_at, {}
        now = self._clock()
        if code in _DELIBERATE or code is grpc.StatusCode.CANCELLED:
            answer, message = code, details
        else:
            answer = grpc.StatusCode.UNAVAILABLE
            message = f"stream ended before the answer ({code.name}: {details})"
        return [FrameFailure(i, answer, message, now - sent_at) for i, sent_at in left.items()]
