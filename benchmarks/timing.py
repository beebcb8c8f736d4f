# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Alternating timing runs and their summary."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """Timings of one participant, in seconds (or any unit that its callable returns)."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def minimum(self) -> float:
        return min(self.values)

    @property
    def maximum(self) -> float:
        return max(self.values)

    def as_json(self, scale: float = 1.0) -> dict[str, float | int]:
        """median, min, max (times `scale`) and the number of runs."""
        return {
            "median": self.median * scale,
            "min": self.minimum * scale,
            "max": self.maximum * scale,
            "runs": len(self.values),
        }


def ratios(sample: Sample, reference: Sample) -> dict[str, float | str]:
    """Ratio of the medians, which counts, and of the minima, which noise disturbs least."""
    return {
        "ratio": sample.median / reference.median,
        "ratio of minima": sample.minimum / reference.minimum,
    }


def alternate(
    participants: Mapping[str, Callable[[], float]],
    *,
    runs: int,
    settle: Callable[[], None],
    warmup: int = 2,
) -> dict[str, Sample]:
    """Run the participants one by one in turn and collect what each run returns.

    Round r runs every participant once, in the mapping's order; so a slow stretch of the machine
    falls on all of them. Only one is ever active.

    Args:
        participants: name to callable; a call does one run and returns its own measure (seconds).
        runs: measured rounds.
        warmup: rounds before them whose results are dropped.
        settle: called before every run; returns when the machine is ready for it.

    Raises:
        ValueError: `runs` is below 1.
    """
    if runs < 1:
        raise ValueError(f"runs: expected at least 1, got {runs}")
    values: dict[str, list[float]] = {name: [] for name in participants}
    for round_index in range(warmup + runs):
        for name, run in participants.items():
            settle()
            value = run()
            if round_index >= warmup:
                values[name].append(value)
    return {name: Sample(tuple(taken)) for name, taken in values.items()}
