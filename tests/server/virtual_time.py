# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""An event loop whose clock jumps to the next timer when nothing is left to do.

Waiting costs no time and is exact, and a wait that nothing can end is an error, not a hang. Times
that are whole multiples of 1/1024 s stay free of rounding.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any


class Deadlock(Exception):
    """Everything waits and no timer is set."""


class _JumpingSelector(selectors.SelectSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise Deadlock
            self.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """The async function as a plain one that runs it on a loop of its own, from time 0."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


def clock() -> float:
    """The time of the running loop, in seconds."""
    return asyncio.get_running_loop().time()
