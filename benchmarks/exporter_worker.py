# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Exports the benchmarks' networks in a process of its own: the measured ones never load torch."""

from __future__ import annotations

from typing import Any, Literal

from numpy.typing import NDArray

from benchmarks.networks import seed_weights, voxel_backbone8x
from benchmarks.protocol import serve


class ExporterWorker:
    """torch network in, ONNX file out."""

    def export_backbone(
        self,
        path: str,
        spatial_shape: list[int],
        num_features: int,
        precision: Literal["fp32", "fp16"] = "fp32",
    ) -> dict[str, NDArray[Any]]:
        """Write the seeded VoxelBackBone8x to `path` and return its state_dict."""
        import voxgate_ops.nn
        from voxgate_ops.export import export_onnx

        network = voxel_backbone8x(voxgate_ops.nn, num_features)
        seed_weights(network, 0)
        export_onnx(
            network,
            path,
            spatial_shape=spatial_shape,
            num_features=num_features,
            precision=precision,
        )
        return {name: tensor.numpy() for name, tensor in network.state_dict().items()}

    def export_unet(self, path: str, spatial_shape: list[int]) -> None:
        """Write the seeded sparse U-Net, 16-32-64-128, to `path`."""
        from voxgate_ops.export import export_onnx
        from voxgate_ops.models import MODELS

        spec = MODELS["sparse_unet"]
        export_onnx(
            spec.build(num_features=4, seed=0),
            path,
            spatial_shape=spatial_shape,
            num_features=4,
            feature_names=spec.feature_names,
            feature_units=spec.feature_units,
            class_names=spec.class_names,
            class_colors=spec.class_colors,
        )


if __name__ == "__main__":
    serve(ExporterWorker())
