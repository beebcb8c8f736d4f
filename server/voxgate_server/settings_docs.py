# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Writes the table of settings into docs/operations.md from `voxgate_server.settings`.

Run `python -m voxgate_server.settings_docs docs/operations.md` after changing a setting.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from pydantic import ByteSize, SecretStr
from pydantic.fields import FieldInfo

from voxgate_server.model_config import ModelConfig
from voxgate_server.settings import size_text
from voxgate_server.settings_layers import fields, panel_of, plain

BEGIN = "<!-- Written by `python -m voxgate_server.settings_docs docs/operations.md`. -->"
END = "<!-- End of what is written. -->"
_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def render() -> str:
    """The tables as Markdown, one for each panel of the command's help."""
    return "\n".join(_lines())


def update(page: str) -> str:
    """`page` with the tables between its two marks.

    Raises:
        ValueError: `page` does not have both marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page needs the line {BEGIN} and below it the line {END}")
    return f"{before}{begin}\n\n{render()}\n\n{end}{after}"


def _lines() -> Iterator[str]:
    panel = ""
    for name, field in fields().items():
        if panel_of(field) != panel:
            if panel:
                yield ""
            panel = panel_of(field)
            yield f"### {panel}\n"
            yield "| setting | default | values | what it is for |"
            yield "| --- | --- | --- | --- |"
        yield f"| `{name}`{_mark(name)} | {_default(field)} | {_values(field)} | {_doc(field)} |"


def _mark(name: str) -> str:
    return " ᴹ" if name in ModelConfig.model_fields else ""


def _default(field: FieldInfo) -> str:
    value = plain(field.default)
    if value is None:
        return "null"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _values(field: FieldInfo) -> str:
    """The kind of value and its bounds: `integer, 0 to 65535`."""
    types = get_args(field.annotation) or (field.annotation,)
    if all(isinstance(one, str) for one in types):
        return ", ".join(f"`{one}`" for one in types)
    kinds = {
        bool: "true or false",
        int: "integer",
        float: "seconds",
        ByteSize: "size",
        SecretStr: "secret",
        str: "text",
    }
    kind = kinds.get(types[0], "path")
    is_size = types[0] is ByteSize
    bounds = [
        f"{_SIGNS[sign]} {size_text(bound) if is_size else f'{bound:,}'}"
        for item in field.metadata
        for sign in _SIGNS
        if (bound := getattr(item, sign, None)) is not None
    ]
    null = " or null" if type(None) in types else ""
    return ", ".join([kind, *bounds]) + null


def _doc(field: FieldInfo) -> str:
    return f"{field.description}.".replace("|", "\\|")


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        sys.exit("usage: python -m voxgate_server.settings_docs docs/operations.md")
    page = Path(sys.argv[1])
    page.write_text(update(page.read_text(encoding="utf-8")), encoding="utf-8")
