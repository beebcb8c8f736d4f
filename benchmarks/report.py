# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Tables for people and JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.result import CaseResult, Row


def _figure(value: float | str) -> str:
    if isinstance(value, str):
        return value
    if value != 0 and abs(value) < 1e-3:  # noqa: PLR2004 - relative errors
        return f"{value:.2e}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"  # noqa: PLR2004


def _times(row: Row) -> list[str]:
    if row.seconds is None:
        return ["", "", "", ""]
    times = (row.seconds.median, row.seconds.minimum, row.seconds.maximum)
    return [f"{seconds * 1e3:.2f}" for seconds in times] + [str(len(row.seconds.values))]


def print_machine(console: Console, machine: dict[str, Any]) -> None:
    """One line per fact about the machine."""
    table = Table(title="machine", show_header=False, title_justify="left")
    for name, value in machine.items():
        table.add_row(name.replace("_", " "), str(value))
    console.print(table)


def print_case(console: Console, result: CaseResult) -> None:
    """A case's conditions, rows and targets, and what of it was not measured."""
    conditions = ", ".join(f"{name} {value}" for name, value in result.conditions.items())
    if result.rows:
        figures = list(dict.fromkeys(name for row in result.rows for name in row.figures))
        table = Table(
            title=f"[bold]{result.name}[/]: {result.title}\n{conditions}", title_justify="left"
        )
        table.add_column("what")
        for column in ("threads", "median ms", "min", "max", "runs", *figures):
            table.add_column(column, justify="right")
        for row in result.rows:
            cells = [_figure(row.figures[name]) if name in row.figures else "" for name in figures]
            table.add_row(row.name, str(row.threads), *_times(row), *cells)
        console.print(table)
    else:
        console.print(f"[bold]{result.name}[/]: {result.title}")
    for target in result.targets:
        sign, word = (">=" if target.at_least else "<="), "met" if target.met else "MISSED"
        color = "green" if target.met else "red"
        limit = f"{sign} {target.limit:.4g}"
        console.print(f"  [{color}]{word}[/] {target.name}: {target.value:.4g} ({limit})")
    for reason in result.not_measured:
        console.print(f"  [yellow]not measured[/] {reason}")
    for doubt in result.doubts:
        console.print(f"  [yellow]do not quote[/] {doubt}")


def write_json(
    path: Path, machine: dict[str, Any], options: dict[str, Any], results: Sequence[CaseResult]
) -> None:
    """Write everything measured as one JSON object, creating the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "machine": machine,
        "options": options,
        "cases": [result.as_json() for result in results],
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
