# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The first submanifold rulebook of a network on a whole sweep, ours against the peer's."""

from __future__ import annotations

from functools import partial

from benchmarks.context import Context
from benchmarks.operator_models import write_submanifold_rulebook_model
from benchmarks.result import CaseResult, Row, Target
from benchmarks.sites import SPATIAL_SHAPE
from benchmarks.timing import alternate, ratios

NAME = "rulebook"
TITLE = "submanifold rulebook 3x3x3 of one sweep"
LIMIT = 1 / 8
_KERNEL_SIZE = [3, 3, 3]


def run(context: Context, result: CaseResult) -> None:
    """Both sides get the sites in canonical order, which is the peer's faster order too.

    Ours is the operator as a network has it: a node that ONNX Runtime runs and allocates for.
    """
    scan = context.scan
    result.conditions = {"scan": scan.name, "sites": scan.num_sites, "grid": SPATIAL_SHAPE}
    path = context.models / "first_submanifold_rulebook.onnx"
    write_submanifold_rulebook_model(path, SPATIAL_SHAPE, _KERNEL_SIZE)
    for threads in context.threads:
        with context.ours(threads) as ours, context.peer(threads) as peer:
            workers = {"voxgate": ours, "spconv": peer}
            ours.call("prepare_session", name=NAME, path=str(path), inputs={"coords": scan.coords})
            peer.call(
                "prepare_submanifold_rulebook",
                name=NAME,
                coords=scan.coords,
                spatial_shape=SPATIAL_SHAPE,
                kernel_size=_KERNEL_SIZE,
            )
            samples = alternate(
                {who: partial(w.call, "run", name=NAME) for who, w in workers.items()},
                runs=context.runs,
                settle=context.quiet,
            )
            neighbors = ours.call("result", name=NAME)["neighbors"]
            result.conditions["pairs"] = int((neighbors >= 0).sum())
        figures = ratios(samples["voxgate"], samples["spconv"])
        result.rows.append(Row("voxgate", threads, samples["voxgate"], figures))
        result.rows.append(Row("spconv", threads, samples["spconv"]))
        label = f"of spconv's time, {threads} thread(s)"
        result.targets.append(Target(label, float(figures["ratio"]), LIMIT))
