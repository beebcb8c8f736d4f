# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Dense counterparts in float64: torch.nn.functional on densified grids, sampled at sites."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from tests.ops.checks.scenes import Kernel, Scene, sites_of

Array = NDArray[Any]

CONV: dict[int, Callable[..., torch.Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CONV_TRANSPOSE: dict[int, Callable[..., torch.Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}
MAX_POOL: dict[int, Callable[..., torch.Tensor]] = {
    1: F.max_pool1d,
    2: F.max_pool2d,
    3: F.max_pool3d,
}
ACTIVATE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.1),
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "gelu": F.gelu,
}


def densify(scene_coords: Array, values: Array, batch: int, shape: list[int], fill: float) -> Array:
    """float64 [B, C, *shape]."""
    dense = np.full([batch, values.shape[1], *shape], fill, dtype=np.float64)
    for site, row in zip(scene_coords, values, strict=True):
        dense[(site[0], slice(None), *site[1:])] = row
    return dense


def sample(dense: torch.Tensor, coords: Array) -> Array:
    """[M, C]: the dense tensor's values at sites."""
    columns = dense.movedim(1, -1).numpy()
    return columns[tuple(coords.T)]


def conv_weight(weight: Array, kernel: Kernel) -> torch.Tensor:
    """[K, Ci/g, Co] as torch's [Co, Ci/g, *kernel]."""
    shaped = weight.reshape(*kernel.kernel_size, *weight.shape[1:])
    return torch.from_numpy(np.moveaxis(np.moveaxis(shaped, -1, 0), -1, 1).copy())


def transposed_weight(weight: Array, kernel: Kernel) -> torch.Tensor:
    """[K, Ci/g, Co] as torch's transposed [Ci, Co/g, *kernel]."""
    groups, per_group = kernel.groups, weight.shape[2] // kernel.groups
    parts = [
        conv_weight(weight[:, :, g * per_group : (g + 1) * per_group], kernel).transpose(0, 1)
        for g in range(groups)
    ]
    return torch.cat(parts)


def conv(dense: Array, weight: Array, kernel: Kernel) -> torch.Tensor:
    return CONV[len(kernel.kernel_size)](
        torch.from_numpy(dense),
        conv_weight(weight, kernel),
        stride=kernel.stride,
        padding=kernel.padding,
        dilation=kernel.dilation,
        groups=kernel.groups,
    )


def conv_transpose(
    dense: Array, weight: Array, kernel: Kernel, output_padding: list[int]
) -> torch.Tensor:
    return CONV_TRANSPOSE[len(kernel.kernel_size)](
        torch.from_numpy(dense),
        transposed_weight(weight, kernel),
        stride=kernel.stride,
        padding=kernel.padding,
        output_padding=output_padding,
        dilation=kernel.dilation,
        groups=kernel.groups,
    )


def max_pool(dense: Array, kernel: Kernel) -> torch.Tensor:
    """Padded by hand with -inf: torch allows padding only up to half the kernel."""
    sides = [side for pad in reversed(kernel.padding) for side in (pad, pad)]
    padded = F.pad(torch.from_numpy(dense), sides, value=float("-inf"))
    return MAX_POOL[len(kernel.kernel_size)](
        padded, kernel.kernel_size, stride=kernel.stride, dilation=kernel.dilation
    )


def single_channel(kernel: Kernel) -> tuple[Array, Kernel]:
    """A kernel of ones over one channel: it counts the active inputs."""
    plain = Kernel(
        kernel.kernel_size,
        kernel.stride,
        kernel.padding,
        kernel.dilation,
        kernel.output_padding,
        1,
        1,
        1,
    )
    return np.ones([kernel.volume, 1, 1]), plain


def active_outputs(scene: Scene, kernel: Kernel, transposed: bool) -> Array:
    """Output sites: where the count of active inputs is above zero. Canonical int32 [M, 1+D]."""
    ones, plain = single_channel(kernel)
    mask = densify(
        scene.coords, np.ones([scene.rows, 1]), scene.batch_size, scene.spatial_shape, 0.0
    )
    if transposed:
        count = conv_transpose(mask, ones, plain, plain.output_padding)
    else:
        count = conv(mask, ones, plain)
    return sites_of(count[:, 0].numpy() > 0.5)


def assert_close(actual: Array, expected: Array) -> None:
    """Within 1e-5 of the largest expected magnitude."""
    assert actual.shape == expected.shape
    if expected.size:
        limit = 1e-5 * np.abs(expected).max()
        worst = np.abs(actual.astype(np.float64) - expected).max()
        assert worst <= limit, f"off by {worst}, allowed {limit}"
