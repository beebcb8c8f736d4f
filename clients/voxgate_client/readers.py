# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Readers for point-cloud files: .bin (KITTI, nuScenes), .npy, .npz, .pcd and .ply.

Nothing in a file is believed before it is checked against the file's own size: a truncated file or
a lying header gives a ReaderError, never a wrong cloud and never an allocation it cannot fill.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from voxgate_client.pcd import read_pcd
from voxgate_client.ply import read_ply
from voxgate_client.point_cloud import (
    MAX_FIELDS,
    MAX_HEADER_BYTES,
    PointCloud,
    ReaderError,
    check_counts,
    cloud_from_columns,
)

SUFFIXES = (".bin", ".npy", ".npz", ".pcd", ".ply")
_BIN_FIELDS = ("x", "y", "z", "intensity", "ring")
# The names under which data sets store their cloud when an archive holds several arrays.
_NPZ_KEYS = ("points", "pc", "xyz", "point_cloud", "data")
# A small archive may unpack to anything: this bounds it.
_MAX_NPZ_BYTES = 1 << 30


def read_points(path: str | os.PathLike[str], *, columns: int | None = None) -> PointCloud:
    """Reads one point cloud; the file's suffix says how.

    Args:
        path: a `.bin`, `.npy`, `.npz`, `.pcd` or `.ply` file.
        columns: float32 values per point of a `.bin` file, which has no header. Without it
            `.pcd.bin` is nuScenes (5: x, y, z, intensity, ring), and any other `.bin` is the one of
            4 (KITTI: x, y, z, intensity) and 5 that divides the file's size; where both do, 5 if
            every fifth value is a whole number below 256, as rings are.

    Returns:
        PointCloud with float32 `[N, F]` points. Non-finite values are kept: sensors send them for
        rays without a return.

    Raises:
        ReaderError: the file is truncated, contradicts itself, has no x, y, z, or its format is
            unknown.
        OSError: the file cannot be opened.
    """
    file = Path(path)
    suffix = file.suffix.lower()
    if suffix == ".bin":
        return read_bin(file, columns)
    readers: dict[str, Callable[[Path], PointCloud]] = {
        ".npy": read_npy,
        ".npz": read_npz,
        ".pcd": read_pcd,
        ".ply": read_ply,
    }
    if file.is_dir():
        raise ReaderError(file, f"is a folder: name its files, as in {file / '*.bin'}")
    if suffix not in readers:
        raise ReaderError(file, f"unknown suffix {suffix!r}, expected {', '.join(SUFFIXES)}")
    return readers[suffix](file)


def read_bin(path: Path, columns: int | None = None) -> PointCloud:
    """Reads headerless little-endian float32 rows; see `read_points` for `columns`."""
    size = path.stat().st_size
    if columns is None:
        columns = _guess_columns(path, size)
    elif not 3 <= columns <= MAX_FIELDS:
        raise ReaderError(path, f"columns={columns}, expected 3 to {MAX_FIELDS}")
    row_bytes = 4 * columns
    if size % row_bytes:
        raise ReaderError(
            path,
            f"{size} bytes is no whole number of points of {columns} float32 ({row_bytes} bytes): "
            f"{size % row_bytes} bytes left over",
        )
    check_counts(path, size // row_bytes, columns)
    points = np.fromfile(path, "<f4").astype(np.float32, copy=False)
    if points.nbytes != size:
        raise ReaderError(path, f"changed while being read: {size} bytes, then {points.nbytes}")
    names = _BIN_FIELDS[:columns] + tuple(f"field{i}" for i in range(5, columns))
    return PointCloud(points.reshape(-1, columns), names)


def _guess_columns(path: Path, size: int) -> int:
    if path.name.lower().endswith(".pcd.bin"):
        return 5
    fits = [columns for columns in (4, 5) if size % (4 * columns) == 0]
    if not fits:
        raise ReaderError(
            path,
            f"{size} bytes is no whole number of points of 4 (16 bytes) or 5 (20 bytes) float32: "
            "truncated, or another number of columns (give columns=, on the command line "
            "--columns)",
        )
    if len(fits) == 1:
        return fits[0]
    return 5 if _has_rings(path) else 4


def _has_rings(path: Path) -> bool:
    """Whether every fifth value is a ring number, as nuScenes has it: coordinates are not whole."""
    rings = np.fromfile(path, "<f4")[4::5]
    return bool(rings.size) and bool(np.all((rings >= 0) & (rings < 256) & (rings % 1 == 0)))


def read_npy(path: Path) -> PointCloud:
    """Reads a `.npy` file: `[N, F]` numbers (x, y, z first) or `[N]` records with x, y, z."""
    with path.open("rb") as stream:
        return _cloud_from_array(path, _read_array(path, stream, path.stat().st_size))


def read_npz(path: Path) -> PointCloud:
    """Reads an archive's only array, or the one named points, pc, xyz, point_cloud or data."""
    with path.open("rb") as file:
        try:
            data = _read_npz_member(path, file)
        except ReaderError:
            raise
        except Exception as error:  # zipfile raises over a dozen types for broken archives
            raise ReaderError(path, f"no readable npz archive: {error!r}") from error
    return _cloud_from_array(path, _read_array(path, io.BytesIO(data), len(data)))


def _read_npz_member(path: Path, file: BinaryIO) -> bytes:
    with zipfile.ZipFile(file) as archive:
        info = archive.getinfo(_npz_member(path, archive.namelist()))
        if info.file_size > _MAX_NPZ_BYTES:
            raise ReaderError(
                path, f"{info.filename} has {info.file_size} bytes, at most {_MAX_NPZ_BYTES}"
            )
        with archive.open(info) as member:
            return member.read(info.file_size)


def _npz_member(path: Path, names: Sequence[str]) -> str:
    arrays = [name for name in names if name.endswith(".npy")]
    if len(arrays) == 1:
        return arrays[0]
    for key in _NPZ_KEYS:
        if f"{key}.npy" in arrays:
            return f"{key}.npy"
    found = ", ".join(name.removesuffix(".npy") for name in arrays) or "no arrays"
    raise ReaderError(path, f"holds {found}, expected one array or one of {', '.join(_NPZ_KEYS)}")


def _read_array(path: Path, stream: BinaryIO, size: int) -> NDArray[np.generic]:
    """Reads one npy array after checking that its header claims exactly the bytes there are."""
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            header = np.lib.format.read_array_header_1_0(stream, MAX_HEADER_BYTES)
        elif version == (2, 0):
            header = np.lib.format.read_array_header_2_0(stream, MAX_HEADER_BYTES)
        else:
            raise ReaderError(path, f"npy version {version}, expected (1, 0) or (2, 0)")
    except ReaderError:
        raise
    except Exception as error:  # numpy's header parser lets the tokenizer's own errors through
        raise ReaderError(path, f"no readable npy header: {error}") from error
    shape, fortran_order, dtype = header
    if dtype.hasobject:
        raise ReaderError(path, f"holds Python objects (dtype {dtype}), expected numbers")
    if any(not isinstance(n, int) or n < 0 for n in shape):
        raise ReaderError(path, f"shape {shape}, expected non-negative sizes")
    count = 1
    for length in shape:
        count *= length
    start = stream.tell()
    if count * dtype.itemsize != size - start:
        raise ReaderError(
            path,
            f"shape {shape} of {dtype} is {count * dtype.itemsize} bytes, the file has "
            f"{size - start} after its header",
        )
    if dtype.itemsize == 0:
        raise ReaderError(path, f"dtype {dtype} has no bytes, expected numbers")
    data = stream.read(size - start)
    if len(data) != size - start:
        raise ReaderError(path, f"changed while being read: {size - start} bytes, {len(data)} came")
    array = np.frombuffer(data, dtype)
    return array.reshape(shape, order="F" if fortran_order else "C")


def _cloud_from_array(path: Path, array: NDArray[np.generic]) -> PointCloud:
    names = array.dtype.names
    if names is not None:
        records: NDArray[Any] = array
        if array.ndim != 1:
            raise ReaderError(path, f"records of shape {array.shape}, expected [N]")
        scalar = [n for n in names if records[n].dtype.kind in "fiu" and records[n].ndim == 1]
        return cloud_from_columns(path, scalar, [records[name] for name in scalar])
    if array.dtype.kind not in "fiu":
        raise ReaderError(path, f"dtype {array.dtype}, expected a float or integer type")
    if array.ndim != 2 or array.shape[1] < 3:
        raise ReaderError(path, f"shape {array.shape}, expected [N, F] with F >= 3")
    check_counts(path, *array.shape)
    with np.errstate(over="ignore"):
        points = np.ascontiguousarray(array, np.float32)
    width = array.shape[1]
    fields = ("x", "y", "z") if width == 3 else _BIN_FIELDS[: min(width, 4)]
    fields += tuple(f"field{i}" for i in range(4, width))
    return PointCloud(points, fields)
