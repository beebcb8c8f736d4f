# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Finds where a network's own code decides by the number of its rows or frames.

torch.export follows Python's `if` for the sizes that it traces with and notes the condition as a
guard of its program. An ONNX graph has no guards: it would do the same for sizes where the network
does something else. (The guards of torch's own code do no harm: TopK and Slice take what there is.)
"""

from __future__ import annotations

import itertools
import sysconfig
from pathlib import Path

import torch

import voxgate_ops
from voxgate_ops.errors import ExportError

# 0 and 1 are not among them: torch takes all counts of rows for larger.
_ROWS = (2, 3, 7, 64, 1_001, 1_000_003)
_FRAMES = (1, 2, 3, 8)
_OF_LIBRARIES = tuple(str(Path(module.__file__ or "").parent) for module in (torch, voxgate_ops))
_STANDARD = sysconfig.get_path("stdlib")


def check_sizes_are_free(program: torch.export.ExportedProgram) -> None:
    """Refuse a program of a network that does otherwise for other numbers of rows or frames.

    Raises:
        ExportError: it does; the message has the line.
    """
    rows, columns, batch_size = (
        node.meta["val"]
        for node in program.graph.nodes
        if node.name in program.graph_signature.user_inputs
    )
    # Points and their batch indices have symbols of their own for one number.
    sizes = [size.node.expr for size in (rows.shape[0], columns.shape[0], batch_size)]
    for guard in rows.fake_mode.shape_env.guards:
        place = guard.sloc.framework_loc
        if place is None or not _is_own(place.filename):
            continue
        for count, frames in itertools.product(_ROWS, _FRAMES):
            values = dict(zip(sizes, (count, count, frames), strict=True))
            if guard.expr.subs(values) == False:  # noqa: E712 (sympy's false is not Python's)
                raise ExportError(
                    f"{place.filename}:{place.lineno} decides by a number of rows or frames "
                    f"({place.line}), which an ONNX graph cannot: for {count} rows in {frames} "
                    "frames it goes another way than was traced. Decide by tensors (torch.where)"
                )


def own_line(error: BaseException) -> str:
    """Where in the network's own code an error came from, with a space before it; "" if nowhere."""
    found = ""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if _is_own(file):
            found = f" ({file}:{trace.tb_lineno})"
        trace = trace.tb_next
    return found


def _is_own(file: str) -> bool:
    standard = file.startswith(_STANDARD) and "site-packages" not in file
    return not standard and not file.startswith((*_OF_LIBRARIES, "<"))
