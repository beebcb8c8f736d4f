# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Writes docs/operators.md from `voxgate_ops.schemas`.

Run `python -m voxgate_ops.operator_docs docs/operators.md` after changing the operator set.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from voxgate_ops.schemas import (
    DOMAIN,
    FLOATS,
    OPERATORS,
    ROW_TYPES,
    VERSION,
    Attribute,
    Operator,
    Tensor,
)

_INTRODUCTION = f"""\
# The ONNX operators of domain `{DOMAIN}`, version {VERSION}

<!-- Written by `python -m voxgate_ops.operator_docs docs/operators.md` from schemas.py. -->

`coords` are int32 `[N, 1+D]`: a batch index, then D spatial axes in the order of `spatial_shape`
(3-D: z, y, x), with D = 1, 2, 3 or 4. *Canonical* sites are sorted lexicographically, unique and
inside `[0, spatial_shape)`; `SortSites` makes them so and every operator keeps the order. A
rulebook is a tensor like any other, so layers share one by reading the same edge. Zero sites is a
legal input everywhere. Attributes given per axis have D entries.

T is {", ".join(FLOATS)} unless an operator says otherwise. 16-bit floats are
computed in float32 and rounded once, to the nearest (ties to even; too large is infinite, NaN stays
NaN); rows that are only moved keep their bits. Symbols: N input sites, M output sites, K kernel
volume, P points, B frames in the batch, C channels.

"""


def render() -> str:
    """The whole page as Markdown."""
    contents = "\n".join(f"- [{op.name}](#{op.name.lower()})" for op in OPERATORS)
    sections = "\n\n".join("\n".join(_section(operator)) for operator in OPERATORS)
    return f"{_INTRODUCTION}{contents}\n\n{sections}\n"


def _section(operator: Operator) -> Iterator[str]:
    yield f"## {operator.name}\n"
    yield f"{operator.doc}\n"
    if operator.types == ROW_TYPES:
        yield f"T is {', '.join(ROW_TYPES)}.\n"
    yield "| | name | type | shape | |"
    yield "| --- | --- | --- | --- | --- |"
    for tensor in operator.inputs:
        yield _tensor_row("input", tensor)
    for tensor in operator.outputs:
        yield _tensor_row("output", tensor)
    if operator.attributes:
        yield "\n| attribute | type | default | |"
        yield "| --- | --- | --- | --- |"
        for attribute in operator.attributes:
            yield _attribute_row(attribute)


def _tensor_row(role: str, tensor: Tensor) -> str:
    role = f"{role} (optional)" if tensor.optional else role
    shape = tensor.shape_text().replace("*", "\\*")
    return f"| {role} | `{tensor.name}` | {tensor.dtype} | {shape} | {_cell(tensor.doc)} |"


def _attribute_row(attribute: Attribute) -> str:
    kind = " \\| ".join(f"`{choice}`" for choice in attribute.choices) or attribute.kind
    if attribute.required:
        default = "required"
    else:
        default = attribute.default_doc or f"`{attribute.default}`"
    return f"| `{attribute.name}` | {kind} | {default} | {_cell(attribute.doc)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1].endswith(".md"):
        sys.exit("usage: python -m voxgate_ops.operator_docs docs/operators.md")
    Path(sys.argv[1]).write_text(render(), encoding="utf-8")
