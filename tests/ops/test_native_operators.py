# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""voxgate_ops._native against dense counterparts and brute force, on the instruction set chosen.

`test_native_isas.py` runs this file again for every other instruction set of the processor.
"""

from __future__ import annotations

import os

from tests.ops.checks.convolution import ConvolutionChecks
from tests.ops.checks.implementations import Native
from tests.ops.checks.points import PointChecks
from tests.ops.checks.rows import RowChecks
from tests.ops.checks.sites import SiteChecks

from voxgate_ops import _native


def test_runs_the_forced_instruction_set() -> None:
    forced = os.environ.get("VOXGATE_CPU_ISA")
    assert _native.current_isa() == (forced or _native.supported_isas()[-1])


class TestSites(SiteChecks):
    ops = Native()


class TestConvolution(ConvolutionChecks):
    ops = Native()


class TestRows(RowChecks):
    ops = Native()


class TestPoints(PointChecks):
    ops = Native()
