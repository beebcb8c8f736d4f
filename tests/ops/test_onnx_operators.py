# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Every ONNX operator against its definition in `voxgate_ops.reference`, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from voxgate_ops import reference

Array = NDArray[Any]

COUNTS = [0, 1, 19, 989]
AXES = [1, 2, 3, 4]
GRIDS: dict[int, list[int]] = {1: [4096], 2: [40, 53], 3: [12, 17, 19], 4: [6, 7, 8, 9]}
BATCH_SIZE = 3
every_size = pytest.mark.parametrize("count", COUNTS)
every_axes = pytest.mark.parametrize("axes", AXES)


def wide(x: Array) -> torch.Tensor:
    """Floats as float64, everything else as it is."""
    tensor = torch.from_numpy(np.ascontiguousarray(x))
    return tensor.double() if tensor.is_floating_point() else tensor


def expect_equal(got: Array, want: torch.Tensor) -> None:
    assert got.dtype == np.dtype(str(want.dtype).removeprefix("torch."))
    np.testing.assert_array_equal(got, want.numpy())


def expect_close(got: Array, want: torch.Tensor) -> None:
    """To 1e-5 of the largest magnitude."""
    assert got.dtype == np.float32
    assert list(got.shape) == list(want.shape)
    scale = float(want.abs().max()) if want.numel() else 1.0
    np.testing.assert_allclose(got, want.numpy(), rtol=0, atol=1e-5 * max(scale, 1e-30))


@every_size
@every_axes
@pytest.mark.parametrize("duplicates", ["error", "first"])
def test_sort_sites(operators, sites, count, axes, duplicates):
    coords = sites.coords(count, GRIDS[axes])
    if duplicates == "first":
        coords = np.concatenate([coords, coords[: count // 2]])
    coords = sites.random.permutation(coords)
    got = operators.run(
        "SortSites",
        {"coords": coords},
        ["coords", "order", "rank"],
        spatial_shape=GRIDS[axes],
        duplicates=duplicates,
    )
    want = reference.sort_sites(wide(coords), GRIDS[axes], duplicates)
    for a, b in zip(got, want, strict=True):
        expect_equal(a, b)


@every_size
@every_axes
@pytest.mark.parametrize("dilation", [None, 2])
def test_submanifold_rulebook(operators, sites, count, axes, dilation):
    coords = sites.coords(count, GRIDS[axes])
    kernel_size = [3, 5, 1, 3][:axes]
    given = {} if dilation is None else {"dilation": [dilation] * axes}
    (got,) = operators.run(
        "SubmanifoldRulebook",
        {"coords": coords},
        ["neighbors"],
        spatial_shape=GRIDS[axes],
        kernel_size=kernel_size,
        **given,
    )
    dilations = [dilation or 1] * axes
    expect_equal(
        got, reference.submanifold_rulebook(wide(coords), GRIDS[axes], kernel_size, dilations)
    )


GEOMETRIES = [
    pytest.param({"kernel_size": 3}, id="defaults"),
    pytest.param({"kernel_size": 3, "stride": 2, "padding": 1}, id="downsample"),
    pytest.param({"kernel_size": 2, "stride": 3, "dilation": 2}, id="gaps"),
    pytest.param({"kernel_size": 2, "stride": 2, "transposed": 1}, id="upsample"),
    pytest.param(
        {"kernel_size": 3, "stride": 2, "padding": 1, "transposed": 1, "output_padding": 1},
        id="transposed",
    ),
]


def per_axis(geometry: dict[str, int], axes: int) -> dict[str, Any]:
    return {
        name: value if name == "transposed" else [value] * axes for name, value in geometry.items()
    }


def complete(geometry: dict[str, int], axes: int) -> dict[str, Any]:
    """What the operator's defaults make of a geometry, as the reference wants it."""
    defaults = {"stride": 1, "padding": 0, "dilation": 1, "output_padding": 0, "transposed": 0}
    full = per_axis(defaults | geometry, axes)
    full["transposed"] = bool(full["transposed"])
    return full


@every_size
@every_axes
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_sparse_rulebook(operators, sites, count, axes, geometry):
    coords = sites.coords(count, GRIDS[axes])
    got = operators.run(
        "SparseRulebook",
        {"coords": coords},
        ["out_coords", "neighbors"],
        spatial_shape=GRIDS[axes],
        **per_axis(geometry, axes),
    )
    want = reference.sparse_rulebook(wide(coords), GRIDS[axes], **complete(geometry, axes))
    for a, b in zip(got, want, strict=True):
        expect_equal(a, b)


@every_size
@every_axes
def test_sparse_rulebook_at_given_sites(operators, sites, count, axes):
    coords = sites.coords(300, GRIDS[axes])
    halved = [(size - 1) // 2 + 1 for size in GRIDS[axes]]
    out_coords = sites.coords(min(count, int(np.prod(halved))), halved)
    geometry = {"kernel_size": 3, "stride": 2, "padding": 1}
    got = operators.run(
        "SparseRulebook",
        {"coords": coords, "out_coords": out_coords},
        ["out_coords", "neighbors"],
        spatial_shape=GRIDS[axes],
        **per_axis(geometry, axes),
    )
    want = reference.sparse_rulebook(
        wide(coords), GRIDS[axes], **complete(geometry, axes), out_coords=wide(out_coords)
    )
    for a, b in zip(got, want, strict=True):
        expect_equal(a, b)


def rulebook(coords: Array, axes: int, **geometry: int) -> Array:
    """neighbors of a regular convolution over the sites."""
    full = complete(geometry, axes)
    return reference.sparse_rulebook(torch.from_numpy(coords), GRIDS[axes], **full)[1].numpy()


@every_size
@every_axes
def test_inverse_rulebook(operators, sites, count, axes):
    coords = sites.coords(count, GRIDS[axes])
    neighbors = rulebook(coords, axes, kernel_size=3, stride=2, padding=1)
    (got,) = operators.run(
        "InverseRulebook", {"neighbors": neighbors, "coords": coords}, ["neighbors"]
    )
    expect_equal(got, reference.inverse_rulebook(wide(neighbors), count))


@every_size
@every_axes
@pytest.mark.parametrize(
    ("groups", "activation"),
    [(1, "none"), (1, "relu"), (2, "leaky_relu"), (6, "sigmoid"), (1, "silu"), (3, "gelu")],
)
def test_sparse_conv(operators, sites, count, axes, groups, activation):
    coords = sites.coords(count, GRIDS[axes])
    neighbors = rulebook(coords, axes, kernel_size=3, stride=2, padding=1)
    features = sites.floats(count, 6)
    weight = sites.floats(neighbors.shape[0], 6 // groups, 18)
    bias, residual = sites.floats(18), sites.floats(neighbors.shape[1], 18)
    (got,) = operators.run(
        "SparseConv",
        {
            "features": features,
            "neighbors": neighbors,
            "weight": weight,
            "bias": bias,
            "residual": residual,
        },
        ["features"],
        constants=["weight", "bias"],
        groups=groups,
        activation=activation,
        alpha=0.25,
    )
    want = reference.sparse_conv(
        *map(wide, (features, neighbors, weight, bias, residual)), groups, activation, 0.25
    )
    expect_close(got, want)


@every_size
@every_axes
@pytest.mark.parametrize("mode", ["max", "avg", "sum"])
def test_sparse_pool(operators, sites, count, axes, mode):
    coords = sites.coords(count, GRIDS[axes])
    neighbors = rulebook(coords, axes, kernel_size=2, stride=2)
    features = sites.floats(count, 7)
    (got,) = operators.run(
        "SparsePool", {"features": features, "neighbors": neighbors}, ["features"], mode=mode
    )
    expect_close(got, reference.sparse_pool(wide(features), wide(neighbors), mode))


@every_size
@every_axes
@pytest.mark.parametrize("mode", ["max", "avg", "sum"])
def test_sparse_global_pool(operators, sites, count, axes, mode):
    coords, features = sites.coords(count, GRIDS[axes]), sites.floats(count, 5)
    (got,) = operators.run(
        "SparseGlobalPool",
        {"features": features, "coords": coords, "batch_size": np.array(BATCH_SIZE)},
        ["pooled"],
        mode=mode,
    )
    want = reference.sparse_global_pool(wide(features), wide(coords), BATCH_SIZE, mode)
    expect_close(got, want)


@every_size
@every_axes
def test_sparse_to_dense_and_back(operators, sites, count, axes):
    coords, features = sites.coords(count, GRIDS[axes]), sites.floats(count, 3)
    (dense,) = operators.run(
        "SparseToDense",
        {"coords": coords, "features": features, "batch_size": np.array([BATCH_SIZE])},
        ["dense"],
        spatial_shape=GRIDS[axes],
    )
    assert dense.shape == (BATCH_SIZE, 3, *GRIDS[axes])
    expect_close(
        dense,
        reference.sparse_to_dense(wide(coords), wide(features), BATCH_SIZE, GRIDS[axes]),
    )
    got = operators.run("DenseToSparse", {"dense": dense}, ["coords", "features"], threshold=0.5)
    want = reference.dense_to_sparse(wide(dense), 0.5)
    expect_equal(got[0], want[0])
    expect_close(got[1], want[1])
    # The default threshold keeps every cell that holds anything.
    np.testing.assert_array_equal(
        operators.run("DenseToSparse", {"dense": dense}, ["coords", "features"])[0], coords
    )


@every_size
@every_axes
@pytest.mark.parametrize("mode", ["sum", "concat"])
def test_sparse_union(operators, sites, count, axes, mode):
    a, b = sites.coords(count, GRIDS[axes]), sites.coords(500, GRIDS[axes])
    features_a, features_b = sites.floats(count, 4), sites.floats(500, 4 if mode == "sum" else 9)
    inputs = {"coords_a": a, "features_a": features_a, "coords_b": b, "features_b": features_b}
    got = operators.run("SparseUnion", inputs, ["coords", "features"], mode=mode)
    want = reference.sparse_union(*(wide(x) for x in inputs.values()), mode)
    expect_equal(got[0], want[0])
    expect_close(got[1], want[1])


@every_size
@every_axes
def test_find_sites(operators, sites, count, axes):
    coords, query = sites.coords(count, GRIDS[axes]), sites.coords(700, GRIDS[axes])
    query = sites.random.permutation(np.concatenate([query, coords]))
    query[::7, 1] = -1
    (got,) = operators.run("FindSites", {"coords": coords, "query": query}, ["row"])
    expect_equal(got, reference.find_sites(wide(coords), wide(query)))


@every_size
@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int64])
@pytest.mark.parametrize("fill", [None, -3.0])
def test_gather_rows(operators, sites, count, dtype, fill):
    x = (1000 * sites.floats(count, 5)).astype(dtype)
    row = sites.random.integers(-1, count, 321, dtype=np.int32)
    given = {} if fill is None else {"fill": fill}
    (got,) = operators.run("GatherRows", {"x": x, "row": row}, ["y"], **given)
    expect_equal(got, reference.gather_rows(torch.from_numpy(x), wide(row), fill or 0.0))


@every_size
@every_axes
@pytest.mark.parametrize("mode", ["sum", "mean", "max", "first"])
def test_reduce_rows(operators, sites, count, axes, mode):
    coords = sites.coords(count, GRIDS[axes])
    x, row = sites.floats(600, 5), sites.random.integers(-1, count, 600, dtype=np.int32)
    (got,) = operators.run("ReduceRows", {"x": x, "row": row, "coords": coords}, ["y"], mode=mode)
    expect_close(got, reference.reduce_rows(wide(x), wide(row), count, mode))


def grid(axes: int) -> dict[str, list[float]]:
    """A metric grid of 8 × 10 × … voxels in x, y, … around the origin."""
    low = [-2.0, -2.5, -1.0, 0.0][:axes]
    return {
        "point_range": [*low, *(x + 4.0 for x in low)],
        "voxel_size": [0.5, 0.4, 0.25, 1.0][:axes],
    }


def cloud(sites: Any, count: int, axes: int) -> tuple[Array, Array]:
    """Points in and around the grid, a few of them not finite, of batch 0 and 2."""
    points = (2.5 * sites.floats(count, axes + 2)).astype(np.float32)
    points[::11, 0] = np.nan
    points[5::13, axes - 1] = np.inf
    points[:, axes:] = sites.floats(count, 2)
    return points, 2 * sites.random.integers(0, 2, count, dtype=np.int32)


@every_size
@every_axes
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reduce": "max"},
        {"reduce": "sum", "max_points": 2},
        {"reduce": "first", "max_voxels": 5},
    ],
    ids=str,
)
def test_voxelize(operators, sites, count, axes, options):
    points, point_batch = cloud(sites, count, axes)
    got = operators.run(
        "Voxelize",
        {"points": points, "point_batch": point_batch},
        ["coords", "features", "point_voxel"],
        **grid(axes),
        **options,
    )
    # In float32, as the operator defines the index; the reduction is then exact enough.
    want = reference.voxelize(
        torch.from_numpy(points), torch.from_numpy(point_batch), **grid(axes), **options
    )
    expect_equal(got[0], want[0])
    expect_close(got[1], want[1])
    expect_equal(got[2], want[2])


@every_size
@every_axes
@pytest.mark.parametrize(
    "options",
    [{}, {"mode": "nearest"}, {"anchor": "corner", "normalize": 0}],
    ids=str,
)
def test_sparse_interpolate(operators, sites, count, axes, options):
    shape = reference.grid_shape(**grid(axes))
    coords = sites.coords(int(np.prod(shape)), shape)
    features = sites.floats(len(coords), 5)
    points, point_batch = cloud(sites, count, axes)
    inputs = {
        "features": features,
        "coords": coords,
        "points": points,
        "point_batch": point_batch,
    }
    (got,) = operators.run("SparseInterpolate", inputs, ["sampled"], **grid(axes), **options)
    want = reference.sparse_interpolate(
        *(torch.from_numpy(x) for x in inputs.values()),
        **grid(axes),
        **(options | {"normalize": bool(options.get("normalize", 1))}),
    )
    expect_close(got, want)


@every_size
@pytest.mark.parametrize("limits", [{}, {"score_threshold": 0.3, "max_per_frame": 4}], ids=str)
def test_rotated_nms(operators, sites, count, limits):
    boxes = np.abs(sites.floats(count, 7)) + np.float32(0.5)
    boxes[:, :3] = 6 * sites.floats(count, 3)
    scores = sites.random.random(count, dtype=np.float32)
    frame = sites.random.integers(0, 3, count, dtype=np.int32)
    inputs = {"boxes": boxes, "scores": scores, "frame": frame}
    (got,) = operators.run("RotatedNms", inputs, ["kept"], iou_threshold=0.2, **limits)
    want = reference.rotated_nms(*(torch.from_numpy(x) for x in inputs.values()), 0.2, **limits)
    expect_equal(got, want)
