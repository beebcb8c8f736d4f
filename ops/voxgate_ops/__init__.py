# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Sparse-convolution operators: native library, torch modules, ONNX export and sessions.

Importing this package needs neither torch nor ONNX Runtime; its modules import what they use.
"""

import os
from importlib.metadata import PackageNotFoundError, version

# ONNX Runtime's wheels, from 1.29 on, report to Microsoft what runs unless this is set before they
# are loaded. What a robot runs is its owner's to tell, who may set 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

try:
    __version__ = version("voxgate")
except PackageNotFoundError:  # a source tree on sys.path, not installed
    __version__ = "0.0.0"

__all__ = ["__version__"]
