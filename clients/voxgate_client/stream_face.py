# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What the threaded and the asyncio stream share around their core: making it, reading it."""

from __future__ import annotations

import dataclasses
import logging
import math
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from voxgate_client.backoff import Backoff
from voxgate_client.frame_messages import frame_request
from voxgate_client.messages import (
    Frame,
    ModelDescription,
    Notice,
    QueuePolicy,
    StreamOptions,
    open_message,
)
from voxgate_client.packed_frame import PackedFrame
from voxgate_client.stream_core import StreamCore
from voxgate_protos import voxel_inference_pb2 as pb

_LOG = logging.getLogger(__name__)

SERVICE = pb.DESCRIPTOR.services_by_name["VoxelInference"].full_name
STREAM_METHOD = f"/{SERVICE}/StreamInfer"
SERVER_CLOSED = "the server closed the stream"
DEFAULT_SEND_QUEUE = 16
# A robot that loses its network every minute must not remember that for a year.
_MAX_NOTICES = 256

EventCallback = Callable[[Notice], None]


@dataclass(frozen=True)
class StreamBehavior:
    """How a stream is kept on this side; see `open_stream` for each of them."""

    max_in_flight: int = 0
    send_queue: int = DEFAULT_SEND_QUEUE
    reconnect: bool | Backoff = True
    resend: bool = False
    on_event: EventCallback | None = None
    parse_outputs: bool = True


class StreamFace:
    """Settings, core and notices of a stream; the faces add how to wait and to do I/O."""

    def __init__(
        self, model: str, options: StreamOptions, behavior: StreamBehavior, open_timeout: float
    ) -> None:
        self.notices: deque[Notice] = deque(maxlen=_MAX_NOTICES)
        self._options = options
        self._on_event = behavior.on_event
        backoff = Backoff() if behavior.reconnect is True else behavior.reconnect or None
        self._core = StreamCore(
            open_message(model, options).SerializeToString(),
            latest=options.policy is QueuePolicy.LATEST,
            max_waiting=behavior.send_queue,
            max_in_flight=behavior.max_in_flight,
            resend=behavior.resend,
            backoff=backoff,
            open_timeout=open_timeout,
            clock=time.monotonic,
            random=random.random,
            parse_outputs=behavior.parse_outputs,
        )

    @property
    def model(self) -> ModelDescription:
        """The model that answers; changes with reloads and reconnects."""
        assert self._core.model is not None  # open_stream waited for it
        return self._core.model

    @property
    def max_frame_bytes(self) -> int:
        """Bytes of a frame's arrays that the server takes."""
        return self._core.max_frame_bytes

    @property
    def max_queued_frames(self) -> int:
        """Frames of this stream the server lets wait."""
        return self._core.max_queued_frames

    @property
    def num_unanswered(self) -> int:
        """Frames sent, or waiting to be sent, that have no answer yet."""
        return self._core.num_unanswered

    def _deadline(self, seconds: float | None) -> float:
        limit = self._options.frame_deadline if seconds is None else seconds
        return time.monotonic() + limit if limit else math.inf

    def _pack(self, frame: Frame | PackedFrame, frame_id: str, moment: datetime | None) -> bytes:
        if isinstance(frame, PackedFrame):
            return frame.request(frame_id, moment)
        moment = moment or frame.captured_at
        named = dataclasses.replace(frame, frame_id=frame_id, captured_at=moment)
        return frame_request(named, self._core.max_frame_bytes)

    def _tell(self, notices: list[Notice]) -> None:
        """Keeps notices and hands them to the caller's callback, whose errors are its own."""
        for notice in notices:
            self.notices.append(notice)
            if self._on_event is not None:
                try:
                    self._on_event(notice)
                except Exception:
                    _LOG.exception("on_event failed on %s", notice.kind)

    def _take_notices(self) -> list[Notice]:
        taken = list(self._core.notices)
        self._core.notices.clear()
        return taken
