# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Every operator on the GPU against its definition: the very cases of the CPU's operators.

Rulebooks, sites and moved rows are equal, float32 within 1e-5 of the largest value. TF32 is off.
"""

from __future__ import annotations

import pytest
from tests.ops.test_onnx_operators import *  # noqa: F403

pytestmark = pytest.mark.gpu
