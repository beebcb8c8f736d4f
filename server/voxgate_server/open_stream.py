# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What a stream's `open` asked for, checked and clipped, and the model version it has now."""

from __future__ import annotations

import math
from collections.abc import Sequence

from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_server.codec import OutputSpec
from voxgate_server.errors import InvalidRequest, ModelNotFound, RequestError
from voxgate_server.outbox import Outgoing
from voxgate_server.scheduler import StreamQueue
from voxgate_server.security import Client
from voxgate_server.served_models import ServedModels
from voxgate_server.serving import ServedModel
from voxgate_server.settings import Settings
from voxgate_server.streams import StreamState


class OpenStream:
    """An opened stream: its model, outputs, queue and frames.

    Raises:
        InvalidRequest: a policy or deadline that is none, or an unknown output.
        ModelNotFound: no such model or version for this client, or none that is ready.
    """

    def __init__(
        self, request: pb.StreamOpen, models: ServedModels, client: Client, settings: Settings
    ) -> None:
        if request.policy not in pb.QueuePolicy.values():
            raise InvalidRequest(f"policy: {request.policy} is none of FIFO, LATEST")
        self.frame_deadline = _deadline(request)
        self.served = models.find(request.model, request.version, client)
        self.outputs: Sequence[OutputSpec] = self.served.engine.select(request.outputs)
        self.pinned = bool(request.version)
        self._wanted = list(dict.fromkeys(request.outputs))
        self._latest = request.policy == pb.LATEST
        asked = request.max_queued_frames or settings.queued_frames
        self.max_queued_frames = 1 if self._latest else min(asked, settings.max_queued_frames)
        self._asked_priority = request.priority
        self._priority = client.clip_priority(request.priority)
        self._client = client.key
        self._unusable: RequestError | None = None
        self._next: ServedModel | None = None
        self._kept: ServedModel | None = None
        self.queue = self._new_queue()
        self.state: StreamState[Outgoing] = StreamState(
            self.served.engine.frame_spec,
            settings.chunk_timeout,
            request.unordered,
            settings.grpc_receive_limit,
        )
        self.served.metrics.stream_opened()

    @property
    def next_served(self) -> ServedModel:
        """What answers the next frame that begins."""
        return self._next or self.served

    def follow(self, served: ServedModel) -> None:
        """New frames go to `served`; one that is arriving still goes where it began."""
        self._next = served
        self.settle()

    def settle(self) -> None:
        """See to the version: it stays while a frame is arriving, and then changes if it is due."""
        if self.state.arriving:
            if self._kept is None and not self.served.retired:
                self._kept = self.served
                self.served.keep()
            return
        self._let_go()
        if self._next is None:
            return
        self.served.metrics.stream_closed()
        self.served, self._next = self._next, None
        self.served.metrics.stream_opened()
        self.queue = self._new_queue()
        self.state.spec = self.served.engine.frame_spec
        try:
            self.outputs = self.served.engine.select(self._wanted)
            self._unusable = None
        except InvalidRequest as error:
            self._unusable = error

    def recheck(self, client: Client) -> None:
        """Take over the priority that the client may use by now."""
        self._priority = self.queue.priority = client.clip_priority(self._asked_priority)

    def check_usable(self) -> None:
        """Raise what a new frame is to be answered with if the model has gone or changed."""
        if self._unusable is not None:
            raise self._unusable
        if self.served.retired and self._kept is None:
            model = self.served.model
            raise ModelNotFound(f"model {model.name!r} version {model.version} was unloaded")

    def close(self) -> None:
        self._let_go()
        self.served.metrics.stream_closed()

    def _let_go(self) -> None:
        if self._kept is not None:
            self._kept.let_go()
            self._kept = None

    def _new_queue(self) -> StreamQueue:
        return StreamQueue(self.max_queued_frames, self._latest, self._priority, self._client)


def _deadline(request: pb.StreamOpen) -> float:
    """Seconds from a frame's last byte to its start; infinite where the client sets none."""
    if not request.HasField("frame_deadline"):
        return math.inf
    seconds = request.frame_deadline.seconds + request.frame_deadline.nanos * 1e-9
    if seconds < 0:
        raise InvalidRequest(f"frame_deadline: {seconds:g} s, expected 0 (none) or more")
    return seconds or math.inf
