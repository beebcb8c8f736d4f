# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What the cases about many streams share: their frames, their answers, the server's memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.context import ROOT, Context
from benchmarks.protocol import Worker
from benchmarks.server_process import serving
from benchmarks.sites import Scan

Sites: TypeAlias = tuple[NDArray[np.int32], NDArray[np.float32]]
Answers: TypeAlias = list[list[dict[str, Any]]]

START_SECONDS = 120.0


def cropped(scan: Scan, num_sites: int) -> Sites:
    """About so many sites of the scan, those nearest to the sensor: coords `[N, 4]`, features."""
    if num_sites >= scan.num_sites:
        return scan.coords, scan.features
    ahead = scan.coords[:, -1]
    near = ahead < np.partition(ahead, num_sites)[num_sites]
    return scan.coords[near], scan.features[near]


@contextmanager
def fleet(
    context: Context,
    threads: int,
    frames: Sequence[Sites],
    streams: Sequence[dict[str, Any]],
    settings: dict[str, str] | None = None,
) -> Iterator[tuple[Worker, int]]:
    """A server with the U-Net and a process with open streams to it; also the server's pid."""
    models, _ = context.unet
    log = context.models / "server.log"
    with (
        serving(models, threads, log, settings) as server,
        Worker(sys.executable, "benchmarks.load_worker", ROOT) as load,
    ):
        load.call(
            "connect",
            target=server.target,
            model="sparse_unet",
            frames=[(np.ascontiguousarray(coords[:, 1:]), features) for coords, features in frames],
            streams=list(streams),
            timeout=START_SECONDS,
        )
        yield load, server.pid
        load.call("disconnect")


def answered(answers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those with a result."""
    return [answer for answer in answers if answer["code"] == 0]


def percentile(values: Sequence[float], share: float) -> float:
    return float(np.percentile(np.asarray(values), share))


def resident_bytes(pid: int) -> int:
    """Memory that a process has resident."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/{pid}/status says nothing of VmRSS")
