# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What each torch operator becomes in ONNX, where torch does not know it or we know better."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnxscript import opset20
from onnxscript.values import Opset

from voxgate_ops import (
    schemas,
    torch_ops,  # noqa: F401 (registers torch.ops.voxgate)
)

OPSET_VERSION = 20
standard: Any = opset20
_voxgate: Any = Opset(schemas.DOMAIN, schemas.VERSION)


@torch.library.custom_op("voxgate_export::batch_norm", mutates_args=())
def frozen_batch_norm(
    x: torch.Tensor,
    scale: torch.Tensor,
    shift: torch.Tensor,
    mean: torch.Tensor,
    variance: torch.Tensor,
    epsilon: float,
) -> torch.Tensor:
    """Batch normalization in eval mode as one opaque operator.

    torch's own guards on the number of rows, which is unknown while a sparse network is traced.
    """
    return torch.nn.functional.batch_norm(x, mean, variance, scale, shift, False, 0.0, epsilon)


@frozen_batch_norm.register_fake
def _(x: torch.Tensor, *_: Any) -> torch.Tensor:
    return torch.empty_like(x)


def _batch_norm(x: Any, scale: Any, shift: Any, mean: Any, variance: Any, epsilon: float) -> Any:
    return standard.BatchNormalization(x, scale, shift, mean, variance, epsilon=epsilon)


def _top_k(x: Any, k: Any, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:  # noqa: A002
    """Takes all there are where there are fewer than k: a frame may have any number of sites."""
    size = standard.Gather(standard.Shape(x), standard.Constant(value_ints=[dim]))
    if isinstance(k, int):
        wanted = standard.Constant(value_ints=[k])
    else:  # computed from a number of rows, as in min(k, len(scores))
        wanted = standard.Reshape(k, standard.Constant(value_ints=[1]))
    count = standard.Min(size, wanted)
    return standard.TopK(x, count, axis=dim, largest=int(largest), sorted=int(sorted))


def _sort_sites(coords: Any, spatial_shape: Sequence[int], duplicates: str = "error") -> Any:
    return _voxgate.SortSites(coords, spatial_shape=spatial_shape, duplicates=duplicates)


def _find_sites(coords: Any, query: Any) -> Any:
    return _voxgate.FindSites(coords, query)


def _submanifold_rulebook(
    coords: Any, spatial_shape: Sequence[int], kernel_size: Sequence[int], dilation: Sequence[int]
) -> Any:
    return _voxgate.SubmanifoldRulebook(
        coords, kernel_size=kernel_size, dilation=dilation, spatial_shape=spatial_shape
    )


def _sparse_rulebook(
    coords: Any,
    spatial_shape: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool = False,
    output_padding: Sequence[int] | None = None,
    out_coords: Any = None,
) -> Any:
    return _voxgate.SparseRulebook(
        coords,
        out_coords,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        spatial_shape=spatial_shape,
        transposed=int(transposed),
        output_padding=output_padding or [0] * len(kernel_size),
    )


def _inverse_rulebook(neighbors: Any, coords: Any) -> Any:
    return _voxgate.InverseRulebook(neighbors, coords)


def _sparse_conv(
    features: Any,
    neighbors: Any,
    weight: Any,
    bias: Any = None,
    residual: Any = None,
    groups: int = 1,
    activation: str = "none",
    alpha: float = 0.01,
) -> Any:
    return _voxgate.SparseConv(
        features,
        neighbors,
        weight,
        bias,
        residual,
        groups=groups,
        activation=activation,
        alpha=alpha,
    )


def _sparse_pool(features: Any, neighbors: Any, mode: str) -> Any:
    return _voxgate.SparsePool(features, neighbors, mode=mode)


def _sparse_global_pool(features: Any, coords: Any, batch_size: Any, mode: str) -> Any:
    return _voxgate.SparseGlobalPool(features, coords, batch_size, mode=mode)


def _sparse_to_dense(
    coords: Any, features: Any, batch_size: Any, spatial_shape: Sequence[int]
) -> Any:
    return _voxgate.SparseToDense(coords, features, batch_size, spatial_shape=spatial_shape)


def _dense_to_sparse(dense: Any, threshold: float = 0.0) -> Any:
    return _voxgate.DenseToSparse(dense, threshold=threshold)


def _sparse_union(coords_a: Any, features_a: Any, coords_b: Any, features_b: Any, mode: str) -> Any:
    return _voxgate.SparseUnion(coords_a, features_a, coords_b, features_b, mode=mode)


def _gather_rows(x: Any, row: Any, fill: float = 0.0) -> Any:
    return _voxgate.GatherRows(x, row, fill=fill)


def _reduce_rows(x: Any, row: Any, coords: Any, mode: str) -> Any:
    return _voxgate.ReduceRows(x, row, coords, mode=mode)


def _voxelize(
    points: Any,
    point_batch: Any,
    point_range: Sequence[float],
    voxel_size: Sequence[float],
    reduce: str = "mean",
    max_points: int = 0,
    max_voxels: int = 0,
) -> Any:
    return _voxgate.Voxelize(
        points,
        point_batch,
        point_range=point_range,
        voxel_size=voxel_size,
        reduce=reduce,
        max_points=max_points,
        max_voxels=max_voxels,
    )


def _sparse_interpolate(
    features: Any,
    coords: Any,
    points: Any,
    point_batch: Any,
    point_range: Sequence[float],
    voxel_size: Sequence[float],
    mode: str = "trilinear",
    anchor: str = "center",
    normalize: bool = True,
) -> Any:
    return _voxgate.SparseInterpolate(
        features,
        coords,
        points,
        point_batch,
        point_range=point_range,
        voxel_size=voxel_size,
        mode=mode,
        anchor=anchor,
        normalize=int(normalize),
    )


def _rotated_nms(
    boxes: Any,
    scores: Any,
    frame: Any,
    iou_threshold: float,
    score_threshold: float = 0.0,
    max_per_frame: int = 0,
) -> Any:
    return _voxgate.RotatedNms(
        boxes,
        scores,
        frame,
        iou_threshold=iou_threshold,
        score_threshold=score_threshold,
        max_per_frame=max_per_frame,
    )


TRANSLATIONS: dict[str, Callable[..., Any]] = {
    "sort_sites": _sort_sites,
    "find_sites": _find_sites,
    "submanifold_rulebook": _submanifold_rulebook,
    "sparse_rulebook": _sparse_rulebook,
    "inverse_rulebook": _inverse_rulebook,
    "sparse_conv": _sparse_conv,
    "sparse_pool": _sparse_pool,
    "sparse_global_pool": _sparse_global_pool,
    "sparse_to_dense": _sparse_to_dense,
    "dense_to_sparse": _dense_to_sparse,
    "sparse_union": _sparse_union,
    "gather_rows": _gather_rows,
    "reduce_rows": _reduce_rows,
    "voxelize": _voxelize,
    "sparse_interpolate": _sparse_interpolate,
    "rotated_nms": _rotated_nms,
}


def translation_table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """The `custom_translation_table` of `torch.onnx.export`."""
    table: dict[Callable[..., Any], Callable[..., Any]] = {
        getattr(torch.ops.voxgate, name).default: translate
        for name, translate in TRANSLATIONS.items()
    }
    table[torch.ops.voxgate_export.batch_norm.default] = _batch_norm
    table[torch.ops.aten.topk.default] = _top_k
    return table
