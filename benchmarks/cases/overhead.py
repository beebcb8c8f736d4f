# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What the server itself takes for a large frame: one stream, one frame in flight."""

from __future__ import annotations

import statistics

import numpy as np

from benchmarks.context import Context
from benchmarks.fleet import answered, fleet
from benchmarks.result import CaseResult, Row, Target

NAME = "overhead"
TITLE = "sparse U-Net: the server's own time for the whole sweep, one frame in flight"
# total − execute − queue, for sites in canonical order, as the clients' voxelizers send them.
LIMIT_MS = 3.0
_SECONDS = 20.0
_STAGES = ("decode", "queue", "execute", "encode", "total")


def run(context: Context, result: CaseResult) -> None:
    """Sites in random order are sorted on the way in and put back on the way out."""
    scan = context.scan
    order = np.random.default_rng(0).permutation(scan.num_sites)
    kinds = {
        "canonical order": (scan.coords, scan.features),
        "random order": (scan.coords[order], scan.features[order]),
    }
    seconds = 2.0 if context.quick else _SECONDS
    result.conditions = {"scan": scan.name, "sites": scan.num_sites, "seconds": seconds}
    for threads in context.threads:
        with fleet(context, threads, list(kinds.values()), [{}]) as (load, _):
            for kind, name in enumerate(kinds):
                load.call("closed_loop", seconds=1.0, in_flight=1, kinds=[kind])
                context.quiet()
                answers = load.call("closed_loop", seconds=seconds, in_flight=1, kinds=[kind])
                done = answered(answers[0])
                own = [a["total_us"] - a["execute_us"] - a["queue_us"] for a in done]
                beside = [a["latency"] * 1e3 - a["total_us"] / 1e3 for a in done]
                figures: dict[str, float | str] = {
                    f"{stage} ms": statistics.median(a[f"{stage}_us"] for a in done) / 1e3
                    for stage in _STAGES
                }
                figures["own ms"] = statistics.median(own) / 1e3
                figures["gRPC and client ms"] = statistics.median(beside)
                figures["frames"] = len(done)
                result.rows.append(Row(name, threads, None, figures))
                if not kind:
                    label = f"own ms, {threads} thread(s)"
                    result.targets.append(Target(label, statistics.median(own) / 1e3, LIMIT_MS))
