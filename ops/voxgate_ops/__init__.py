# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Sparse-convolution networks: torch modules, the ONNX operators `voxgate` and the exporter."""
