# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A model's engine whose runs take the time, and fail the way, that a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from voxgate_server.codec import DecodedFrame, OutputSpec
from voxgate_server.engine import Execution


def frame_of(sites: int) -> DecodedFrame:
    """A frame that is nothing but its number of sites."""
    return DecodedFrame({}, sites, None)


@dataclass
class FakeEngine:
    """Frames are told apart by their sites: a run takes as long as its slowest frame.

    Half of it is what the engine itself says that it took, as if it were busy with other things.

    `abandon` cannot end a run, as a kernel that hangs cannot be ended.
    """

    instances: int = 1
    batchable: bool = True
    device: str = "cpu"
    seconds: float = 1.0
    seconds_of: dict[int, float] = field(default_factory=dict)
    error_of: dict[int, BaseException] = field(default_factory=dict)
    lost: bool = False  # gives one execution too few
    outputs: dict[str, OutputSpec] = field(
        default_factory=lambda: {"sites": OutputSpec("sites", 1, (1,), "per_frame")}
    )

    def __post_init__(self) -> None:
        self.batches: list[list[int]] = []
        self.frames: list[Sequence[DecodedFrame]] = []
        self.asked: list[list[str]] = []
        self.abandoned: list[float] = []
        self.running = 0

    async def run(
        self, frames: Sequence[DecodedFrame], outputs: Sequence[OutputSpec]
    ) -> list[Execution]:
        loop = asyncio.get_running_loop()
        sizes = [frame.num_sites for frame in frames]
        self.batches.append(sizes)
        self.frames.append(frames)
        self.asked.append([spec.name for spec in outputs])
        self.running += 1
        assert self.running <= self.instances, "more runs at once than instances"
        try:
            seconds = max(self.seconds_of.get(size, self.seconds) for size in sizes)
            started = loop.time()
            await asyncio.sleep(seconds)
            assert loop.time() == started + seconds
        finally:
            self.running -= 1
        for size in sizes:
            if size in self.error_of:
                raise self.error_of[size]
        executions = [
            Execution(
                {spec.name: np.array([size]) for spec in outputs},
                seconds / 2,
                len(sizes),
                sum(sizes),
            )
            for size in sizes
        ]
        return executions[: -1 if self.lost else None]

    def abandon(self, task: asyncio.Task[None], /) -> None:
        assert not task.done()
        self.abandoned.append(asyncio.get_running_loop().time())


@dataclass
class Observed:
    """Stands in for a model's metrics."""

    runs: list[tuple[int, int, float, str]] = field(default_factory=list)

    def observe_batch(self, frames: int, sites: int, seconds: float, device: str) -> None:
        self.runs.append((frames, sites, seconds, device))
