# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""How long a broken stream waits before it is tried again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Exponential, jittered, capped; a fleet that lost its server does not come back as one.

    Attributes:
        initial: seconds before the first attempt, without jitter.
        maximum: seconds it never waits longer than.
        factor: from one attempt to the next.
        jitter: share of each wait that is random, 0 to 1.
        give_up_after: seconds without a server after which the stream ends; None: never.

    Raises:
        ValueError: a value that makes no sense.
    """

    initial: float = 0.1
    maximum: float = 5.0
    factor: float = 2.0
    jitter: float = 0.5
    give_up_after: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.initial <= self.maximum:
            raise ValueError(f"initial={self.initial}, expected above 0, at most {self.maximum}")
        if self.factor < 1:
            raise ValueError(f"factor={self.factor}, expected at least 1")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter={self.jitter}, expected 0 to 1")

    def delay(self, failures: int, random: Callable[[], float]) -> float:
        """Seconds to wait after so many failures in a row; `random` gives values in [0, 1)."""
        # The exponent's own cap keeps a stream that is down for days from overflowing.
        whole = min(self.maximum, self.initial * self.factor ** min(failures, 64))
        return whole * (1 - self.jitter * random())
