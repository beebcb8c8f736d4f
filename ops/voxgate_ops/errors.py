# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The errors that `voxgate_ops` raises on purpose. Every message names the value and the limit."""


class VoxgateError(Exception):
    """Base of all errors raised on purpose by Voxgate's Python packages."""


class ModelError(VoxgateError, ValueError):
    """A model file that is broken or cannot be served: truncated, not ONNX, wrong metadata."""


class ExportError(VoxgateError):
    """A network that cannot be exported, or whose exported model disagrees with eager torch."""


class LibraryMissingError(VoxgateError):
    """The custom-operator library is not where it is looked for."""
