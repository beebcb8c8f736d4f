# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The peer's process: spconv's CPU build in its own environment (see peer_environment.py)."""

# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import spconv
import spconv.pytorch
import torch
from numpy.typing import NDArray
from spconv.core import ConvAlgo
from spconv.pytorch import ops

from benchmarks.memory import peak_bytes
from benchmarks.networks import seed_weights, voxel_backbone8x
from benchmarks.protocol import serve


class PeerWorker:
    """Prepares pieces of work by name; `run` does one once and says how long it took."""

    def __init__(self) -> None:
        self._work: dict[str, Callable[[], Any]] = {}
        self._last: dict[str, Any] = {}

    def versions(self) -> dict[str, str]:
        """The peer's own version and its torch's."""
        return {"spconv": spconv.__version__, "torch": torch.__version__}

    def set_threads(self, threads: int) -> None:
        """Threads of torch's pool, which spconv's CPU code runs on."""
        torch.set_num_threads(threads)

    def prepare_submanifold_rulebook(
        self,
        name: str,
        coords: NDArray[np.int32],
        spatial_shape: list[int],
        kernel_size: list[int],
    ) -> None:
        """One get_indice_pairs call, as SubMConv3d makes it on a CPU tensor."""
        indices = torch.from_numpy(coords)
        batch_size = int(coords[:, 0].max()) + 1
        ones, zeros = [1] * len(kernel_size), [0] * len(kernel_size)

        def work() -> Any:
            return ops.get_indice_pairs(
                indices,
                batch_size,
                spatial_shape,
                ConvAlgo.Native,
                kernel_size,
                ones,
                [k // 2 for k in kernel_size],
                ones,
                zeros,
                True,
                False,
            )

        self._work[name] = work

    def prepare_backbone(
        self,
        name: str,
        weights: dict[str, NDArray[Any]] | None,
        coords: NDArray[np.int32],
        features: NDArray[np.float32],
        spatial_shape: list[int],
    ) -> None:
        """VoxelBackBone8x in eval mode; a run builds its rulebooks too. No weights: seeded ones."""
        network = voxel_backbone8x(spconv.pytorch, features.shape[1])
        seed_weights(network, 0)
        if weights is not None:
            network.load_state_dict({key: torch.from_numpy(w) for key, w in weights.items()})
        indices, values = torch.from_numpy(coords), torch.from_numpy(features)
        batch_size = int(coords[:, 0].max()) + 1

        def work() -> Any:
            with torch.no_grad():
                sites = spconv.pytorch.SparseConvTensor(values, indices, spatial_shape, batch_size)
                return network(sites)

        self._work[name] = work

    def run(self, name: str) -> float:
        """Seconds of one run of what was prepared under `name`."""
        work = self._work[name]
        self._last.pop(name, None)
        start = time.perf_counter()
        self._last[name] = work()
        return time.perf_counter() - start

    def sparse_result(self, name: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """coords and features of the last backbone run."""
        last = self._last[name]
        return last.indices.numpy(), last.features.numpy()

    def peak_bytes(self) -> int:
        """Peak resident memory so far."""
        return peak_bytes()


if __name__ == "__main__":
    serve(PeerWorker())
