# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Reader for PCD 0.6 and 0.7 files: ascii, binary and binary_compressed.

Format: https://pointclouds.org/documentation/tutorials/pcd_file_format.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxgate_client.point_cloud import (
    MAX_FIELDS,
    MAX_HEADER_BYTES,
    PointCloud,
    ReaderError,
    check_counts,
    cloud_from_columns,
)

_KEYS = tuple(
    "VERSION FIELDS SIZE TYPE COUNT WIDTH HEIGHT VIEWPOINT POINTS DATA".split()  # noqa: SIM905
)
_TYPES = {
    f"{kind}{size}": np.dtype(f"<{code}{size}")
    for kind, code, sizes in (
        ("F", "f", (4, 8)),
        ("I", "i", (1, 2, 4, 8)),
        ("U", "u", (1, 2, 4, 8)),
    )
    for size in sizes
}
# One LZF back reference of 3 bytes yields at most 264: more cannot come out of so many bytes.
_LZF_MAX_RATIO = 88


@dataclass(frozen=True)
class _Field:
    name: str
    dtype: np.dtype[np.generic]
    count: int

    @property
    def size(self) -> int:
        return self.dtype.itemsize * self.count


@dataclass(frozen=True)
class _Header:
    fields: tuple[_Field, ...]
    num_points: int
    encoding: str
    data_offset: int

    @property
    def row_bytes(self) -> int:
        return sum(field.size for field in self.fields)


def read_pcd(path: Path) -> PointCloud:
    """Reads a PCD file; padding fields (named "_") are dropped, a field with COUNT n > 1 becomes n.

    Raises:
        ReaderError: as `readers.read_points`.
    """
    data = path.read_bytes()
    header = _parse_header(path, data)
    check_counts(path, header.num_points, sum(field.count for field in header.fields))
    body = memoryview(data)[header.data_offset :]
    if header.encoding == "ascii":
        columns = _ascii_columns(path, header, bytes(body))
    elif header.encoding == "binary":
        columns = _binary_columns(path, header, body)
    else:
        columns = _compressed_columns(path, header, body)
    return _cloud(path, header, columns)


def _parse_header(path: Path, data: bytes) -> _Header:
    entries: dict[str, list[str]] = {}
    offset = 0
    while "DATA" not in entries:
        end = data.find(b"\n", offset, offset + MAX_HEADER_BYTES)
        if end < 0 or end > MAX_HEADER_BYTES:
            raise ReaderError(
                path, f"no DATA line in the first {min(len(data), MAX_HEADER_BYTES)} bytes"
            )
        line = data[offset:end].decode("ascii", "replace").strip()
        offset = end + 1
        if not line or line.startswith("#"):
            continue
        key, *values = line.split()
        if key not in _KEYS:
            raise ReaderError(
                path, f"header line {line[:80]!r}, expected one of {', '.join(_KEYS)}"
            )
        if key in entries:
            raise ReaderError(path, f"header has {key} twice")
        entries[key] = values
    return _check_header(path, entries, offset)


def _check_header(path: Path, entries: dict[str, list[str]], offset: int) -> _Header:
    names = entries.get("FIELDS", [])
    sizes, types = entries.get("SIZE", []), entries.get("TYPE", [])
    counts = entries.get("COUNT", ["1"] * len(names))
    if not 0 < len(names) <= MAX_FIELDS:
        raise ReaderError(path, f"{len(names)} FIELDS, expected 3 to {MAX_FIELDS}")
    for key, values in (("SIZE", sizes), ("TYPE", types), ("COUNT", counts)):
        if len(values) != len(names):
            raise ReaderError(
                path, f"{len(values)} values in {key}, expected {len(names)} as FIELDS"
            )
    fields = []
    for name, size, kind, count in zip(names, sizes, types, counts, strict=True):
        if kind + size not in _TYPES:
            raise ReaderError(path, f"field {name} is TYPE {kind} SIZE {size}, no known number")
        number = _integer(path, "COUNT", [count])
        if not 0 < number <= MAX_FIELDS:
            raise ReaderError(path, f"field {name} has COUNT {number}, expected 1 to {MAX_FIELDS}")
        fields.append(_Field(name, _TYPES[kind + size], number))
    width, height = (_integer(path, key, entries.get(key, [])) for key in ("WIDTH", "HEIGHT"))
    num_points = width * height
    if "POINTS" in entries and _integer(path, "POINTS", entries["POINTS"]) != num_points:
        raise ReaderError(
            path, f"POINTS {entries['POINTS'][0]}, but WIDTH x HEIGHT is {width} x {height}"
        )
    encoding = " ".join(entries["DATA"]).lower()
    if encoding not in ("ascii", "binary", "binary_compressed"):
        raise ReaderError(path, f"DATA {encoding!r}, expected ascii, binary or binary_compressed")
    return _Header(tuple(fields), num_points, encoding, offset)


def _integer(path: Path, key: str, values: list[str]) -> int:
    # isdigit also takes superscripts, which int() does not.
    if len(values) != 1 or not (values[0].isascii() and values[0].isdigit()) or len(values[0]) > 18:
        raise ReaderError(
            path, f"{key} {' '.join(values)[:80]!r}, expected one non-negative integer"
        )
    return int(values[0])


def _ascii_columns(path: Path, header: _Header, body: bytes) -> list[NDArray[np.generic]]:
    table = parse_ascii_table(
        path, body.splitlines(), header.num_points, sum(field.count for field in header.fields)
    )
    columns: list[NDArray[np.generic]] = []
    start = 0
    for field in header.fields:
        columns.append(table[:, start : start + field.count])
        start += field.count
    return columns


def parse_ascii_table(
    path: Path, lines: Iterable[bytes], num_rows: int, num_columns: int
) -> NDArray[np.float64]:
    """Parses `num_rows` lines of `num_columns` numbers each, float64."""
    rows = [line for line in lines if line.strip()]
    if len(rows) != num_rows:
        raise ReaderError(path, f"{len(rows)} lines of points, the header says {num_rows}")
    if not rows:
        return np.empty((0, num_columns))
    try:
        table = np.loadtxt(rows, np.float64, comments=None, ndmin=2)
    except (ValueError, OverflowError) as error:
        raise ReaderError(path, f"points are no table of numbers: {error}") from error
    if table.shape != (num_rows, num_columns):
        raise ReaderError(
            path, f"{table.shape[1]} numbers a line, the header says {num_columns} fields"
        )
    return table


def _binary_columns(path: Path, header: _Header, body: memoryview) -> list[NDArray[np.generic]]:
    expected = header.num_points * header.row_bytes
    if len(body) != expected:
        raise ReaderError(
            path,
            f"{header.num_points} points x {header.row_bytes} bytes = {expected} bytes, the file "
            f"has {len(body)} after its header",
        )
    # Positions, not names: padding fields all share the name "_".
    record = np.dtype([(f"f{i}", f.dtype, (f.count,)) for i, f in enumerate(header.fields)])
    rows = np.frombuffer(body, record)
    return [rows[f"f{i}"] for i in range(len(header.fields))]


def _compressed_columns(path: Path, header: _Header, body: memoryview) -> list[NDArray[np.generic]]:
    """The compressed form stores field after field: all x, then all y, and so on."""
    if len(body) < 8:
        raise ReaderError(path, f"{len(body)} bytes after the header, expected at least 8")
    compressed, uncompressed = struct.unpack_from("<II", body)
    expected = header.num_points * header.row_bytes
    if uncompressed != expected:
        raise ReaderError(
            path,
            f"{uncompressed} uncompressed bytes, expected {header.num_points} points x "
            f"{header.row_bytes} = {expected}",
        )
    if compressed > len(body) - 8 or any(body[8 + compressed :]):
        raise ReaderError(path, f"{compressed} compressed bytes, the file has {len(body) - 8}")
    if uncompressed > _LZF_MAX_RATIO * compressed:
        raise ReaderError(
            path, f"{compressed} compressed bytes cannot hold {uncompressed} bytes (at most 1:88)"
        )
    try:
        data = decompress_lzf(bytes(body[8 : 8 + compressed]), uncompressed)
    except ValueError as error:
        raise ReaderError(path, f"compressed data broken: {error}") from error
    columns: list[NDArray[np.generic]] = []
    offset = 0
    for field in header.fields:
        column = np.frombuffer(data, field.dtype, header.num_points * field.count, offset)
        columns.append(column.reshape(header.num_points, field.count))
        offset += header.num_points * field.size
    return columns


def decompress_lzf(data: bytes, size: int) -> bytes:
    """Decompresses LZF data that must yield exactly `size` bytes.

    A control byte below 32 starts a literal run of control + 1 bytes; any other is a back
    reference: its high 3 bits + 2 are the length (7: one more byte is added), its low 5 bits and
    the next byte the distance - 1 (http://oldhome.schmorp.de/marc/liblzf.html).

    Raises:
        ValueError: the data ends early, refers to before its start, or yields another size.
    """
    out = bytearray()
    position, end = 0, len(data)
    while position < end:
        control = data[position]
        position += 1
        if control < 32:
            if position + control + 1 > end:
                raise ValueError(f"literal of {control + 1} bytes at {position} ends past {end}")
            out += data[position : position + control + 1]
            position += control + 1
        else:
            length = control >> 5
            if position + (2 if length == 7 else 1) > end:
                raise ValueError(f"back reference at {position} ends past {end}")
            if length == 7:
                length += data[position]
                position += 1
            length += 2
            distance = ((control & 31) << 8) + data[position] + 1
            position += 1
            start = len(out) - distance
            if start < 0:
                raise ValueError(f"back reference at {position} reaches {-start} before the start")
            if distance >= length:
                out += out[start : start + length]
            else:  # the reference overlaps what it writes: a repeating pattern
                pattern = bytes(out[start:])
                out += (pattern * (length // distance + 1))[:length]
        if len(out) > size:
            raise ValueError(f"more than the declared {size} bytes come out")
    if len(out) != size:
        raise ValueError(f"{len(out)} bytes come out, expected {size}")
    return bytes(out)


def _cloud(path: Path, header: _Header, columns: list[NDArray[np.generic]]) -> PointCloud:
    names: list[str] = []
    flat: list[NDArray[np.generic]] = []
    for field, column in zip(header.fields, columns, strict=True):
        if field.name == "_":
            continue
        for i in range(field.count):
            names.append(field.name if field.count == 1 else f"{field.name}_{i}")
            flat.append(column[:, i])
    return cloud_from_columns(path, names, flat)
