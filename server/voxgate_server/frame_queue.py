# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Which waiting frames of a model run next, as pure rules: no I/O, and the clock is an argument.

Streams with a frame waiting stand in one line: higher priority first, then whose turn came first.
The stream in front gives its oldest frame and, if it has more, goes to the back of its priority.
So while a stream waits, each other one of its priority comes before it at most once, and a stream
keeps its turn when its frame is replaced, expires or is cancelled. Every operation costs O(log n)
of the frames waiting (`take`: per frame taken), but for `make_room`.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, NamedTuple, TypeVar

from sortedcontainers import SortedDict

from voxgate_server.codec import DecodedFrame, OutputSpec
from voxgate_server.errors import Overloaded, RequestError

Result = TypeVar("Result")

# One count for all queues: a turn stays comparable when a stream moves on to another model version.
_turns: Final = itertools.count()


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How large a batch may get, and how long the first frames are held for it to get there.

    Args:
        max_sites: the budget of a batch; a frame above it runs alone.
        max_frames: 1 for a model that cannot be batched.
        max_delay: seconds.
    """

    max_sites: int
    max_frames: int
    max_delay: float = 0.0

    def __post_init__(self) -> None:
        if self.max_sites < 1 or self.max_frames < 1 or not self.max_delay >= 0:
            raise ValueError(f"{self}: expected max_sites ≥ 1, max_frames ≥ 1, max_delay ≥ 0")


@dataclass(slots=True, eq=False)
class StreamQueue:
    """The frames of one stream that wait, oldest first; all of them in the same `FrameQueue`.

    Args:
        max_waiting: one more is refused.
        latest: at most one waits, and a newer one replaces it.
        priority: higher goes first. A changed one holds from the next time it gets in line.
        client: whose stream it is; "": a client's of its own.
    """

    max_waiting: int
    latest: bool = False
    priority: int = 0
    client: str = ""
    waiting: OrderedDict[Job[Any], None] = field(default_factory=OrderedDict, init=False)
    # The stream's place in line; None: served since it last waited, so it joins at the back.
    turn: int | None = field(default=None, init=False)
    # What it stands in line by: its priority and turn as they were when it got there.
    place: tuple[int, int] = field(default=(0, 0), init=False)


@dataclass(slots=True, eq=False)
class Job(Generic[Result]):
    """A checked frame on its way to its execution. Times are monotonic seconds.

    Args:
        resolve: takes the frame's outcome, once.
        deadline: from here on the frame may not start.
    """

    frame_id: str
    frame: DecodedFrame
    outputs: Sequence[OutputSpec]
    stream: StreamQueue
    resolve: Callable[[Result | RequestError], None]
    deadline: float = math.inf
    queued_at: float = 0.0
    started_at: float = 0.0

    @property
    def sites(self) -> int:
        return self.frame.num_sites


class _Key(NamedTuple):
    """Sorts by time; `number` is unique, as sorted containers want it."""

    time: float
    number: int


class _Entry(NamedTuple):
    """Where a waiting job stands in the two orders of time."""

    deadline: _Key
    held_until: _Key


class FrameQueue(Generic[Result]):
    """The waiting frames of all streams of one model."""

    def __init__(self, limits: BatchLimits, max_waiting: int) -> None:
        self._limits = limits
        self._max_waiting = max_waiting
        self._entries: dict[Job[Result], _Entry] = {}
        self._sites = 0
        self._numbers = itertools.count()
        self._line: SortedDict[tuple[int, int], StreamQueue] = SortedDict()
        self._deadlines: SortedDict[_Key, Job[Result]] = SortedDict()
        self._holds: SortedDict[_Key, Job[Result]] = SortedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, job: Job[Result], now: float) -> Job[Result] | None:
        """Let `job` wait; gives the older one of its stream that it replaces, if it does.

        Raises:
            Overloaded: the stream's queue or the model's is full.
            ValueError: the job waits already, or its stream has frames in another queue.
        """
        stream = job.stream
        oldest: Job[Result] | None = next(iter(stream.waiting), None)
        if job in self._entries or (oldest is not None and oldest not in self._entries):
            raise ValueError(f"frame {job.frame_id!r}: it, or its stream, waits in a queue already")
        held_until = now + self._hold(job, now)
        replaced = oldest if stream.latest else None
        if replaced is not None:
            # A sensor faster than the hold would otherwise never get a batch started.
            held_until = min(held_until, self._entries[replaced].held_until.time)
            self.remove(replaced)
        elif len(stream.waiting) >= stream.max_waiting:
            raise Overloaded(
                f"queue: {stream.max_waiting} frames of this stream are waiting, its limit: "
                "send fewer, or open it with a larger max_queued_frames or LATEST"
            )
        elif len(self._entries) >= self._max_waiting:
            raise Overloaded(
                f"queue: {self._max_waiting} frames of this model are waiting, its limit: "
                "send fewer, or try again later"
            )
        job.queued_at = now
        self._add(job, held_until)
        return replaced

    def make_room(self, stream: StreamQueue) -> Job[Result] | None:
        """Before a `put` of `stream` into a full queue: take out the frame that gives way, if any.

        It is the newest of a stream of lower priority; or, at the same one, of the client that has
        most waiting over all its streams, if those are more than this client's will be: whoever
        floods a model has its own frames refused, not its neighbours'. Costs O(streams that wait),
        and only when it is full.
        """
        own = len(stream.waiting)
        refused = own >= stream.max_waiting or (stream.latest and own)
        if len(self._entries) < self._max_waiting or refused:
            return None
        waiting: Counter[object] = Counter()
        for other in self._line.values():
            waiting[_client(other)] += len(other.waiting)
        share = waiting[_client(stream)] + 1

        def stands_back(other: StreamQueue) -> bool:
            larger = waiting[_client(other)] > share
            return other.priority < stream.priority or (
                other.priority == stream.priority and larger
            )

        rivals = filter(stands_back, self._line.values())
        longest = max(
            rivals,
            key=lambda other: (-other.priority, waiting[_client(other)], len(other.waiting)),
            default=None,
        )
        if longest is None:
            return None
        newest = next(reversed(longest.waiting))
        self.remove(newest)
        return newest

    def remove(self, job: Job[Result]) -> bool:
        """Take back a waiting frame; False: it does not wait."""
        entry = self._entries.pop(job, None)
        if entry is None:
            return False
        del self._deadlines[entry.deadline], self._holds[entry.held_until]
        self._sites -= job.sites
        stream = job.stream
        del stream.waiting[job]
        if not stream.waiting:
            del self._line[stream.place]
        return True

    def expire(self, now: float) -> list[Job[Result]]:
        """Take out the frames that can no longer start in time, most overdue first."""
        late: list[Job[Result]] = []
        while self._deadlines and self._deadlines.peekitem(0)[0].time <= now:
            job = self._deadlines.peekitem(0)[1]
            self.remove(job)
            late.append(job)
        return late

    def clear(self) -> list[Job[Result]]:
        """Take out all frames, oldest first."""
        jobs = list(self._entries)
        for job in jobs:
            self.remove(job)
        return jobs

    def take(self, now: float) -> list[Job[Result]]:
        """Take out the next batch, for an engine that is free; [] while there is none to run.

        Late frames belong to `expire(now)`: nothing is taken before that has been called.
        """
        if self._ready_at() > now or self._deadline_at() <= now:
            return []
        batch: list[Job[Result]] = []
        room = self._limits.max_sites
        while self._line and len(batch) < self._limits.max_frames:
            stream = self._line.peekitem(0)[1]
            job = next(iter(stream.waiting))
            if batch and job.sites > room:
                break
            room -= job.sites
            batch.append(job)
            job.started_at = now
            self._serve(stream, job)
        return batch

    def wake_at(self, *, engine_free: bool) -> float:
        """When there is something to expire or, on a free engine, to run; inf: only after a put."""
        return min(self._deadline_at(), self._ready_at() if engine_free else math.inf)

    def _deadline_at(self) -> float:
        return self._deadlines.peekitem(0)[0].time if self._deadlines else math.inf

    def _ready_at(self) -> float:
        """When the next batch may start: once nothing more fits, or the first hold is over."""
        limits = self._limits
        if self._sites >= limits.max_sites or len(self._entries) >= limits.max_frames:
            return -math.inf
        return self._holds.peekitem(0)[0].time if self._holds else math.inf

    def _hold(self, job: Job[Result], now: float) -> float:
        """How long `job` may be held: at most half of what is left to its deadline."""
        return max(0.0, min(self._limits.max_delay, (job.deadline - now) / 2))

    def _add(self, job: Job[Result], held_until: float) -> None:
        number = next(self._numbers)
        entry = _Entry(_Key(job.deadline, number), _Key(held_until, number))
        self._entries[job] = entry
        self._deadlines[entry.deadline] = job
        self._holds[entry.held_until] = job
        self._sites += job.sites
        stream = job.stream
        if not stream.waiting:
            if stream.turn is None:
                stream.turn = next(_turns)
            self._line_up(stream, stream.turn)
        stream.waiting[job] = None

    def _serve(self, stream: StreamQueue, job: Job[Result]) -> None:
        """Take out the oldest frame of the stream in front and send the stream to the back."""
        self.remove(job)
        if stream.waiting:
            del self._line[stream.place]
            self._line_up(stream, next(_turns))
        else:
            stream.turn = None

    def _line_up(self, stream: StreamQueue, turn: int) -> None:
        stream.turn, stream.place = turn, (-stream.priority, turn)
        self._line[stream.place] = stream


def _client(stream: StreamQueue) -> object:
    return stream.client or stream
