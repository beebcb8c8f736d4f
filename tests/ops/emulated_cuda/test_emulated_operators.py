# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Every operator's CUDA kernels against its definition: the very cases of the CPU's operators.

Rulebooks, sites and moved rows are equal, float32 within 1e-5 of the largest value.
"""

from __future__ import annotations

from tests.ops.test_onnx_operators import *  # noqa: F403
