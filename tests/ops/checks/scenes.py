# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies: sites on small grids, kernels over them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

Array = NDArray[Any]

# One class of checks runs for several implementations, which hypothesis takes for a mistake.
sweep = settings(
    max_examples=60,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
)


@dataclass(frozen=True)
class Scene:
    """Canonical sites of a batch, and a generator for values on them."""

    coords: Array  # int32 [N, 1+D]
    spatial_shape: list[int]
    batch_size: int
    seed: int

    @property
    def axes(self) -> int:
        return len(self.spatial_shape)

    @property
    def rows(self) -> int:
        return len(self.coords)

    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)

    def values(self, *shape: int) -> Array:
        """Normal values that float32 holds exactly."""
        values = self.rng().standard_normal(shape)
        return values.astype(np.float32).astype(np.float64)


@dataclass(frozen=True)
class Kernel:
    """Per-axis parameters of a convolution or pooling, and its channels."""

    kernel_size: list[int]
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    output_padding: list[int]
    groups: int
    in_channels: int
    out_channels: int

    @property
    def volume(self) -> int:
        return math.prod(self.kernel_size)

    def output_shape(self, shape: list[int], transposed: bool = False) -> list[int]:
        sizes = []
        for a, size in enumerate(shape):
            k, s, p, d = self.kernel_size[a], self.stride[a], self.padding[a], self.dilation[a]
            if transposed:
                sizes.append((size - 1) * s - 2 * p + d * (k - 1) + 1 + self.output_padding[a])
            else:
                sizes.append(math.floor((size + 2 * p - d * (k - 1) - 1) / s) + 1)
        return sizes


def sites_of(mask: Array) -> Array:
    """Canonical int32 [N, 1+D] of the true cells of a mask [B, *shape]."""
    return np.ascontiguousarray(np.argwhere(mask), dtype=np.int32)


def _active_cells(kind: str, shape: list[int], rng: np.random.Generator) -> Array:
    active = np.zeros(shape, dtype=bool)
    if kind == "one":
        active.flat[rng.integers(active.size)] = True
    elif kind == "borders":  # the faces of the grid
        active[...] = True
        active[tuple(slice(1, -1) for _ in shape)] = False
    elif kind == "corners":
        active[np.ix_(*([0, size - 1] for size in shape))] = True
    elif kind == "all":
        active[...] = True
    elif kind in ("few", "many"):
        active = rng.random(shape) < (0.15 if kind == "few" else 0.5)
    return active


@st.composite
def scenes(draw: st.DrawFn, min_axes: int = 1, max_axes: int = 3, max_size: int = 7) -> Scene:
    """Grids of every number of axes with 0 sites, 1 site, sites on every border, empty frames."""
    axes = draw(st.integers(min_axes, max_axes))
    shape = draw(st.lists(st.integers(1, max_size), min_size=axes, max_size=axes))
    kinds = st.sampled_from(["none", "one", "borders", "corners", "few", "many", "many", "all"])
    frames = draw(st.lists(kinds, min_size=1, max_size=3))
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    active = np.stack([_active_cells(kind, shape, rng) for kind in frames])
    return Scene(sites_of(active), shape, len(frames), seed)


@st.composite
def kernels(draw: st.DrawFn, axes: int, odd: bool = False) -> Kernel:
    """Asymmetric and even kernels, stride above the kernel, dilation 2, groups, depthwise."""

    def per_axis(values: st.SearchStrategy[int]) -> list[int]:
        return draw(st.lists(values, min_size=axes, max_size=axes))

    sizes = [1, 3, 3, 5] if odd else [1, 2, 3, 4]
    kernel_size, dilation = per_axis(st.sampled_from(sizes)), per_axis(st.sampled_from([1, 1, 2]))
    stride, padding = per_axis(st.integers(1, 4)), per_axis(st.integers(0, 2))
    extra = [draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)]
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    depthwise = draw(st.integers(0, 4)) == 0
    widths = st.sampled_from([1, 2, 5, 8, 16, 17])
    in_channels, out_channels = groups * draw(widths), groups * draw(widths)
    if depthwise:
        groups = out_channels = in_channels
    return Kernel(kernel_size, stride, padding, dilation, extra, groups, in_channels, out_channels)


@st.composite
def convolutions(draw: st.DrawFn, max_axes: int = 3, odd: bool = False) -> tuple[Scene, Kernel]:
    """A scene and a kernel over its axes."""
    scene = draw(scenes(max_axes=max_axes))
    return scene, draw(kernels(scene.axes, odd))
