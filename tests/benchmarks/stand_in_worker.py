# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A peer for machines without one: the peer's rulebook call, answered by our own library."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.our_worker import OurWorker
from benchmarks.protocol import serve


class StandInWorker(OurWorker):
    """OurWorker with the call that the rulebook case makes of the peer."""

    def prepare_submanifold_rulebook(
        self, name: str, coords: Any, spatial_shape: list[int], kernel_size: list[int]
    ) -> None:
        """The same rulebook from the library itself."""
        self._work[name] = partial(self.submanifold_rulebook, coords, spatial_shape, kernel_size)


if __name__ == "__main__":
    serve(StandInWorker())
