# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Waiting for an idle machine before a run.

A competing process costs whoever runs beside it, and costs spinning thread pools most: spconv's
OpenMP loops were seen to take fifteen times as long beside a compiler. So a run starts only when
the cores were idle just before it, as long as the patience lasts.
"""

from __future__ import annotations

import time
from pathlib import Path

_STAT = Path("/proc/stat")
# Also long enough for a pool whose threads spin for work to have gone to sleep.
_INTERVAL = 0.05
_IDLE_ENOUGH = 0.85


def _cpu_times() -> tuple[float, float]:
    """Idle and total time of all cores since boot, in ticks; zeros where nothing counts them."""
    if not _STAT.exists():
        return 0.0, 0.0
    ticks = [float(value) for value in _STAT.read_text().split("\n", 1)[0].split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


class Quiet:
    """Callable that returns once the machine is idle; patience is shared by all calls.

    Attributes:
        runs: calls so far.
        busy_runs: calls that returned with the patience spent and the machine still busy.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self.runs = 0
        self.busy_runs = 0

    def __call__(self) -> None:
        self.runs += 1
        while True:
            idle_before, total_before = _cpu_times()
            time.sleep(_INTERVAL)
            idle, total = _cpu_times()
            passed = total - total_before
            if passed <= 0 or (idle - idle_before) / passed >= _IDLE_ENOUGH:
                return
            if self._patience <= 0:
                self.busy_runs += 1
                return
            self._patience -= _INTERVAL
