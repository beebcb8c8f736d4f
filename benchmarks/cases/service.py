# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What the service adds: one stream over loopback against the same session in-process."""

from __future__ import annotations

import statistics
import sys
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.context import ROOT, Context
from benchmarks.protocol import Worker
from benchmarks.result import CaseResult, Row, Target
from benchmarks.server_process import serving
from benchmarks.sites import SPATIAL_SHAPE
from benchmarks.timing import alternate

NAME = "service"
TITLE = "sparse U-Net: one stream through the server on loopback against the session in-process"
RATIO_LIMIT = 1.15
ADDED_LIMIT_MS = 10.0
_STAGES = ("receive", "decode", "queue", "execute", "encode", "total")
_START_SECONDS = 120.0
# Times the runs of other cases: the target is a small difference of two medians. Of 15 runs, which
# lie 20 ms around theirs, it was anywhere between 0.2 and 15 ms; of 60 between 3.5 and 6.5.
_RUNS_FACTOR = 4


def same_bytes(ours: dict[str, NDArray[Any]], served: dict[str, NDArray[Any]]) -> bool:
    """Whether every served output equals the in-process one bit for bit."""
    return bool(served) and all(
        name in ours and ours[name].dtype == value.dtype and ours[name].tobytes() == value.tobytes()
        for name, value in served.items()
    )


def run(context: Context, result: CaseResult) -> None:
    """Rows are sent in shuffled order: both sides sort them and answer in the order sent."""
    scan = context.scan
    result.conditions = {"scan": scan.name, "sites": scan.num_sites, "grid": SPATIAL_SHAPE}
    models, path = context.unet
    order = np.random.default_rng(0).permutation(scan.num_sites)
    coords, features = scan.coords[order], scan.features[order]
    for threads in context.threads:
        log = context.models / "server.log"
        with (
            serving(models, threads, log) as server,
            context.ours(threads) as ours,
            Worker(sys.executable, "benchmarks.client_worker", ROOT) as client,
        ):
            session_inputs = {"coords": coords, "features": features}
            ours.call(
                "prepare_session",
                name=NAME,
                path=str(path),
                inputs=session_inputs,
                as_served=True,
            )
            client.call(
                "connect",
                target=server.target,
                model="sparse_unet",
                coords=np.ascontiguousarray(coords[:, 1:]),
                features=features,
                timeout=_START_SECONDS,
            )
            turns = {
                "in-process": partial(ours.call, "run", name=NAME),
                "through the server": partial(client.call, "run"),
            }
            runs = _RUNS_FACTOR * context.runs
            samples = alternate(turns, runs=runs, settle=context.quiet)
            equal = same_bytes(ours.call("result", name=NAME), client.call("outputs"))
            stages = client.call("stages")[-runs:]
            client.call("disconnect")
        session, served = samples["in-process"], samples["through the server"]
        added = (served.median - session.median) * 1e3
        figures: dict[str, float | str] = {"ratio": served.median / session.median}
        for stage in _STAGES:
            figures[f"{stage} ms"] = statistics.median(s[f"{stage}_us"] for s in stages) / 1e3
        result.rows.append(Row("in-process", threads, session))
        result.rows.append(Row("through the server", threads, served, figures))
        own = (
            statistics.median(s["total_us"] - s["execute_us"] - s["queue_us"] for s in stages) / 1e3
        )
        figures["server's own ms"] = own
        suffix = f"{threads} thread(s)"
        ratio = served.median / session.median
        result.targets.append(Target(f"of the in-process median, {suffix}", ratio, RATIO_LIMIT))
        result.targets.append(Target(f"ms above in-process, {suffix}", added, ADDED_LIMIT_MS))
        result.targets.append(
            Target(f"answers equal bit for bit, {suffix}", float(equal), 1.0, at_least=True)
        )
