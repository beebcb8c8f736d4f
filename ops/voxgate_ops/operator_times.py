# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What the custom-operator library has counted in this process: calls and time per operator."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import NamedTuple

from voxgate_ops.errors import LibraryMissingError
from voxgate_ops.session import LIBRARY_VARIABLE, operators_library

_FUNCTION = "VoxgateOperatorTimes"


class OperatorTime(NamedTuple):
    """Calls of one operator of one model since the process began, and the seconds they took.

    Attributes:
        model: the session's configuration entry `voxgate.model`; "" for sessions without it.
        operator: as in the graph: `SparseConv`.
        device: where it ran: `cpu` or `cuda`.
    """

    model: str
    operator: str
    device: str
    calls: int
    seconds: float


class _Row(ctypes.Structure):
    """`VoxgateOperatorTime` of operator_times.h."""

    _fields_ = (
        ("model", ctypes.c_char_p),
        ("operator_name", ctypes.c_char_p),
        ("device", ctypes.c_char_p),
        ("calls", ctypes.c_uint64),
        ("nanoseconds", ctypes.c_uint64),
    )


def operator_times() -> list[OperatorTime]:
    """The counts so far, of every operator that a session of this process has nodes of.

    The seconds of one model's operators add up to at most those of its runs: a session runs one
    node at a time. Calls that failed count too. On a GPU the seconds are those of its stream, and
    of calls that it has finished.

    Raises:
        LibraryMissingError: the custom-operator library is missing or from another version.
    """
    library = _open(operators_library())
    count = 0
    while True:
        rows = (_Row * count)()
        needed = int(library(rows, count))
        if needed <= count:
            break
        count = needed  # a session may have been opened since the last call
    return [
        OperatorTime(
            row.model.decode(errors="replace"),
            row.operator_name.decode(),
            row.device.decode(),
            row.calls,
            row.nanoseconds * 1e-9,
        )
        for row in rows[:needed]
    ]


@cache
def _open(path: Path) -> ctypes._NamedFuncPointer:
    # The same file as ONNX Runtime loads is the same library, with the same counters.
    try:
        function: ctypes._NamedFuncPointer = getattr(ctypes.CDLL(os.fspath(path)), _FUNCTION)
    except (OSError, AttributeError) as error:
        raise LibraryMissingError(
            f"the custom-operator library {path} cannot tell its times: {error} "
            f"({LIBRARY_VARIABLE} names another one)"
        ) from error
    function.argtypes = (ctypes.POINTER(_Row), ctypes.c_size_t)
    function.restype = ctypes.c_size_t
    return function
