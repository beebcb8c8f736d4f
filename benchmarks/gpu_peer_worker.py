# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The peer's process on a GPU: spconv's CUDA build in its own environment."""

# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import spconv
import spconv.constants
import spconv.pytorch
import torch
from numpy.typing import NDArray
from spconv.core import ConvAlgo
from spconv.pytorch import ops

from benchmarks.networks import seed_weights, voxel_backbone8x
from benchmarks.protocol import serve

_TYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16}


class GpuPeerWorker:
    """Prepares pieces of work by name; `run` does one once and says how long it took.

    Data is on the GPU before and after. A run is timed from an idle GPU to an idle GPU.
    """

    device = "cuda"

    def __init__(self) -> None:
        self._work: dict[str, Callable[[], Any]] = {}
        self._precision: dict[str, str] = {}
        self._last: dict[str, Any] = {}

    def versions(self) -> dict[str, str]:
        """The peer's own version, its torch's and torch's CUDA."""
        cuda = str(torch.version.cuda)
        return {"spconv": spconv.__version__, "torch": torch.__version__, "torch's CUDA": cuda}

    def gpu(self) -> str:
        """The name of the GPU.

        Raises:
            RuntimeError: torch here cannot use it.
        """
        return str(torch.cuda.get_device_name(0))

    def prepare_rulebook(
        self, name: str, coords: NDArray[np.int32], spatial_shape: list[int]
    ) -> None:
        """One 3x3x3 submanifold rulebook, as SubMConv3d has it made for inference."""
        indices = torch.from_numpy(coords).to(self.device)
        batch_size = int(coords[:, 0].max()) + 1
        ones = [1, 1, 1]

        def work() -> Any:
            return ops.get_indice_pairs_implicit_gemm(
                indices,
                batch_size,
                spatial_shape,
                ConvAlgo.MaskImplicitGemm,
                [3, 3, 3],
                ones,
                ones,
                ones,
                [0, 0, 0],
                subm=True,
                is_train=False,
            )

        self._add(name, "fp32", work)

    def prepare_layer(
        self,
        name: str,
        precision: str,
        coords: NDArray[np.int32],
        spatial_shape: list[int],
        weight: NDArray[np.float32],
        features: NDArray[np.float32],
    ) -> None:
        """A 3x3x3 submanifold convolution whose rulebook is there; `weight` is [27, Ci, Co]."""
        kind = _TYPES[precision]
        in_channels, channels = weight.shape[1:]
        layer = spconv.pytorch.SubMConv3d(in_channels, channels, 3, bias=False, indice_key="given")
        krsc = weight.transpose(2, 0, 1).reshape(channels, 3, 3, 3, in_channels)
        layer.load_state_dict({"weight": torch.from_numpy(np.ascontiguousarray(krsc))})
        layer = layer.to(self.device, kind).eval()
        x = self._tensor(coords, features, spatial_shape, kind)
        with torch.no_grad():
            x.indice_dict = layer(x).indice_dict

        def work() -> Any:
            with torch.no_grad():
                return layer(x)

        self._add(name, precision, work)

    def prepare_backbone(
        self,
        name: str,
        precision: str,
        weights: dict[str, NDArray[Any]],
        coords: NDArray[np.int32],
        features: NDArray[np.float32],
        spatial_shape: list[int],
    ) -> None:
        """VoxelBackBone8x in eval mode; a run builds its rulebooks too."""
        kind = _TYPES[precision]
        network = voxel_backbone8x(spconv.pytorch, features.shape[1])
        seed_weights(network, 0)
        network.load_state_dict({key: torch.from_numpy(w) for key, w in weights.items()})
        network = network.to(self.device, kind)
        given = self._tensor(coords, features, spatial_shape, kind)
        batch_size = given.batch_size

        def work() -> Any:
            with torch.no_grad():
                # A tensor of its own, for the rulebooks are kept in it.
                return network(
                    spconv.pytorch.SparseConvTensor(
                        given.features, given.indices, spatial_shape, batch_size
                    )
                )

        self._add(name, precision, work)

    def run(self, name: str) -> float:
        """Seconds of one run of what was prepared under `name`."""
        work = self._work[name]
        spconv.constants.SPCONV_ALLOW_TF32 = self._precision[name] == "tf32"
        self._last.pop(name, None)
        self._wait()
        start = time.perf_counter()
        self._last[name] = work()
        self._wait()
        return time.perf_counter() - start

    def sparse_result(self, name: str) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """coords and features of the last run."""
        last = self._last[name]
        return last.indices.cpu().numpy(), last.features.float().cpu().numpy()

    def _add(self, name: str, precision: str, work: Callable[[], Any]) -> None:
        self._work[name], self._precision[name] = work, precision

    def _tensor(
        self,
        coords: NDArray[np.int32],
        features: NDArray[np.float32],
        spatial_shape: list[int],
        kind: torch.dtype,
    ) -> Any:
        return spconv.pytorch.SparseConvTensor(
            torch.from_numpy(features).to(self.device, kind),
            torch.from_numpy(coords).to(self.device),
            spatial_shape,
            int(coords[:, 0].max()) + 1,
        )

    def _wait(self) -> None:
        torch.cuda.synchronize()


if __name__ == "__main__":
    serve(GpuPeerWorker())
