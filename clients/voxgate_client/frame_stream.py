# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The stream for threads: a `StreamCore` behind a lock, with gRPC's blocking calls around it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from types import TracebackType
from typing import Any

import grpc

from voxgate_client.channel import Endpoint
from voxgate_client.frame_book import PendingFrame
from voxgate_client.frame_messages import chunk_messages, split_frame
from voxgate_client.messages import (
    Answer,
    Frame,
    Notice,
    StreamOptions,
    VoxgateRpcError,
    rpc_error,
)
from voxgate_client.packed_frame import PackedFrame
from voxgate_client.stream_core import Connect, Pull
from voxgate_client.stream_face import SERVER_CLOSED, STREAM_METHOD, StreamBehavior, StreamFace
from voxgate_protos import voxel_inference_pb2 as pb


class FrameStream(StreamFace):
    """Send frames, iterate answers, each frame's exactly once, over as many calls as it takes.

    Answers come as FrameResult or FrameFailure. One thread may send while another iterates. Answers
    not yet fetched are kept in memory. When the connection breaks, its unanswered frames are
    answered UNAVAILABLE (or sent again, with `resend`) and a new one is opened; `notices` tells.
    As a context manager it ends the stream on leaving; what is unanswered then is cancelled.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        channel: grpc.Channel,
        model: str,
        options: StreamOptions,
        behavior: StreamBehavior,
        open_timeout: float,
    ) -> None:
        super().__init__(model, options, behavior, open_timeout)
        self._endpoint = endpoint
        self._first_channel = channel
        self._sending = threading.Lock()  # the chunks of one frame stay together
        self._lock = threading.Lock()  # of the core; all conditions below share it
        self._answered = threading.Condition(self._lock)  # for receivers
        self._room = threading.Condition(self._lock)  # for senders, and for who waits for `opened`
        self._work = threading.Condition(self._lock)  # for writers
        self._due = threading.Condition(self._lock)  # for the keeper
        self._calls: dict[int, Any] = {}
        self._readers: dict[int, threading.Thread] = {}
        self._telling = False  # a thread is at it, and goes on with what comes meanwhile
        self._keeper = threading.Thread(target=self._keep, name="voxgate-stream", daemon=True)
        self._keeper.start()

    def send(
        self,
        frame: Frame | PackedFrame,
        *,
        frame_id: str = "",
        chunk_rows: int | None = None,
        deadline: float | None = None,
        captured_at: datetime | None = None,
        timeout: float | None = None,
    ) -> str:
        """Sends one frame and returns its id; it may wait in the send queue.

        Under LATEST it never waits for room: it replaces the frame that waits, which is answered
        ABORTED, "superseded by <id>".

        Args:
            frame: its own `frame_id` may be "".
            frame_id: in place of the frame's own.
            chunk_rows: sends it in pieces of so many rows; None sends it whole.
            deadline: seconds after which it is no longer sent but answered DEADLINE_EXCEEDED;
                None: the stream's `frame_deadline`.
            captured_at: in place of the frame's own, for a frame sent whole.
            timeout: seconds to wait for room under `max_in_flight` and `send_queue`; 0: raises at
                once; None: as long as it takes.

        Raises:
            MessageError: the frame cannot be sent as it is; nothing was sent.
            TimeoutError: no room in time.
            VoxgateRpcError: the stream is over.
        """
        if isinstance(frame, Frame):
            frame_id = frame_id or frame.frame_id
            if chunk_rows is not None:
                parts = split_frame(frame, chunk_rows)
                return self.send_parts(parts, frame_id, deadline=deadline, timeout=timeout)
        with self._sending:
            pending = self._admit(frame_id, deadline, timeout)
            try:
                message = self._pack(frame, pending.frame_id, captured_at)
            except BaseException:
                self._forget(pending)
                raise
            self._add(pending, message, last=True)
        return pending.frame_id

    def send_parts(
        self,
        parts: Iterable[Frame],
        frame_id: str = "",
        *,
        deadline: float | None = None,
        timeout: float | None = None,
    ) -> str:
        """Sends one frame in parts, each while the next is made, as a sensor turns.

        The parts' rows follow each other in the frame; `captured_at` and `sensor_id` come from the
        first. The answer's `client_seconds` count from the last part. A frame that got its answer
        meanwhile (the connection broke) takes no more parts.

        Raises:
            MessageError: a part cannot be sent; the parts sent so far are cancelled.
            TimeoutError, VoxgateRpcError: as `send`.
        """
        with self._sending:
            pending = self._admit(frame_id, deadline, timeout)
            try:
                for message in chunk_messages(parts, pending.frame_id, self._core.max_frame_bytes):
                    last = message.chunk.last
                    if not self._add(pending, message.SerializeToString(), last=last):
                        break
            except BaseException:
                self._forget(pending)
                raise
        return pending.frame_id

    def cancel(self, frame_id: str) -> None:
        """Drops a frame that waits, or asks the server to; it is still answered.

        The answer is CANCELLED, or the result of a frame that was already executing. After
        `close_sending` the server is not asked any more.
        """
        with self._lock:
            self._core.cancel(frame_id)
            self._wake()

    def close_sending(self) -> None:
        """Says that no frame follows; iteration ends after the last answer."""
        with self._sending, self._lock:
            self._core.close_sending()
            self._wake()

    def close(self) -> None:
        """Ends the stream at once; frames still unanswered come as CANCELLED."""
        with self._lock:
            self._core.close()
            self._wake()
            calls = list(self._calls.values())
        for call in calls:  # the keeper would, but this may be the keeper: on_event may close
            call.cancel()
        _join(self._keeper)
        for reader in list(self._readers.values()):  # none is added after the keeper's end
            _join(reader)

    def __enter__(self) -> FrameStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def receive(self, timeout: float | None = None) -> Answer | None:
        """The next answer; None when the stream is over and everything was fetched.

        Raises:
            TimeoutError: none came in `timeout` seconds.
        """
        core = self._core
        with self._answered:
            if not self._answered.wait_for(lambda: core.answers or core.over, timeout):
                raise TimeoutError(f"no answer in {timeout} s")
            return core.answers.popleft() if core.answers else None

    def __iter__(self) -> Iterator[Answer]:
        while (answer := self.receive()) is not None:
            yield answer

    # Sending ------------------------------------------------------------------------------------

    def _admit(self, frame_id: str, deadline: float | None, timeout: float | None) -> PendingFrame:
        core, expires_at = self._core, self._deadline(deadline)
        gives_up_at = math.inf if timeout is None else time.monotonic() + timeout
        with self._room:
            # A frame that expires here is taken up all the same: its answer says so.
            limit = min(gives_up_at, expires_at)
            wait = None if limit == math.inf else max(0.0, limit - time.monotonic())
            if not self._room.wait_for(core.has_room, wait) and gives_up_at <= expires_at:
                raise TimeoutError(f"{core.num_unanswered} frames unanswered after {timeout} s")
            return core.admit(frame_id, expires_at)

    def _add(self, pending: PendingFrame, message: bytes, *, last: bool) -> bool:
        with self._lock:
            wanted = self._core.add(pending, message, last=last)
            self._work.notify_all()
            if pending.deadline_at < math.inf:
                self._due.notify_all()
            if self._core.answers:
                self._answered.notify_all()
            return wanted

    def _forget(self, pending: PendingFrame) -> None:
        with self._lock:
            self._core.forget(pending)
            self._wake()

    # Connections --------------------------------------------------------------------------------

    def wait_opened(self, timeout: float) -> None:
        """Waits until the server has accepted the stream; raises as `open_stream`."""
        core = self._core
        with self._room:
            self._room.wait_for(lambda: core.model is not None or core.over, timeout)
            opened, end = core.model is not None, core.end_error
        if opened:
            return
        self.close()
        raise end or VoxgateRpcError(
            grpc.StatusCode.DEADLINE_EXCEEDED, f"the stream was not accepted in {timeout} s"
        )

    def _keep(self) -> None:
        """Opens and cancels calls as the core says, until the stream is over."""
        while True:
            with self._due:
                actions = self._core.poll()
                self._wake(except_keeper=True)
                notices = self._claim_notices()
                if not actions and not notices:
                    if self._core.over:
                        return
                    wake_at = self._core.wake_at()
                    left = min(max(0.0, wake_at - time.monotonic()), threading.TIMEOUT_MAX)
                    self._due.wait(None if wake_at == math.inf else left)
                    continue
            self._tell(notices)
            for action in actions:
                if isinstance(action, Connect):
                    self._connect(action.epoch)
                elif (call := self._calls.get(action.epoch)) is not None:
                    call.cancel()

    def _connect(self, epoch: int) -> None:
        channel = None
        try:
            if epoch > 1:
                channel = self._endpoint.channel(own_connection=True)
            open_call: Any = (channel or self._first_channel).stream_stream(
                STREAM_METHOD, None, pb.StreamResponse.FromString
            )
            call = open_call(self._requests(epoch), metadata=self._endpoint.metadata)
        except (OSError, ValueError, grpc.RpcError) as error:
            # A certificate that cannot be read now, or the client was closed meanwhile.
            self._note_end(epoch, grpc.StatusCode.UNAVAILABLE, str(error))
            return
        self._calls[epoch] = call
        reader = threading.Thread(
            target=self._read, args=(epoch, call, channel), name="voxgate-answers", daemon=True
        )
        self._readers[epoch] = reader
        reader.start()

    def _requests(self, epoch: int) -> Iterator[bytes]:
        """What gRPC's own thread writes; it asks for the next when the last one is on its way."""
        while True:
            with self._work:
                message = self._core.next_message(epoch)
                while message is Pull.WAIT:
                    self._work.wait()
                    message = self._core.next_message(epoch)
                if self._core.answers:
                    self._answered.notify_all()
                self._room.notify_all()
            if isinstance(message, Pull):
                return
            yield message

    def _read(self, epoch: int, call: Any, channel: grpc.Channel | None) -> None:
        code, details = grpc.StatusCode.OK, SERVER_CLOSED
        try:
            for response in call:
                with self._lock:
                    self._core.receive(epoch, response)
                    self._wake()
                    notices = self._claim_notices()
                self._tell(notices)
        except grpc.RpcError as error:
            failure = rpc_error(error)
            code, details = failure.code, failure.message
        finally:
            call.cancel()  # where it was not gRPC that ended it
            self._calls.pop(epoch, None)
            self._note_end(epoch, code, details)
            if channel is not None:
                channel.close()
            self._readers.pop(epoch, None)  # last: `close` waits for what is told here

    def _note_end(self, epoch: int, code: grpc.StatusCode, details: str) -> None:
        with self._lock:
            self._core.ended(epoch, code, details)
            self._wake()
            notices = self._claim_notices()
        self._tell(notices)

    def _claim_notices(self) -> list[Notice]:
        """What this thread is to tell, all in its order: none while another one tells.

        The lock is held.
        """
        if self._telling:
            return []
        notices = self._take_notices()
        self._telling = bool(notices)
        return notices

    def _tell(self, notices: list[Notice]) -> None:
        while notices:
            super()._tell(notices)
            with self._lock:
                self._telling = False
                notices = self._claim_notices()

    def _wake(self, *, except_keeper: bool = False) -> None:
        """Wakes those for whom the core's last change may matter. The lock is held."""
        core = self._core
        if core.answers or core.over:
            self._answered.notify_all()
        self._room.notify_all()
        if core.wants_writer() or core.over:
            self._work.notify_all()
        if not except_keeper and (core.over or core.wake_at() < math.inf):
            self._due.notify_all()


def _join(thread: threading.Thread) -> None:
    if thread is not threading.current_thread():
        thread.join()
