# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Both sides of the GPU's case for machines without one: our operators on the CPU, twice."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.cases.backbone import sparse_output
from benchmarks.gpu_worker import GpuWorker
from benchmarks.protocol import serve


class StandInGpuWorker(GpuWorker):
    """GpuWorker on the CPU; the calls that the case makes of the peer are answered from `models`,
    the folder where our side's models have been written."""

    device = "cpu"

    def __init__(self, models: Path) -> None:
        super().__init__()
        self._models = models

    def gpu(self) -> str:
        return "none"

    def versions(self) -> dict[str, str]:
        return {"peer": "stand-in"}

    def prepare_rulebook(self, name: str, coords: Any, spatial_shape: list[int]) -> None:
        path = self._models / "first_submanifold_rulebook.onnx"
        self.prepare(name, str(path), {"coords": coords})

    def prepare_layer(
        self,
        name: str,
        precision: str,
        coords: Any,
        spatial_shape: list[int],
        weight: Any,
        features: Any,
    ) -> None:
        from voxgate_ops import _native

        half = precision == "fp16"
        neighbors = _native.submanifold_rulebook(coords, spatial_shape, [3, 3, 3], [1, 1, 1])
        path = self._models / f"sparse_conv_{weight.shape[2]}{'_half' if half else ''}.onnx"
        x = features.astype(np.float16) if half else features
        self.prepare(name, str(path), {"x": x, "neighbors": neighbors})

    def prepare_backbone(
        self,
        name: str,
        precision: str,
        weights: Any,
        coords: Any,
        features: Any,
        spatial_shape: list[int],
    ) -> None:
        assert weights
        kind = "fp16" if precision == "fp16" else "fp32"
        path = self._models / f"voxel_backbone8x_{kind}.onnx"
        self.prepare(name, str(path), {"coords": coords, "features": features})

    def sparse_result(self, name: str) -> Any:
        return sparse_output(self.result(name))


if __name__ == "__main__":
    serve(StandInGpuWorker(Path(sys.argv[1])))
