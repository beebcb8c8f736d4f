# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.profile_session MODEL`: where a model's time goes, node by node.

The model takes voxels on the KITTI sweep's grid, like those that the benchmarks leave in
build/benchmarks.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any

import onnxruntime as ort
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.context import ROOT
from benchmarks.quiet import Quiet
from benchmarks.sites import load_scan
from voxgate_ops.session import operators_library

_WARMUP = 2
_PATIENCE = 30.0


def node_times(model: Path, runs: int, threads: int) -> tuple[list[str], dict[str, list[float]]]:
    """Milliseconds of every node in every run, by "operator name", from ONNX Runtime's profiler.

    Returns:
        The names in the order of their first execution, and the times.
    """
    scan = load_scan(ROOT)
    inputs = {"coords": scan.coords, "features": scan.features}
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        options.register_custom_ops_library(str(operators_library()))
        session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        settle = Quiet(_PATIENCE)
        for _ in range(_WARMUP + runs):
            settle()
            session.run(None, inputs)
        events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text())
    times: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            node = event["name"].removesuffix("_kernel_time")
            times[f"{event['args']['op_name']} {node}"].append(event["dur"] / 1e3)
    return list(times), {name: taken[_WARMUP:] for name, taken in times.items()}


def main(
    model: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    runs: Annotated[int, typer.Option(min=1)] = 10,
    threads: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Print each node's least time over the runs, in order, and the share of the sum."""
    names, times = node_times(model, runs, threads)
    least = {name: min(times[name]) for name in names}
    total = sum(least.values())
    table = Table("operator", "node", "min ms", "share")
    for name in names:
        operator, _, node = name.partition(" ")
        table.add_row(operator, node, f"{least[name]:.3f}", f"{least[name] / total:.1%}")
    table.add_row("all", "", f"{total:.3f}", "")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
