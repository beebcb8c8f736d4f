# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The synchronous client."""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

import grpc
from numpy.typing import NDArray

from voxgate_client.channel import (
    DEFAULT_MAX_ANSWER_BYTES,
    DEFAULT_TARGET,
    DEFAULT_TIMEOUT_S,
    channel_options,
)
from voxgate_client.messages import (
    Answer,
    Frame,
    FrameResult,
    ModelDescription,
    Notice,
    StreamOptions,
    VoxgateRpcError,
    chunk_messages,
    open_message,
    pack_frame,
    parse_model,
    parse_result,
    rpc_error,
    split_frame,
)
from voxgate_client.stream_state import StreamState
from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_protos import voxel_inference_pb2_grpc as pb_grpc


class VoxgateClient:
    """A connection to one server; thread-safe, usable as a context manager.

    Args:
        target: "host:port".
        credentials: gRPC channel credentials; None connects without TLS.
        timeout: seconds a call may take unless it says otherwise.
        max_answer_bytes: an answer above it fails with RESOURCE_EXHAUSTED.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
        max_answer_bytes: int = DEFAULT_MAX_ANSWER_BYTES,
    ) -> None:
        self.target = target
        self._timeout = timeout
        options = channel_options(max_answer_bytes)
        self._channel = (
            grpc.insecure_channel(target, options)
            if credentials is None
            else grpc.secure_channel(target, credentials, options)
        )
        self._stub = pb_grpc.VoxelInferenceStub(self._channel)
        self._max_frame_bytes: dict[tuple[str, str], int] = {}

    def __enter__(self) -> VoxgateClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; open streams end with CANCELLED."""
        self._channel.close()

    def list_models(self, timeout: float | None = None) -> list[ModelDescription]:
        """Every model the server shows, also those that failed to load. Raises VoxgateRpcError."""
        try:
            response = self._stub.ListModels(
                pb.ListModelsRequest(), timeout=timeout or self._timeout
            )
        except grpc.RpcError as error:
            raise rpc_error(error) from error
        return [parse_model(info) for info in response.models]

    def get_model(
        self, name: str, version: str = "", timeout: float | None = None
    ) -> ModelDescription:
        """One model; VoxgateRpcError with NOT_FOUND when there is none of that name and version."""
        request = pb.GetModelRequest(name=name, version=version)
        try:
            info = self._stub.GetModel(request, timeout=timeout or self._timeout)
        except grpc.RpcError as error:
            raise rpc_error(error) from error
        return parse_model(info)

    def infer(
        self,
        model: str,
        *,
        points: NDArray[Any] | None = None,
        coords: NDArray[Any] | None = None,
        features: NDArray[Any] | None = None,
        version: str = "",
        outputs: tuple[str, ...] = (),
        frame_id: str = "0",
        sensor_id: str = "",
        timeout: float | None = None,
    ) -> FrameResult:
        """Runs one frame and waits for its answer; `Frame` says what the arrays are.

        The first call for a model also asks for the server's limit on a frame's bytes.

        Raises:
            MessageError: the frame cannot be sent as it is, or is above the server's limit.
            VoxgateRpcError: the server refused the frame, or was not reached.
        """
        key = (model, version)
        if key not in self._max_frame_bytes:
            self._max_frame_bytes[key] = self.get_model(model, version, timeout).max_frame_bytes
        frame = Frame(points, coords, features, frame_id, sensor_id)
        request = pb.InferRequest(model=model, version=version, outputs=outputs)
        pack_frame(request.frame, frame, self._max_frame_bytes[key])
        start = time.perf_counter()
        try:
            response = self._stub.Infer(request, timeout=timeout or self._timeout)
        except grpc.RpcError as error:
            raise rpc_error(error) from error
        return parse_result(response, time.perf_counter() - start)

    def open_stream(
        self,
        model: str,
        options: StreamOptions | None = None,
        *,
        max_in_flight: int = 0,
        timeout: float | None = None,
    ) -> FrameStream:
        """Opens a stream and waits until the server has accepted it.

        Args:
            model: the model's name.
            options: see StreamOptions.
            max_in_flight: `send` waits while so many frames are unanswered; 0: it never waits.
            timeout: seconds to wait for the server to accept.

        Raises:
            VoxgateRpcError: the server refused the stream (NOT_FOUND: no such model), was not
                reached (UNAVAILABLE) or did not accept it in time (DEADLINE_EXCEEDED).
        """
        stream = FrameStream(self._stub, model, options or StreamOptions(), max_in_flight)
        stream._wait_opened(timeout or self._timeout)
        return stream


class FrameStream:
    """One StreamInfer call: send frames, iterate answers, each frame's exactly once.

    Answers come as FrameResult or FrameFailure. One thread may send while another iterates. Answers
    not yet fetched are kept in memory. As a context manager it ends the stream on leaving; what is
    unanswered then is cancelled.
    """

    def __init__(
        self,
        stub: pb_grpc.VoxelInferenceStub,
        model: str,
        options: StreamOptions,
        max_in_flight: int,
    ) -> None:
        self.notices: list[Notice] = []
        self._state = StreamState()
        self._max_in_flight = max_in_flight
        self._outbox: queue.SimpleQueue[pb.StreamRequest | None] = queue.SimpleQueue()
        self._inbox: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()
        self._sending = threading.Lock()  # the chunks of one frame stay together
        self._changed = threading.Condition()  # an answer or `opened` came, or the end
        self._closed_sending = False
        self._outbox.put(open_message(model, options))
        self._call = stub.StreamInfer(iter(self._outbox.get, None))
        self._reader = threading.Thread(target=self._read, name="voxgate-answers", daemon=True)
        self._reader.start()

    @property
    def model(self) -> ModelDescription:
        """The model that answers."""
        assert self._state.model is not None  # open_stream waited for it
        return self._state.model

    @property
    def max_queued_frames(self) -> int:
        """Frames of this stream the server lets wait."""
        return self._state.max_queued_frames

    @property
    def num_unanswered(self) -> int:
        return self._state.num_unanswered

    def send(
        self, frame: Frame, *, chunk_rows: int | None = None, timeout: float | None = None
    ) -> str:
        """Sends one frame and returns its id.

        Args:
            frame: its `frame_id` may be "".
            chunk_rows: sends it in pieces of so many rows; None sends it whole.
            timeout: seconds to wait for room under `max_in_flight`; None: as long as it takes.

        Raises:
            MessageError: the frame cannot be sent as it is; nothing was sent.
            TimeoutError: no room in time.
            VoxgateRpcError: the stream is over.
        """
        if chunk_rows is not None:
            return self.send_parts(split_frame(frame, chunk_rows), frame.frame_id, timeout=timeout)
        with self._sending:
            frame_id = self._admit(frame.frame_id, timeout)
            request = pb.StreamRequest()
            try:
                named = dataclasses.replace(frame, frame_id=frame_id)
                pack_frame(request.frame, named, self._state.max_frame_bytes)
            except BaseException:
                self._state.forget(frame_id)
                raise
            self._outbox.put(request)
        return frame_id

    def send_parts(
        self, parts: Iterable[Frame], frame_id: str = "", *, timeout: float | None = None
    ) -> str:
        """Sends one frame in parts, each while the next is made, as a sensor turns.

        The parts' rows follow each other in the frame; `captured_at` and `sensor_id` come from the
        first. The answer's `client_seconds` count from the last part.

        Raises:
            MessageError: a part cannot be sent; the parts sent so far are cancelled.
            TimeoutError, VoxgateRpcError: as `send`.
        """
        with self._sending:
            frame_id = self._admit(frame_id, timeout)
            num_sent = 0
            try:
                for message in chunk_messages(parts, frame_id, self._state.max_frame_bytes):
                    self._state.restart_clock(frame_id)
                    self._outbox.put(message)
                    num_sent += 1
            except BaseException:
                if num_sent:
                    self._outbox.put(pb.StreamRequest(cancel_frame_id=frame_id))
                else:
                    self._state.forget(frame_id)
                raise
        return frame_id

    def cancel(self, frame_id: str) -> None:
        """Asks the server to drop a frame; it is still answered, with CANCELLED or its result."""
        self._outbox.put(pb.StreamRequest(cancel_frame_id=frame_id))

    def close_sending(self) -> None:
        """Says that no frame follows; iteration ends after the last answer."""
        with self._sending:
            if not self._closed_sending:
                self._closed_sending = True
                self._outbox.put(None)

    def close(self) -> None:
        """Ends the stream at once; frames still unanswered come as CANCELLED."""
        self._call.cancel()  # first: a thread that waits for room in `send` holds what follows
        self.close_sending()
        self._reader.join()

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
        try:
            answer = self._inbox.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"no answer in {timeout} s") from None
        if answer is None:
            self._inbox.put(None)  # for the next call, or another thread's
        return answer

    def __iter__(self) -> Iterator[Answer]:
        while (answer := self.receive()) is not None:
            yield answer

    def _admit(self, frame_id: str, timeout: float | None) -> str:
        if self._closed_sending:
            raise VoxgateRpcError(grpc.StatusCode.FAILED_PRECONDITION, "sending was closed")
        if self._max_in_flight:
            with self._changed:
                if not self._changed.wait_for(self._has_room, timeout):
                    raise TimeoutError(
                        f"{self._state.num_unanswered} frames unanswered after {timeout} s"
                    )
        return self._state.register(frame_id)

    def _has_room(self) -> bool:
        return self._state.end_error is not None or self._state.num_unanswered < self._max_in_flight

    def _wait_opened(self, timeout: float) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._state.model is not None or self._state.end_error is not None, timeout
            )
        if self._state.model is not None:
            return
        end = self._state.end_error
        self.close()
        if end is not None:
            raise end
        raise VoxgateRpcError(
            grpc.StatusCode.DEADLINE_EXCEEDED, f"the stream was not accepted in {timeout} s"
        )

    def _read(self) -> None:
        code, details = grpc.StatusCode.OK, "the server closed the stream"
        try:
            for response in self._call:
                answer = self._state.receive(response)
                if isinstance(answer, Notice):
                    self.notices.append(answer)
                elif answer is not None:
                    self._inbox.put(answer)
                with self._changed:
                    self._changed.notify_all()
        except grpc.RpcError as error:
            failure = rpc_error(error)
            code, details = failure.code, failure.message
        finally:
            for failure_answer in self._state.end(code, details):
                self._inbox.put(failure_answer)
            self._inbox.put(None)
            self._outbox.put(None)  # frees gRPC's thread that waits for requests
            with self._changed:
                self._changed.notify_all()
