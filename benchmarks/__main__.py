# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks`: run the cases, print tables, write JSON."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import cases
from benchmarks.context import ROOT, Context
from benchmarks.machine import describe, load_average
from benchmarks.peer_environment import PeerUnavailableError
from benchmarks.protocol import WorkerError
from benchmarks.quiet import Quiet
from benchmarks.report import print_case, print_machine, write_json
from benchmarks.result import CaseResult

_NAMES = ", ".join(cases.ALL)
_QUICK_RUNS = 3
# Medians stand up to fewer disturbed runs than this.
_BUSY_SHARE = 0.2


def measure(context: Context, name: str) -> CaseResult:
    """Run one case; what it cannot measure is named in the result, with the reason."""
    case = cases.ALL[name]
    result = CaseResult(name, case.TITLE)
    context.quiet = Quiet(context.patience)
    try:
        case.run(context, result)
    except (WorkerError, PeerUnavailableError, RuntimeError, ValueError) as error:
        result.not_measured.append(f"{name}, from here on: {_short(str(error))}")
    begun = f"{context.quiet.busy_runs} of {context.quiet.runs}"
    result.conditions["runs begun on a busy machine"] = begun
    if context.quiet.busy_runs > _BUSY_SHARE * context.quiet.runs:
        result.doubts.append(f"the machine was busy when {begun} runs began")
    return result


def _short(text: str) -> str:
    """A traceback's first line (which call) and its last (which error)."""
    lines = text.strip().splitlines()
    return lines[0] if len(lines) == 1 else f"{lines[0]} {lines[-1]}"


def main(
    case: Annotated[
        list[str] | None, typer.Option(help=f"Run only this one (repeatable): {_NAMES}.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Measured runs of everything.")] = 15,
    threads: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Thread count (repeatable); 1 and 2 unless given."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A smoke run: 3 runs, small sizes, no figure to quote.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Exit 1 when a target is missed or not measured.")
    ] = False,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds a case may wait for an idle machine in all.")
    ] = 60.0,
    cuda_peer: Annotated[
        Path | None,
        typer.Option(help="A Python with spconv's CUDA build; one is installed unless given."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="JSON file; build/benchmarks/results/TIME.json unless given."),
    ] = None,
) -> None:
    """Measure Voxgate, side by side with spconv where it has a counterpart."""
    chosen = case or list(cases.ALL)
    unknown = [name for name in chosen if name not in cases.ALL]
    if unknown:
        raise typer.BadParameter(f"no case {', '.join(unknown)}; there are: {_NAMES}")
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    context = Context(_QUICK_RUNS if quick else runs, threads or [1, 2], quick)
    context.patience = 0.0 if quick else patience
    context.cuda_peer = cuda_peer
    machine = describe()
    print_machine(console, machine)
    results: list[CaseResult] = []
    for name in chosen:
        if reason := getattr(cases.ALL[name], "unavailable", str)():
            console.print(f"\n{name} is left out: {reason}")
            continue
        # No spinner: its thread would wake beside what is being measured.
        console.print(f"\n[dim]measuring {name} ({len(results) + 1} of {len(chosen)})[/]")
        results.append(measure(context, name))
        print_case(console, results[-1])
    if not results:
        return
    machine["load_average_at_end"] = load_average()
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path = output or ROOT / "build" / "benchmarks" / "results" / f"{stamp}.json"
    options = {"runs": context.runs, "threads": context.threads, "quick": quick, "cases": chosen}
    write_json(path, machine, options, results)
    console.print(f"\nwritten to {path}")
    missed = any(not t.met for r in results for t in r.targets)
    if check and (missed or any(r.not_measured for r in results)):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
