# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""voxgate_ops._native against dense counterparts and brute force, on the instruction set chosen.

`test_native_isas.py` runs this file again for every other instruction set of the processor.
"""

from __future__ import annotations

import os

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.ops.checks.convolution import ConvolutionChecks
from tests.ops.checks.dense_oracle import assert_close
from tests.ops.checks.extremes import ExtremeChecks
from tests.ops.checks.implementations import Native, Reference
from tests.ops.checks.points import PointChecks
from tests.ops.checks.rows import RowChecks
from tests.ops.checks.scenes import Scene, kernels, scenes, sweep
from tests.ops.checks.sites import SiteChecks

from voxgate_ops import _native


def test_runs_the_forced_instruction_set() -> None:
    forced = os.environ.get("VOXGATE_CPU_ISA")
    assert _native.current_isa() == (forced or _native.supported_isas()[-1])


class TestFourAxes:
    """torch has no dense counterpart at D = 4: the reference, itself held to one below, is it."""

    @sweep
    @given(st.data(), scenes(min_axes=4, max_axes=4, max_size=4), st.booleans())
    def test_against_the_reference(
        self, data: st.DataObject, scene: Scene, transposed: bool
    ) -> None:
        kernel = data.draw(kernels(4))
        assume(min(kernel.output_shape(scene.spatial_shape, transposed)) >= 1)
        features = scene.values(scene.rows, kernel.in_channels)
        per_group = kernel.in_channels // kernel.groups
        weight = scene.values(kernel.volume, per_group, kernel.out_channels)
        found = []
        for ops in (Native(), Reference()):
            coords, neighbors = ops.sparse_rulebook(
                scene.coords,
                scene.spatial_shape,
                kernel.kernel_size,
                kernel.stride,
                kernel.padding,
                kernel.dilation,
                transposed,
                kernel.output_padding if transposed else None,
            )
            y = ops.sparse_conv(
                ops.floats(features), neighbors, ops.floats(weight), groups=kernel.groups
            )
            inverse = ops.inverse_rulebook(neighbors, scene.rows)
            back = ops.sparse_pool(y, inverse, "sum")
            found.append((coords, neighbors, inverse, y, back))
        for index in range(3):
            np.testing.assert_array_equal(found[0][index], found[1][index])
        for index in (3, 4):
            assert_close(found[0][index], found[1][index])

    @sweep
    @given(st.data(), scenes(min_axes=4, max_axes=4, max_size=4))
    def test_submanifold(self, data: st.DataObject, scene: Scene) -> None:
        kernel = data.draw(kernels(4, odd=True))
        arguments = (scene.coords, scene.spatial_shape, kernel.kernel_size, kernel.dilation)
        neighbors = Native().submanifold_rulebook(*arguments)
        np.testing.assert_array_equal(neighbors, Reference().submanifold_rulebook(*arguments))


class TestSites(SiteChecks):
    ops = Native()


class TestConvolution(ConvolutionChecks):
    ops = Native()


class TestExtremes(ExtremeChecks):
    ops = Native()


class TestRows(RowChecks):
    ops = Native()


class TestPoints(PointChecks):
    ops = Native()
