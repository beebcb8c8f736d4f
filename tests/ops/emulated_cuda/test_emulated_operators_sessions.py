# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Constant and absent inputs and empty frames on CUDA kernels: the CPU's cases."""

from __future__ import annotations

from tests.ops.test_onnx_operators_sessions import (  # noqa: F401
    layer,
    test_absent_bias_and_residual_count_as_zero,
    test_out_coords_may_be_absent_by_an_empty_name,
    test_schema_and_operator_agree,
    test_shapes_are_known_before_the_run,
    test_weight_may_be_constant_or_not,
    test_zero_sites_go_through_a_network,
)
