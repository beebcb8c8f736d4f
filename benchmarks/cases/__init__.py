# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""One file a case: NAME, TITLE and `run(context, result)`, which fills the result in as it goes.

A case that fails half way keeps what it has measured; the failure is reported by the case's name.
"""

from __future__ import annotations

from benchmarks.cases import (
    backbone,
    convolution,
    cuda,
    memory,
    overhead,
    overload,
    rulebook,
    scaling,
    service,
    soak,
    throughput,
)

_CASES = (
    rulebook,
    backbone,
    convolution,
    scaling,
    memory,
    service,
    overhead,
    throughput,
    overload,
    soak,
    cuda,
)

ALL = {case.NAME: case for case in _CASES}
