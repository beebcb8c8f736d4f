# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Reader for the vertices of PLY files: ascii, binary little endian, binary big endian.

Format: Greg Turk, "The PLY Polygon File Format", 1994.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxgate_client.pcd import parse_ascii_table
from voxgate_client.point_cloud import (
    MAX_FIELDS,
    MAX_HEADER_BYTES,
    PointCloud,
    ReaderError,
    check_counts,
    cloud_from_columns,
)

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_ENCODINGS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}


@dataclass
class _Element:
    name: str
    count: int
    properties: dict[str, str] = field(default_factory=dict)  # name -> numpy type
    has_list: bool = False

    def dtype(self, order: str) -> np.dtype[np.void]:
        return np.dtype([(f"f{i}", order + t) for i, t in enumerate(self.properties.values())])


def read_ply(path: Path) -> PointCloud:
    """Reads the `vertex` element; every scalar property becomes a column, x, y, z first.

    Elements before it are skipped, which needs them to have no list properties; elements after it
    (faces) are not read. When vertices are all there is, bytes left over are an error.

    Raises:
        ReaderError: as `readers.read_points`.
    """
    data = path.read_bytes()
    encoding, elements, offset = _parse_header(path, data)
    names = [element.name for element in elements]
    if "vertex" not in names:
        raise ReaderError(path, f"elements {', '.join(names) or 'none'}, expected one named vertex")
    index = names.index("vertex")
    vertex = elements[index]
    check_counts(path, vertex.count, len(vertex.properties))
    for element in elements[: index + 1]:
        if element.has_list:
            raise ReaderError(path, f"element {element.name} has a list property, cannot be read")
    is_last = index == len(elements) - 1
    columns = (
        _ascii_columns(path, data[offset:], elements[: index + 1], is_last)
        if encoding == "ascii"
        else _binary_columns(
            path, memoryview(data)[offset:], elements[: index + 1], is_last, _ENCODINGS[encoding]
        )
    )
    return cloud_from_columns(path, list(vertex.properties), columns)


def _parse_header(path: Path, data: bytes) -> tuple[str, list[_Element], int]:
    end = re.compile(rb"^end_header[ \t]*\r?\n", re.MULTILINE).search(
        data, 0, min(len(data), MAX_HEADER_BYTES)
    )
    if end is None:
        limit = min(len(data), MAX_HEADER_BYTES)
        raise ReaderError(path, f"no end_header line in the first {limit} bytes")
    lines = data[: end.start()].decode("ascii", "replace").splitlines()
    if not lines or lines[0].strip() != "ply":
        raise ReaderError(path, f"starts with {data[:8]!r}, expected b'ply'")
    encoding = ""
    elements: list[_Element] = []
    for line in lines[1:]:
        words = line.split()
        if not words or words[0] in ("comment", "obj_info"):
            continue
        if words[0] == "format" and not encoding and len(words) == 3 and words[1] in _ENCODINGS:
            encoding = words[1]
        elif words[0] == "element" and len(words) == 3 and _is_count(words[2]):
            elements.append(_Element(words[1], int(words[2])))
        elif words[0] == "property" and elements:
            _add_property(path, elements[-1], words[1:], line)
        else:
            raise ReaderError(path, f"header line {line[:80]!r} is not understood")
    if not encoding:
        raise ReaderError(path, f"no format line, expected one of {', '.join(_ENCODINGS)}")
    return encoding, elements, end.end()


def _is_count(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) <= 18


def _add_property(path: Path, element: _Element, words: list[str], line: str) -> None:
    if len(words) == 4 and words[0] == "list":
        element.has_list = True
        return
    if len(words) != 2 or words[0] not in _TYPES:
        raise ReaderError(path, f"header line {line[:80]!r}, expected: property TYPE NAME")
    if words[1] in element.properties:
        raise ReaderError(path, f"element {element.name} has property {words[1]} twice")
    if len(element.properties) == MAX_FIELDS:
        raise ReaderError(path, f"element {element.name} has more than {MAX_FIELDS} properties")
    element.properties[words[1]] = _TYPES[words[0]]


def _ascii_columns(
    path: Path, body: bytes, elements: list[_Element], is_last: bool
) -> list[NDArray[np.generic]]:
    vertex = elements[-1]
    skipped = sum(element.count for element in elements[:-1])
    lines = [line for line in body.splitlines() if line.strip()][skipped:]
    if not is_last:
        lines = lines[: vertex.count]
    table = parse_ascii_table(path, lines, vertex.count, len(vertex.properties))
    return [table[:, i] for i in range(table.shape[1])]


def _binary_columns(
    path: Path, body: memoryview, elements: list[_Element], is_last: bool, order: str
) -> list[NDArray[np.generic]]:
    vertex = elements[-1]
    start = sum(element.count * element.dtype(order).itemsize for element in elements[:-1])
    record = vertex.dtype(order)
    expected = start + vertex.count * record.itemsize
    if len(body) < expected or (is_last and len(body) != expected):
        raise ReaderError(
            path,
            f"{vertex.count} vertices x {record.itemsize} bytes end at byte {expected} of the "
            f"body, the file has {len(body)} there",
        )
    if not vertex.properties:
        return []
    rows = np.frombuffer(body, record, vertex.count, start)
    return [rows[f"f{i}"] for i in range(len(vertex.properties))]
