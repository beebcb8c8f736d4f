# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What a full server gets through: eight streams of mixed frames against the session alone."""

from __future__ import annotations

import statistics

from benchmarks.context import Context
from benchmarks.fleet import Sites, answered, cropped, fleet
from benchmarks.protocol import Worker
from benchmarks.result import CaseResult, Row, Target
from benchmarks.sites import SPATIAL_SHAPE

NAME = "throughput"
TITLE = "sparse U-Net: eight streams of mixed frames against the same session in-process"
STREAMS = 8
IN_FLIGHT = 2
SIZES = (1 << 30, 20_000, 1 << 30, 8_000, 2_000, 20_000, 8_000, 2_000)
# Of the same session's frames a second, by threads.
SHARES = {1: 0.90, 2: 0.80}
_ROUNDS = 5
_SECONDS = 12.0


def run(context: Context, result: CaseResult) -> None:
    """In-process runs and served stretches alternate; clients and server share the cores."""
    scan = context.scan
    frames = [cropped(scan, size) for size in SIZES]
    result.conditions = {
        "scan": scan.name,
        "sites of the frames": [len(coords) for coords, _ in frames],
        "grid": SPATIAL_SHAPE,
        "streams": STREAMS,
        "frames in flight per stream": IN_FLIGHT,
        "seconds per stretch": _stretch(context),
    }
    for threads in context.threads:
        _run(context, result, frames, threads)


def _run(context: Context, result: CaseResult, frames: list[Sites], threads: int) -> None:
    _, path = context.unet
    rates: dict[str, list[float]] = {"in-process": [], "served": []}
    seconds = _stretch(context)
    with (
        context.ours(threads) as ours,
        fleet(context, threads, frames, [{"max_queued_frames": 8}] * STREAMS) as (load, _),
    ):
        names = [f"{NAME} {kind}" for kind in range(len(frames))]
        for name, (coords, features) in zip(names, frames, strict=True):
            inputs = {"coords": coords, "features": features}
            ours.call("prepare_session", name=name, path=str(path), inputs=inputs, as_served=True)
        for round_index in range(1 + _rounds(context)):
            context.quiet()
            alone = _frames_per_second(ours, names, seconds)
            context.quiet()
            answers = load.call("closed_loop", seconds=seconds, in_flight=IN_FLIGHT)
            if round_index:
                rates["in-process"].append(alone)
                rates["served"].append(_served_rate(answers, seconds))
    shares = [s / a for s, a in zip(rates["served"], rates["in-process"], strict=True)]
    for name, values in rates.items():
        figures: dict[str, float | str] = {
            "frames/s": statistics.median(values),
            "from": min(values),
            "to": max(values),
        }
        if name == "served":
            done = [answer for stream in answers for answer in answered(stream)]
            figures["frames per batch"] = statistics.mean(a["batch_frames"] for a in done)
            for stage in ("decode", "queue", "execute", "encode"):
                figures[f"{stage} ms"] = statistics.median(a[f"{stage}_us"] for a in done) / 1e3
        result.rows.append(Row(name, threads, None, figures))
    if threads in SHARES:
        label = f"of the frames/s in-process, {threads} thread(s)"
        share = statistics.median(shares)
        result.targets.append(Target(label, share, SHARES[threads], at_least=True))


def _frames_per_second(ours: Worker, names: list[str], seconds: float) -> float:
    """Calling the session back to back, each kind of frame as often as the others."""
    spent, count = 0.0, 0
    while spent < seconds:
        spent += sum(ours.call("run", name=name) for name in names)
        count += len(names)
    return count / spent


def _served_rate(answers: list[list[dict[str, float]]], seconds: float) -> float:
    """Results within the stretch, without its first second, in which queues fill."""
    start = min(1.0, seconds / 4)
    done = [a for stream in answers for a in answered(stream) if start <= a["done_at"] <= seconds]
    return len(done) / (seconds - start)


def _stretch(context: Context) -> float:
    return 2.0 if context.quick else _SECONDS


def _rounds(context: Context) -> int:
    return 1 if context.quick else _ROUNDS
