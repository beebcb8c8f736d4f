# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Operators on float16 and bfloat16 on the GPU, within 2e-2 of float64: the CPU's cases."""

from __future__ import annotations

import pytest
from tests.ops.test_onnx_operators_precision import *  # noqa: F403

pytestmark = pytest.mark.gpu
