# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Functions over several sparse tensors."""

from __future__ import annotations

from voxgate_ops import torch_ops
from voxgate_ops.nn.core import SparseConvTensor
from voxgate_ops.nn.sites import SiteSet


def sparse_add(*tens: SparseConvTensor) -> SparseConvTensor:
    """The sum of tensors whose sites may differ; a missing site counts as zeros.

    The result has the union of the sites, in canonical order, and no rulebooks; where all share
    their sites it keeps both. Raises ValueError for different grids, batches or channel counts.
    """
    if not tens:
        raise ValueError("sparse_add needs at least one tensor")
    total = tens[0]
    for other in tens[1:]:
        _check_same_grid(total, other)
        if other.sites is total.sites:
            total = total + other
            continue
        coords_a, features_a = total.sites.canonical_rows(total.features, total.spatial_shape)
        coords_b, features_b = other.sites.canonical_rows(other.features, other.spatial_shape)
        coords, features = torch_ops.call(
            "sparse_union", coords_a, features_a, coords_b, features_b, "sum"
        )
        total = total.derive(features, SiteSet(coords, canonical=True), indice_dict={})
    return total


sparse_add_hash_based = sparse_add


def _check_same_grid(a: SparseConvTensor, b: SparseConvTensor) -> None:
    if a.spatial_shape != b.spatial_shape:
        raise ValueError(f"spatial shapes {a.spatial_shape} and {b.spatial_shape} differ")
    if a.batch_size is not b.batch_size and a.batch_size != b.batch_size:
        raise ValueError(f"batch sizes {a.batch_size} and {b.batch_size} differ")
    if a.features.shape[1] != b.features.shape[1]:
        raise ValueError(f"channels {a.features.shape[1]} and {b.features.shape[1]} differ")
