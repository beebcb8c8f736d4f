# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Sparse-convolution operators: native library, torch modules, ONNX export and sessions.

Importing this package needs neither torch nor ONNX Runtime; its modules import what they use.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("voxgate")
except PackageNotFoundError:  # a source tree on sys.path, not installed
    __version__ = "0.0.0"

__all__ = ["__version__"]
