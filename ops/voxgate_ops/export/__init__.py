# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Export of torch networks to ONNX. Needs the extra `voxgate[export]`."""

from voxgate_ops.export.exporter import STEPS, ExportReport, export_onnx
from voxgate_ops.export.tracing import Voxelizer

__all__ = ["STEPS", "ExportReport", "Voxelizer", "export_onnx"]
