# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The rulebook library on numpy arrays.

Arrays must be C-contiguous and of exactly the type shown (TypeError otherwise). `coords` is
`[N, 1+D]`, `neighbors` `[K, M]`; per-axis arguments hold D ints. `threads` 0 uses every core this
process may run on. Every function releases the GIL and raises InvalidArgument or LimitExceeded.
What each computes is defined by the function of the same name in `voxgate_ops.reference`.
"""

from collections.abc import Sequence
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

_F32: TypeAlias = NDArray[np.float32]
_I32: TypeAlias = NDArray[np.int32]
_I64: TypeAlias = NDArray[np.int64]
_Row = TypeVar("_Row", np.float32, np.int32, np.int64)

class InvalidArgument(ValueError):
    """A shape, attribute or value that the operator cannot accept."""

class LimitExceeded(ValueError):
    """A legal request whose result would pass a limit of the library."""

def current_isa() -> str: ...
def supported_isas() -> list[str]: ...
def sort_sites(
    coords: _I32, spatial_shape: Sequence[int], duplicates: str = "error", *, threads: int = 0
) -> tuple[_I32, _I64, _I64]: ...
def check_canonical(coords: _I32, spatial_shape: Sequence[int], *, threads: int = 0) -> None: ...
def find_sites(coords: _I32, query: _I32, *, threads: int = 0) -> _I32: ...
def submanifold_rulebook(
    coords: _I32,
    spatial_shape: Sequence[int],
    kernel_size: Sequence[int],
    dilation: Sequence[int],
    *,
    threads: int = 0,
) -> _I32: ...
def sparse_rulebook(
    coords: _I32,
    spatial_shape: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool = False,
    output_padding: Sequence[int] | None = None,
    out_coords: _I32 | None = None,
    *,
    threads: int = 0,
) -> tuple[_I32, _I32]: ...
def inverse_rulebook(neighbors: _I32, num_inputs: int, *, threads: int = 0) -> _I32: ...
def sparse_conv(
    features: _F32,
    neighbors: _I32,
    weight: _F32,
    bias: _F32 | None = None,
    residual: _F32 | None = None,
    groups: int = 1,
    activation: str = "none",
    alpha: float = 0.01,
    *,
    threads: int = 0,
) -> _F32: ...
def sparse_pool(features: _F32, neighbors: _I32, mode: str, *, threads: int = 0) -> _F32: ...
def sparse_global_pool(
    features: _F32, coords: _I32, batch_size: int, mode: str, *, threads: int = 0
) -> _F32: ...
def sparse_to_dense(
    coords: _I32,
    features: _F32,
    batch_size: int,
    spatial_shape: Sequence[int],
    *,
    threads: int = 0,
) -> _F32: ...
def dense_to_sparse(
    dense: _F32, threshold: float = 0.0, *, threads: int = 0
) -> tuple[_I32, _F32]: ...
def sparse_union(
    coords_a: _I32,
    features_a: _F32,
    coords_b: _I32,
    features_b: _F32,
    mode: str,
    *,
    threads: int = 0,
) -> tuple[_I32, _F32]: ...
def gather_rows(
    x: NDArray[_Row], row: _I32, fill: float = 0.0, *, threads: int = 0
) -> NDArray[_Row]: ...
def reduce_rows(x: _F32, row: _I32, num_outputs: int, mode: str, *, threads: int = 0) -> _F32: ...
def voxelize(
    points: _F32,
    point_batch: _I32,
    point_range: Sequence[float],
    voxel_size: Sequence[float],
    reduce: str = "mean",
    max_points: int = 0,
    max_voxels: int = 0,
    *,
    threads: int = 0,
) -> tuple[_I32, _F32, _I32]: ...
def sparse_interpolate(
    features: _F32,
    coords: _I32,
    points: _F32,
    point_batch: _I32,
    point_range: Sequence[float],
    voxel_size: Sequence[float],
    mode: str = "trilinear",
    anchor: str = "center",
    normalize: bool = True,
    *,
    threads: int = 0,
) -> _F32: ...
def rotated_nms(
    boxes: _F32,
    scores: _F32,
    frame: _I32,
    iou_threshold: float,
    score_threshold: float = 0.0,
    max_per_frame: int = 0,
    *,
    threads: int = 0,
) -> _I64: ...

# Bytes from outside: uint8 `[bytes]`, little-endian rows at any address.

def read_sites(
    data: NDArray[np.uint8], index_bytes: int, spatial_shape: Sequence[int]
) -> tuple[_I32, bool]: ...
def read_floats(data: NDArray[np.uint8], columns: int) -> tuple[_F32, int]: ...
