# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The server's memory over ten thousand frames after one largest batch."""

from __future__ import annotations

import statistics

from benchmarks.context import Context
from benchmarks.fleet import answered, cropped, fleet, resident_bytes
from benchmarks.result import CaseResult, Row, Target

NAME = "soak"
TITLE = "resident memory of a server over small frames after one largest batch"
SIZES = (2_000, 500, 1_000, 100, 1_500)
FRAMES = 10_000
# Frames, in thousands, between which memory is compared.
_EARLY, _LATE = (2, 4), (8, 10)
_GROWTH_SHARE, _GROWTH_BYTES = 0.03, 16 << 20
_STREAMS = 4


def run(context: Context, result: CaseResult) -> None:
    """The memory is read after every stretch of the small frames; medians are compared."""
    scan = context.scan
    frames = [cropped(scan, size) for size in SIZES]
    total = FRAMES // 10 if context.quick else FRAMES
    result.conditions = {
        "scan": scan.name,
        "sites of the frames": [len(coords) for coords, _ in frames],
        "frames": total,
    }
    threads = context.threads[-1]
    everything = [(scan.coords, scan.features), *frames]
    with fleet(context, threads, everything, [{}] * _STREAMS) as (load, pid):
        load.call("closed_loop", seconds=2.0, in_flight=2, kinds=[0])
        after_largest = resident_bytes(pid)
        small = list(range(1, len(everything)))
        samples: list[tuple[int, int]] = []
        done = 0
        while done < total:
            answers = load.call("closed_loop", seconds=0.5, in_flight=2, kinds=small)
            done += sum(len(answered(stream)) for stream in answers)
            samples.append((done, resident_bytes(pid)))
    scale = total / FRAMES * 1000
    early = _median(samples, _EARLY[0] * scale, _EARLY[1] * scale)
    late = _median(samples, _LATE[0] * scale, _LATE[1] * scale)
    figures: dict[str, float | str] = {
        "after the largest batch MiB": after_largest / 2**20,
        "frames 2–4 k MiB": early / 2**20,
        "frames 8–10 k MiB": late / 2**20,
    }
    result.rows.append(Row("server", threads, None, figures))
    limit = max(_GROWTH_SHARE * early, _GROWTH_BYTES)
    result.targets.append(Target("growth, MiB", (late - early) / 2**20, limit / 2**20))


def _median(samples: list[tuple[int, int]], begin: float, end: float) -> float:
    return statistics.median(size for done, size in samples if begin <= done <= end)
