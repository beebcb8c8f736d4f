# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Where the tables stand in docs/cuda.md: between marks, one pair for each."""

from __future__ import annotations

from pathlib import Path

END = "<!-- End of what is written. -->"


def mark(table: str) -> str:
    """The line above the table."""
    return f"<!-- Written by `python -m benchmarks.cuda {table} docs/cuda.md`. -->"


def between(page: str, table: str) -> tuple[str, str, str]:
    """What stands before the table, the table, and what follows it.

    Raises:
        ValueError: the page does not have both marks.
    """
    before, begin, rest = page.partition(mark(table))
    written, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page needs the line {mark(table)} and below it the line {END}")
    return before + begin, written.strip(), end + after


def write(path: Path, table: str, text: str) -> None:
    """Puts `text` between the marks."""
    before, _, after = between(path.read_text(encoding="utf-8"), table)
    path.write_text(f"{before}\n\n{text}\n\n{after}", encoding="utf-8")
