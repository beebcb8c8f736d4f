# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Twice the frames that the server can run: who waits how long, and who gets how much."""

from __future__ import annotations

import math
import statistics
from typing import Any

from benchmarks.context import Context
from benchmarks.fleet import Answers, answered, cropped, fleet, percentile
from benchmarks.result import CaseResult, Row, Target

NAME = "overload"
TITLE = "sparse U-Net: eight streams send twice what the server can run"
STREAMS = 8
SITES = 8_000
_SECONDS = 30.0
_CAPACITY_SECONDS = 8.0
_LATEST = {"policy": 2}
_FIFO = {"policy": 1, "max_queued_frames": 8}


def run(context: Context, result: CaseResult) -> None:
    """Frames of one size, so that a stream's share is its number of results."""
    scan = context.scan
    frame = cropped(scan, SITES)
    seconds = 4.0 if context.quick else _SECONDS
    result.conditions = {
        "scan": scan.name,
        "sites per frame": len(frame[0]),
        "streams": STREAMS,
        "seconds": seconds,
    }
    fleets: dict[str, list[dict[str, Any]]] = {
        "LATEST, one of priority 1": [{**_LATEST, "priority": int(i == 0)} for i in range(STREAMS)],
        "LATEST, equal": [_LATEST] * STREAMS,
        "FIFO": [_FIFO] * STREAMS,
    }
    for threads in context.threads:
        for name, streams in fleets.items():
            with fleet(context, threads, [frame], streams, {"VOXGATE_MAX_PRIORITY": "1"}) as (
                load,
                _,
            ):
                context.quiet()
                # A second frame of a LATEST stream would replace the first and count for nothing.
                in_flight = 1 if streams[0]["policy"] == _LATEST["policy"] else 2
                capacity = _capacity(
                    load.call("closed_loop", seconds=_CAPACITY_SECONDS, in_flight=in_flight)
                )
                context.quiet()
                rate = 2 * capacity / STREAMS
                answers = load.call("open_loop", seconds=seconds, rate=rate)
            _report(result, name, threads, capacity, answers)


def _capacity(answers: Answers) -> float:
    """Frames a second behind the first, in which queues fill."""
    times = [float(a["done_at"]) for stream in answers for a in answered(stream)]
    return sum(1.0 <= at <= _CAPACITY_SECONDS for at in times) / (_CAPACITY_SECONDS - 1.0)


def _report(result: CaseResult, name: str, threads: int, capacity: float, answers: Answers) -> None:
    everyone = [a for stream in answers for a in answered(stream)]
    batch_p99 = percentile([a["execute_us"] / 1e6 for a in everyone], 99)
    per_batch = statistics.mean(a["batch_frames"] for a in everyone)
    counts = [len(answered(stream)) for stream in answers]
    others = [a for stream in answers[1:] for a in answered(stream)]
    first_p99 = percentile([a["latency"] for a in answered(answers[0])], 99)
    others_p99 = percentile([a["latency"] for a in others], 99)
    figures: dict[str, float | str] = {
        "capacity frames/s": capacity,
        "results/s": len(everyone) / max(a["done_at"] for a in everyone),
        "frames per batch": per_batch,
        "batch p99 ms": batch_p99 * 1e3,
        "first stream p99 ms": first_p99 * 1e3,
        "others p99 ms": others_p99 * 1e3,
        "fewest results": min(counts),
        "most results": max(counts),
    }
    result.rows.append(Row(name, threads, None, figures))
    suffix = f"{threads} thread(s)"
    if name == "FIFO":
        spread = (max(counts) - min(counts)) / statistics.mean(counts)
        result.targets.append(Target(f"spread of FIFO streams' results, {suffix}", spread, 0.10))
    elif "priority" in name:
        ratio = first_p99 / batch_p99
        result.targets.append(Target(f"p99 of priority 1, of a batch's p99, {suffix}", ratio, 2.5))
    else:
        round_seconds = math.ceil(STREAMS / per_batch) * batch_p99
        p99 = percentile([a["latency"] for a in everyone], 99)
        result.targets.append(
            Target(f"p99 at equal priority, of one round, {suffix}", p99 / round_seconds, 1.5)
        )
