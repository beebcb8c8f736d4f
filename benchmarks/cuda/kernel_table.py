# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The tables of kernels: registers, shared memory, spills, theoretical occupancy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from benchmarks.cuda.occupancy import MULTIPROCESSORS, occupancy
from benchmarks.cuda.ptxas import KernelUse
from benchmarks.cuda.queue_log import Block
from benchmarks.cuda.symbols import base_name, is_ours, short_name

ARCHITECTURES = ("sm_80", "sm_87", "sm_90")
CONVOLUTION = "convolution"  # what the names of its sources begin with

Blocks = Mapping[str, set[Block]]


@dataclass(frozen=True)
class Row:
    """A row of a table: one kernel, or the instances of one template."""

    source: str
    name: str
    instances: int
    cells: tuple[str, ...]


def is_convolution(use: KernelUse) -> bool:
    """Whether it belongs to SparseConv, whose kernels may not spill."""
    return use.source.startswith(CONVOLUTION)


def row_name(use: KernelUse) -> str:
    """The name of the row that has it: SparseConv's kernels have one each, others share."""
    alone = is_ours(use.name) and is_convolution(use)
    return short_name(use.name) if alone else base_name(use.name)


def render(uses: Iterable[KernelUse], blocks: Blocks, version: str) -> str:
    """All tables as Markdown.

    Raises:
        ValueError: an architecture lacks a kernel, or no emulated test launches one.
    """
    known = list(uses)
    _check(known, blocks)
    convolutions = [use for use in known if is_ours(use.name) and is_convolution(use)]
    others = [use for use in known if is_ours(use.name) and not is_convolution(use)]
    library = [use for use in known if not is_ours(use.name)]
    lines = [
        f"nvcc {version}. A cell has {' · '.join(ARCHITECTURES)}, or one value for all three.",
        "",
        "SparseConv, kernel by kernel:",
        "",
        *_table(convolutions, blocks),
        "",
        "All others, a row for each template with the range over its instances:",
        "",
        *_table(others, blocks),
        "",
        "CUB's, whose sort and sums the library links; CUB chooses their blocks itself:",
        "",
        *_table(library, blocks),
    ]
    return "\n".join(lines)


def rows(uses: Iterable[KernelUse], blocks: Blocks) -> Iterator[Row]:
    """One row for each name, in the order of sources and names."""
    groups: dict[tuple[str, str], list[KernelUse]] = {}
    for use in uses:
        groups.setdefault((use.source, row_name(use)), []).append(use)
    for (source, name), group in sorted(groups.items()):
        yield Row(source, name, instances(group), _cells(group, blocks))


def instances(group: Iterable[KernelUse]) -> int:
    """How many kernels share a row; CUB's have other names on other architectures."""
    return max(Counter(use.architecture for use in group).values())


HEAD = (
    "kernel",
    "instances",
    "source",
    "threads",
    "registers",
    "shared, static",
    "shared, dynamic",
    "stack",
    "spilled",
    "occupancy, %",
    "limited by",
)


def _table(uses: list[KernelUse], blocks: Blocks) -> Iterator[str]:
    yield f"| {' | '.join(HEAD)} |"
    yield "|" + " --- |" * len(HEAD)
    for row in rows(uses, blocks):
        cells = (f"`{row.name}`", str(row.instances), f"`{row.source}`", *row.cells)
        yield f"| {' | '.join(cells)} |"


def _cells(group: list[KernelUse], blocks: Blocks) -> tuple[str, ...]:
    shapes = sorted({block for use in group for block in blocks.get(use.name, set())})
    by_architecture = [
        [use for use in group if use.architecture == architecture] for architecture in ARCHITECTURES
    ]
    found = [
        [
            occupancy(
                MULTIPROCESSORS[use.architecture],
                block.threads,
                use.registers,
                use.shared_bytes + block.dynamic_bytes,
            )
            for use in uses
            for block in blocks.get(use.name, set())
        ]
        for uses in by_architecture
    ]
    limits = [", ".join(sorted({one.limit for one in each})) for each in found]
    return (
        ", ".join(str(threads) for threads in sorted({block.threads for block in shapes})) or "–",
        _each([[use.registers for use in uses] for uses in by_architecture]),
        _each([[use.shared_bytes for use in uses] for uses in by_architecture]),
        _each([[block.dynamic_bytes for block in shapes]]),
        _each([[use.stack_bytes for use in uses] for uses in by_architecture]),
        _each([[use.spill_stores + use.spill_loads for use in uses] for uses in by_architecture]),
        _each([[round(100 * one.share) for one in each] for each in found]),
        _joined(limits),
    )


def span(values: list[int]) -> str:
    """The least and the most, or the one value."""
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def _each(values: list[list[int]]) -> str:
    """The span of each architecture, or once where all are equal."""
    return _joined([span(of_one) for of_one in values]) if all(values) else "–"


def _joined(texts: list[str]) -> str:
    return texts[0] or "–" if len(set(texts)) == 1 else " · ".join(texts)


def _check(uses: list[KernelUse], blocks: Blocks) -> None:
    names = {
        architecture: {use.name for use in uses if use.architecture == architecture}
        for architecture in ARCHITECTURES
    }
    for architecture, those in names.items():
        ours = {name for name in those if is_ours(name)}
        expected = {name for name in names[ARCHITECTURES[0]] if is_ours(name)}
        if ours != expected:
            raise ValueError(f"{architecture} has other kernels: {sorted(ours ^ expected)}")
    unseen = sorted({use.name for use in uses if is_ours(use.name)} - set(blocks))
    if unseen:
        raise ValueError(f"no emulated test launches {', '.join(map(short_name, unseen))}")
