# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The networks of voxgate_ops.models in eager torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import voxgate_ops.nn as spconv
from voxgate_ops import models

SHAPE = [41, 24, 32]


def batch(frames: int = 2, count: int = 200, seed: int = 0) -> spconv.SparseConvTensor:
    generator = torch.Generator().manual_seed(seed)
    volume = SHAPE[0] * SHAPE[1] * SHAPE[2]
    cell = torch.randperm(frames * volume, generator=generator)[:count]
    site = cell % volume
    columns = (cell // volume, site // (24 * 32), site // 32 % 24, site % 32)
    coords = torch.stack(columns, dim=1).to(torch.int32)
    return spconv.SparseConvTensor(
        torch.randn(count, 4, generator=generator), coords, SHAPE, frames
    )


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def norm_shapes(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{name}.{part}": (channels,) for part in parts}, f"{name}.num_batches_tracked": ()}


def conv_shapes(
    name: str, inputs: int, outputs: int, kernel: tuple[int, int, int] = (3, 3, 3)
) -> dict[str, tuple[int, ...]]:
    """conv, batch norm and ReLU, as OpenPCDet's post_act_block lays them out."""
    return {f"{name}.0.weight": (outputs, *kernel, inputs), **norm_shapes(f"{name}.1", outputs)}


def residual_shapes(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    """As in OpenPCDet's SparseBasicBlock."""
    found: dict[str, tuple[int, ...]] = {}
    for i in ("1", "2"):
        found[f"{name}.conv{i}.weight"] = (channels, 3, 3, 3, channels)
        found[f"{name}.conv{i}.bias"] = (channels,)
        found.update(norm_shapes(f"{name}.bn{i}", channels))
    return found


def test_backbone_loads_openpcdet_checkpoints() -> None:
    expected = {
        **conv_shapes("conv_input", 4, 16),
        **conv_shapes("conv1.0", 16, 16),
        **conv_shapes("conv2.0", 16, 32),
        **conv_shapes("conv2.1", 32, 32),
        **conv_shapes("conv2.2", 32, 32),
        **conv_shapes("conv3.0", 32, 64),
        **conv_shapes("conv3.1", 64, 64),
        **conv_shapes("conv3.2", 64, 64),
        **conv_shapes("conv4.0", 64, 64),
        **conv_shapes("conv4.1", 64, 64),
        **conv_shapes("conv4.2", 64, 64),
        **conv_shapes("conv_out", 64, 128, (3, 1, 1)),
    }
    assert shapes(models.voxel_backbone8x()) == expected


def test_residual_backbone_loads_openpcdet_checkpoints() -> None:
    expected = {**conv_shapes("conv_input", 5, 16), **conv_shapes("conv_out", 128, 128, (3, 1, 1))}
    widths = (16, 32, 64, 128)
    for level, width in enumerate(widths, start=1):
        first = 0
        if level > 1:
            expected.update(conv_shapes(f"conv{level}.0", widths[level - 2], width))
            first = 1
        for block in (first, first + 1):
            expected.update(residual_shapes(f"conv{level}.{block}", width))
    assert shapes(models.voxel_res_backbone8x(num_features=5)) == expected


@pytest.mark.parametrize("build", [models.voxel_backbone8x, models.voxel_res_backbone8x])
def test_batch_norm_settings_and_geometry(build: type) -> None:
    network = build()
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d)]
    assert all((m.eps, m.momentum) == (1e-3, 0.01) for m in norms)
    assert list(network.conv4[0][0].padding) == [0, 1, 1]
    assert list(network.conv_out[0].stride) == [2, 1, 1]
    assert list(network.conv_out[0].padding) == [0, 0, 0]


@pytest.mark.parametrize("build", [models.voxel_backbone8x, models.voxel_res_backbone8x])
def test_the_bev_map(build: type) -> None:
    with torch.no_grad():
        bev = build()(batch())["bev"]
    # z: 41 -> 21 -> 11 -> 5 -> 2 levels, folded into 128 channels; y and x: an eighth.
    assert bev.shape == (2, 256, 3, 4)
    assert bev.abs().max() > 1e-2


def test_height_is_folded_into_channels_z_fastest() -> None:
    network = models.voxel_backbone8x()
    x = batch()
    with torch.no_grad():
        bev = network(x)["bev"]
        for level in (network.conv_input, network.conv1, network.conv2, network.conv3,
                      network.conv4, network.conv_out):  # fmt: skip
            x = level(x)
    frame, z, y, column = x.indices[0].tolist()
    torch.testing.assert_close(bev[frame, z::2, y, column], x.features[0])


def test_unet_labels_every_site() -> None:
    x = batch()
    with torch.no_grad():
        found = models.sparse_unet()(x)
    assert found["label"].dtype == torch.int32
    assert found["label"].shape == found["score"].shape == (200,)
    assert 0 <= found["label"].min() <= found["label"].max() < 6
    assert ((found["score"] > 1 / 6 - 1e-6) & (found["score"] <= 1)).all()
    assert len(found["label"].unique()) > 1


def test_unet_configuration() -> None:
    network = models.sparse_unet(num_features=5, num_classes=3, channels=(8, 16))
    assert len(network.downs) == len(network.ups) == 1
    assert network.head.weight.shape == (3, 1, 1, 1, 8)
    assert models.MODELS["sparse_unet"].class_names == (
        "ground", "building", "vehicle", "pedestrian", "pole", "tree"
    )  # fmt: skip


def test_unet_rows_follow_the_input() -> None:
    network = models.sparse_unet(channels=(8, 16, 16))
    x = batch()
    order = torch.randperm(200, generator=torch.Generator().manual_seed(3))
    shuffled = spconv.SparseConvTensor(x.features[order], x.indices[order], SHAPE, 2)
    with torch.no_grad():
        label, score = network(x).values()
        label_shuffled, score_shuffled = network(shuffled).values()
    torch.testing.assert_close(label_shuffled, label[order])
    torch.testing.assert_close(score_shuffled, score[order])


@pytest.mark.parametrize("name", models.MODELS)
def test_weights_are_seeded(name: str) -> None:
    build = models.MODELS[name].build

    def weights(seed: int) -> dict[str, Tensor]:
        return build(num_features=4, seed=seed).state_dict()

    first = weights(0)
    torch.manual_seed(99)  # the global generator plays no part
    again, other = weights(0), weights(1)
    assert all(torch.equal(first[key], again[key]) for key in first)
    key = "conv_input.0.weight"
    assert not torch.equal(first[key], other[key])


@pytest.mark.parametrize("name", models.MODELS)
def test_grids_agree_with_ranges(name: str) -> None:
    spec = models.MODELS[name]
    for axis in range(3):
        low, high = spec.point_range[axis], spec.point_range[axis + 3]
        cells = round((high - low) / spec.voxel_size[axis])
        assert cells <= spec.spatial_shape[2 - axis] <= cells + 1
