# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""CUDA kernels on float16 and bfloat16, within 2e-2 of float64: the CPU's cases."""

from __future__ import annotations

from tests.ops.test_onnx_operators_precision import *  # noqa: F403
