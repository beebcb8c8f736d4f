# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The gRPC server that answers streamed frames with sparse-convolution networks."""

import voxgate_ops as voxgate_ops  # before ONNX Runtime: its telemetry is switched off
