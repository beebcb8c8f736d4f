# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Roofline of SparseConv: what arithmetic and memory allow at best, by NVIDIA's figures.

S. Williams, A. Waterman, D. Patterson: Roofline, CACM 52 (4), 2009.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from benchmarks.cuda.backbone_layers import TILES, Layer, Rulebook
from benchmarks.sites import SPATIAL_SHAPE, Scan

_INDEX_BYTES = 4  # of a neighbor and of a coordinate


@dataclass(frozen=True)
class Precision:
    """How SparseConv computes; `bytes` of a feature or weight in memory."""

    name: str
    bytes: int


FP32 = Precision("fp32", 4)
TF32 = Precision("tf32", 4)
FP16 = Precision("fp16", 2)  # and bf16, which has the same figures
PRECISIONS = (FP32, TF32, FP16)


@dataclass(frozen=True)
class Machine:
    """Peak figures as NVIDIA publishes them; nothing here was measured."""

    name: str
    bytes_per_second: float
    flops_per_second: dict[str, float]  # by the precision's name; dense


MACHINES = (
    # H100 SXM5: https://www.nvidia.com/en-us/data-center/h100/. The tensor cores' figures there
    # are "with sparsity", which doubles them.
    Machine("H100 SXM", 3.35e12, {"fp32": 67e12, "tf32": 494e12, "fp16": 989e12}),
    # Jetson AGX Orin 64GB: NVIDIA Jetson AGX Orin Series Technical Brief: 204.8 GB/s, 5.3 TFLOP/s
    # of fp32, 170 TOP/s of int8 with sparsity, which is 85 dense; fp16 has half the rate of int8
    # on these tensor cores (16 HMMA beside 32 IMMA), and tf32 half of that, as on all of Ampere.
    Machine("AGX Orin 64GB", 204.8e9, {"fp32": 5.3e12, "tf32": 21.25e12, "fp16": 42.5e12}),
)


@dataclass(frozen=True)
class Bound:
    """Least time of a layer, in seconds."""

    arithmetic: float
    tiles: float  # arithmetic, when all rows of a tile are multiplied for an offset that one needs
    memory: float  # each input row is read from memory once
    gathered: float  # each pair reads its row from memory again

    @property
    def least(self) -> float:
        return max(self.arithmetic, self.memory)

    @property
    def without_cache(self) -> float:
        """The same if no cache kept any row of features."""
        return max(self.arithmetic, self.gathered)

    @property
    def by_tiles(self) -> float:
        """As the kernels compute, with a cache that keeps every row."""
        return max(self.tiles, self.memory)

    @property
    def limit(self) -> str:
        return "memory" if self.memory > self.arithmetic else "arithmetic"


def neighbor_bytes(rulebook: Rulebook) -> int:
    """Of `neighbors`."""
    return _INDEX_BYTES * rulebook.volume * rulebook.outputs


def rulebook_bytes(rulebook: Rulebook) -> int:
    """To make it: `neighbors` written, coords of 3-D sites read, new ones written."""
    sites = rulebook.inputs + (0 if rulebook.submanifold else rulebook.outputs)
    return neighbor_bytes(rulebook) + 4 * _INDEX_BYTES * sites


def _bytes_beside_rows(layer: Layer, precision: Precision) -> int:
    """Weights and `neighbors` read once, outputs written once."""
    weights = layer.rulebook.volume * layer.in_channels * layer.out_channels
    outputs = layer.rulebook.outputs * layer.out_channels
    return precision.bytes * (weights + outputs) + neighbor_bytes(layer.rulebook)


def bytes_once(layer: Layer, precision: Precision) -> int:
    """Every row that some pair needs is read once."""
    rows = layer.rulebook.inputs_with_pairs
    return _bytes_beside_rows(layer, precision) + precision.bytes * rows * layer.in_channels


def bytes_gathered(layer: Layer, precision: Precision) -> int:
    """Every pair reads its row."""
    rows = layer.rulebook.pairs
    return _bytes_beside_rows(layer, precision) + precision.bytes * rows * layer.in_channels


def tile_work(rulebook: Rulebook, height: int = 64) -> float:
    """Rows that tiles of this height multiply, over the pairs that there are."""
    return rulebook.rows_of_tiles[TILES.index(height)] / rulebook.pairs


def bound(layer: Layer, precision: Precision, machine: Machine) -> Bound:
    """Of one layer."""
    arithmetic = layer.flops / machine.flops_per_second[precision.name]
    return Bound(
        arithmetic,
        arithmetic * tile_work(layer.rulebook),
        bytes_once(layer, precision) / machine.bytes_per_second,
        bytes_gathered(layer, precision) / machine.bytes_per_second,
    )


def rulebooks_of(layers: Sequence[Layer]) -> list[Rulebook]:
    """Each one once, in the order of their first use."""
    return list(dict.fromkeys(layer.rulebook for layer in layers))


def page_text(layers: Sequence[Layer], scan: Scan) -> str:
    """All tables as Markdown."""
    grid = " × ".join(map(str, SPATIAL_SHAPE))
    lines = [f"`{scan.name}`, {scan.num_sites:,} sites, grid {grid}.", "", *_sizes(layers)]
    for machine in MACHINES:
        lines += ["", *_times(layers, machine)]
    return "\n".join(lines)


def _sizes(layers: Sequence[Layer]) -> Iterator[str]:
    heights = " · ".join(map(str, TILES))
    yield (
        "| layer | K | output sites | pairs | GFLOP | MB, fp32 · fp16 | MB gathered "
        f"| FLOP per byte | rows multiplied per pair, tiles of {heights} rows |"
    )
    yield "|" + " --- |" * 9
    for layer, times in _repeats(layers):
        book = layer.rulebook
        work = " · ".join(f"{tile_work(book, height):.1f}" for height in TILES)
        yield (
            f"| {_name(layer, times)} | {book.volume} | {book.outputs:,} | {book.pairs:,} "
            f"| {layer.flops / 1e9:.3f} "
            f"| {_megabytes([layer], bytes_once)} | {_megabytes([layer], bytes_gathered)} "
            f"| {_intensity(layer)} | {work} |"
        )
    flops = sum(layer.flops for layer in layers)
    work = " · ".join(
        f"{sum(layer.flops * tile_work(layer.rulebook, height) for layer in layers) / flops:.1f}"
        for height in TILES
    )
    yield (
        f"| all {len(layers)} | | | | {flops / 1e9:.2f} | {_megabytes(layers, bytes_once)} "
        f"| {_megabytes(layers, bytes_gathered)} | | {work} |"
    )


def _repeats(layers: Sequence[Layer]) -> Iterator[tuple[Layer, int]]:
    """Equal layers in a row, and how many they are."""
    for layer, group in groupby(layers):
        yield layer, len(list(group))


def _name(layer: Layer, times: int) -> str:
    name = f"`{layer.rulebook.name}` {layer.in_channels} → {layer.out_channels}"
    return name if times == 1 else f"{name}, {times} times"


def _megabytes(layers: Sequence[Layer], size: Callable[[Layer, Precision], int]) -> str:
    sums = (sum(size(layer, precision) for layer in layers) for precision in (FP32, FP16))
    return " · ".join(f"{total / 1e6:.1f}" for total in sums)


def _intensity(layer: Layer) -> str:
    sizes = (bytes_once(layer, precision) for precision in (FP32, FP16))
    return " · ".join(f"{layer.flops / size:.0f}" for size in sizes)


def _times(layers: Sequence[Layer], machine: Machine) -> Iterator[str]:
    names = [precision.name for precision in PRECISIONS]
    yield f"| {machine.name}, µs | {' | '.join(names)} | limit: {' · '.join(names)} |"
    yield "|" + " --- |" * 5
    for layer, times in _repeats(layers):
        bounds = [bound(layer, precision, machine) for precision in PRECISIONS]
        cells = " | ".join(_span(one.least, one.without_cache) for one in bounds)
        limits = " · ".join(one.limit for one in bounds)
        each = ", each" if times > 1 else ""
        yield f"| {_name(layer, times)}{each} | {cells} | {limits} |"
    books = sum(map(rulebook_bytes, rulebooks_of(layers))) / machine.bytes_per_second
    yield f"| rulebooks | {' | '.join(_time(books) for _ in names)} | memory |"
    frame = {
        precision: [bound(layer, precision, machine) for layer in layers]
        for precision in PRECISIONS
    }
    spans = (
        _span(books + sum(one.least for one in each), books + sum(b.without_cache for b in each))
        for each in frame.values()
    )
    yield f"| **frame** | {' | '.join(spans)} | |"
    tiles = (_time(books + sum(one.by_tiles for one in each)) for each in frame.values())
    yield f"| frame, tiles of 64 rows | {' | '.join(tiles)} | |"


def _time(seconds: float) -> str:
    micros = 1e6 * seconds
    return f"{micros:.1f}" if micros < 100 else f"{micros:,.0f}"


def _span(low: float, high: float) -> str:
    texts = dict.fromkeys((_time(low), _time(high)))
    return "–".join(texts)
