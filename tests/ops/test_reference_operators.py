# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""voxgate_ops.reference against dense counterparts and brute force."""

from __future__ import annotations

from tests.ops.checks.convolution import ConvolutionChecks
from tests.ops.checks.implementations import Reference
from tests.ops.checks.points import PointChecks
from tests.ops.checks.rows import RowChecks
from tests.ops.checks.sites import SiteChecks


class TestSites(SiteChecks):
    ops = Reference()


class TestConvolution(ConvolutionChecks):
    ops = Reference()


class TestRows(RowChecks):
    ops = Reference()


class TestPoints(PointChecks):
    ops = Reference()
