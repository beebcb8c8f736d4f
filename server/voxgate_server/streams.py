# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The rules of one stream, as pure state: ids, chunks and the order of answers.

No I/O and no clock: the caller passes times and acts on what comes back. A frame that arrives
gives exactly one `Arrival` or one `Broken`; an `Arrival`'s answer goes through `answer`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_server.codec import FrameSpec, Payload, VoxelPart, check_limits, payload_of
from voxgate_server.errors import (
    DeadlineExceeded,
    DuplicateFrame,
    FrameCancelled,
    InvalidFrame,
    RequestError,
)
from voxgate_server.wire import NO_ARRAYS, Arrays

MAX_ID_BYTES = 128
# What a chunk costs beside its bytes while its frame is incomplete: without it a frame of endless
# empty chunks would be within every limit.
_CHUNK_OVERHEAD_BYTES = 1024
# Chunks of so many broken frames are told from new ones; a client interleaves few.
_MAX_BROKEN_IDS = 16

Answer = TypeVar("Answer")


@dataclass(slots=True)
class Arrival:
    """A frame whose bytes are all here. Times are the server's monotonic clock, in seconds.

    `captured_at` is in seconds since 1970 by the client's clock, which may say anything;
    `held_bytes` is what its messages take in memory; `reads` is for whoever begins to read the
    parts while more are coming.
    """

    frame_id: str
    sensor_id: str
    parts: list[Payload]
    first_at: float
    last_at: float
    captured_at: float | None = None
    held_bytes: int = 0
    reads: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Broken:
    """A frame that will not be run: `error` answers it."""

    frame_id: str
    error: RequestError


Event: TypeAlias = Arrival | Broken


@dataclass(slots=True)
class _Assembly:
    """A frame that is arriving in chunks."""

    arrival: Arrival
    next_index: int = 0
    sites: int = 0
    size: int = 0
    held_bytes: int = 0

    def hold(self, message_bytes: int, limit: float) -> None:
        self.held_bytes += message_bytes + _CHUNK_OVERHEAD_BYTES
        if self.held_bytes > limit:
            raise InvalidFrame(
                f"frame: {self.held_bytes} bytes of messages up to chunk {self.next_index} "
                f"({_CHUNK_OVERHEAD_BYTES} added for each), the limit is {limit:.0f}"
            )

    def add(self, payload: Payload, spec: FrameSpec) -> None:
        _check_same_type(self.arrival.parts, payload)
        self.sites += payload.count
        self.size += payload.nbytes
        check_limits(self.sites, self.size, spec)
        self.arrival.parts.append(payload)
        self.next_index += 1


@dataclass(slots=True)
class _Unanswered(Generic[Answer]):
    result: Answer | None = None


@dataclass(slots=True)
class StreamState(Generic[Answer]):
    """What one stream has open. `Answer` is whatever the caller wants back in order.

    `max_held_bytes` bounds the messages of a frame that is arriving in chunks: they are held whole.
    """

    spec: FrameSpec
    chunk_timeout: float
    unordered: bool = False
    max_held_bytes: float = math.inf
    _unanswered: dict[str, _Unanswered[Answer]] = field(default_factory=dict)
    _assembly: _Assembly | None = None
    # Ids whose chunks are dropped until their last one; a dict for its order.
    _broken: dict[str | int, None] = field(default_factory=dict)

    @property
    def idle(self) -> bool:
        """Every frame that arrived has been answered and none is arriving."""
        return not self._unanswered and self._assembly is None

    @property
    def arriving(self) -> Arrival | None:
        """The frame that is arriving in chunks, as far as it is here."""
        return None if self._assembly is None else self._assembly.arrival

    @property
    def arriving_bytes(self) -> int:
        """What the messages of the frame that is arriving take in memory."""
        return 0 if self._assembly is None else self._assembly.held_bytes

    @property
    def chunk_deadline(self) -> float | None:
        """When the frame that is arriving in chunks is given up; None: there is none."""
        if self._assembly is None:
            return None
        return self._assembly.arrival.last_at + self.chunk_timeout

    def frame(
        self, frame: pb.Frame, now: float, message_bytes: int = 0, arrays: Arrays = NO_ARRAYS
    ) -> list[Event]:
        """A frame in one piece, which came in a message of so many bytes.

        `arrays` is what `wire.parse` cut out of it.
        """
        events: list[Event] = []
        if self._assembly is not None and frame.frame_id != self._assembly.arrival.frame_id:
            events.append(self._interrupt(f"by frame {_shown(frame.frame_id)}"))
        try:
            self._check_new(frame.frame_id)
            payload = payload_of(frame, self.spec, arrays)
            check_limits(payload.count, payload.nbytes, self.spec)
        except RequestError as error:
            events.append(Broken(frame.frame_id, error))
        else:
            events.append(self._complete(arrival_of(frame, now, payload), message_bytes))
        return events

    def chunk(
        self,
        chunk: pb.FrameChunk,
        now: float,
        message_bytes: int = 0,
        arrays: Arrays = NO_ARRAYS,
    ) -> list[Event]:
        """A piece of a frame, which came in a message of so many bytes; `arrays` as of `frame`."""
        frame_id = chunk.part.frame_id
        events: list[Event] = []
        assembly = self._assembly
        if assembly is None or frame_id != assembly.arrival.frame_id:
            if _key(frame_id) in self._broken and chunk.index > 0:
                if chunk.last:
                    del self._broken[_key(frame_id)]
                return events
            if assembly is not None:
                events.append(self._interrupt(f"by a chunk of frame {_shown(frame_id)}"))
            self._broken.pop(_key(frame_id), None)
            try:
                self._check_new(frame_id)
            except RequestError as error:
                events.append(self._break(frame_id, error, chunk.last))
                return events
            assembly = _Assembly(arrival_of(chunk.part, now))
        try:
            if chunk.index != assembly.next_index:
                raise InvalidFrame(
                    f"chunk out of order: expected index {assembly.next_index}, got {chunk.index}"
                )
            assembly.hold(message_bytes, self.max_held_bytes)
            assembly.add(payload_of(chunk.part, self.spec, arrays), self.spec)
        except RequestError as error:
            events.append(self._break(frame_id, error, chunk.last))
            return events
        assembly.arrival.last_at = now
        if chunk.last:
            self._assembly = None
            events.append(self._complete(assembly.arrival, assembly.held_bytes))
        else:
            self._assembly = assembly
        return events

    def tick(self, now: float) -> list[Event]:
        """Give up a frame whose next chunk is overdue."""
        deadline = self.chunk_deadline
        if self._assembly is None or deadline is None or now < deadline:
            return []
        frame_id = self._assembly.arrival.frame_id
        error = DeadlineExceeded(
            f"no chunk for {self.chunk_timeout:g} s: expected index {self._assembly.next_index}"
        )
        return [self._break(frame_id, error, last=False)]

    def half_close(self) -> list[Event]:
        """The client sends no more."""
        return [] if self._assembly is None else [self._interrupt("by the end of the stream")]

    def give_up(self, error: RequestError) -> list[Event]:
        """End the frame that is arriving, if there is one, with `error`."""
        if self._assembly is None:
            return []
        return [self._break(self._assembly.arrival.frame_id, error, last=False)]

    def cancel(self, frame_id: str) -> list[Event]:
        """Cancel the frame that is arriving, if it has this id; waiting ones are the caller's."""
        if self._assembly is None or self._assembly.arrival.frame_id != frame_id:
            return []
        return self.give_up(FrameCancelled("cancelled by the client while arriving"))

    def fail(self, frame_id: str) -> list[Answer]:
        """An arrived frame has been answered by an error; gives the results it held back."""
        del self._unanswered[frame_id]
        return self._released()

    def succeed(self, frame_id: str, result: Answer) -> list[Answer]:
        """An arrived frame has its result; gives the results that may be sent now, in order."""
        if self.unordered:
            del self._unanswered[frame_id]
            return [result]
        self._unanswered[frame_id].result = result
        return self._released()

    def held(self) -> list[Answer]:
        """The results that wait for older frames."""
        return [entry.result for entry in self._unanswered.values() if entry.result is not None]

    def _released(self) -> list[Answer]:
        released: list[Answer] = []
        for frame_id, entry in list(self._unanswered.items()):
            if entry.result is None:
                break
            released.append(entry.result)
            del self._unanswered[frame_id]
        return released

    def _complete(self, arrival: Arrival, held_bytes: int) -> Arrival:
        arrival.held_bytes = held_bytes
        self._unanswered[arrival.frame_id] = _Unanswered()
        return arrival

    def _interrupt(self, by: str) -> Broken:
        assert self._assembly is not None
        error = InvalidFrame(f"interrupted {by}: expected chunk index {self._assembly.next_index}")
        return self._break(self._assembly.arrival.frame_id, error, last=False)

    def _break(self, frame_id: str, error: RequestError, last: bool) -> Broken:
        if self._assembly is not None and self._assembly.arrival.frame_id == frame_id:
            self._assembly = None
        if not last:
            self._broken[_key(frame_id)] = None
            if len(self._broken) > _MAX_BROKEN_IDS:
                del self._broken[next(iter(self._broken))]
        return Broken(frame_id, error)

    def _check_new(self, frame_id: str) -> None:
        check_id(frame_id)
        arriving = self._assembly is not None and self._assembly.arrival.frame_id == frame_id
        if arriving or frame_id in self._unanswered:
            raise DuplicateFrame(f"frame_id: {_shown(frame_id)} is still unanswered")


def check_id(frame_id: str) -> None:
    """Raise InvalidFrame unless `frame_id` has 1 to 128 bytes."""
    size = len(frame_id.encode())
    if not 1 <= size <= MAX_ID_BYTES:
        raise InvalidFrame(f"frame_id: expected 1 to {MAX_ID_BYTES} bytes, got {size}")


def arrival_of(frame: pb.Frame, now: float, *parts: Payload) -> Arrival:
    """`frame`, or its first chunk, as it arrives at `now` (monotonic seconds)."""
    captured_at: float | None = None
    if frame.HasField("captured_at"):
        # Whatever it says is a number here: a nonsense clock schedules nothing and is counted.
        captured_at = frame.captured_at.seconds + frame.captured_at.nanos * 1e-9
    return Arrival(frame.frame_id, frame.sensor_id, list(parts), now, now, captured_at)


def _key(frame_id: str) -> str | int:
    """What is remembered of a broken frame's id: bounded, whatever the client sends."""
    return frame_id if len(frame_id) <= MAX_ID_BYTES else hash(frame_id)


def _shown(frame_id: str) -> str:
    """The id in quotes, cut where a hostile one would flood a log."""
    return repr(frame_id if len(frame_id) <= MAX_ID_BYTES else frame_id[:MAX_ID_BYTES] + "…")


def _check_same_type(parts: list[Payload], payload: Payload) -> None:
    if not parts:
        return
    first = parts[0]
    names = ("coords_dtype", "features_dtype") if isinstance(payload, VoxelPart) else ("dtype",)
    for name in names:
        expected, got = getattr(first, name), getattr(payload, name)
        if expected != got:
            raise InvalidFrame(
                f"{name}: {pb.DataType.Name(got)} in chunk {len(parts)}, "
                f"{pb.DataType.Name(expected)} in the chunks before it"
            )
