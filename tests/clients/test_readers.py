# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Every format: what is written is read; any bytes give a cloud or a ReaderError."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxgate_client import PointCloud, ReaderError, read_points
from voxgate_client.pcd import decompress_lzf

SIZES = [0, 1, 19]


def cloud(num: int, fields: int = 4) -> np.ndarray:
    return np.random.default_rng(num).normal(0, 30, (num, fields)).astype(np.float32)


def write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def npy_bytes(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz_bytes(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def lzf_literals(data: bytes) -> bytes:
    """LZF that only uses literal runs."""
    runs = [data[i : i + 32] for i in range(0, len(data), 32)]
    return b"".join(bytes([len(run) - 1]) + run for run in runs)


def pcd_bytes(points: np.ndarray, encoding: str, names: str = "x y z intensity") -> bytes:
    num, fields = points.shape
    header = (
        "# .PCD v0.7\nVERSION 0.7\n"
        f"FIELDS {names}\nSIZE{' 4' * fields}\nTYPE{' F' * fields}\nCOUNT{' 1' * fields}\n"
        f"WIDTH {num}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {num}\nDATA {encoding}\n"
    )
    if encoding == "ascii":
        body = "".join(" ".join(map(repr, row)) + "\n" for row in points.tolist()).encode()
    elif encoding == "binary":
        body = points.astype("<f4").tobytes()
    else:
        columns = points.T.astype("<f4").tobytes()
        packed = lzf_literals(columns)
        body = struct.pack("<II", len(packed), len(columns)) + packed
    return header.encode() + body


def ply_bytes(points: np.ndarray, encoding: str, extra: str = "", tail: bytes = b"") -> bytes:
    header = (
        f"ply\nformat {encoding} 1.0\ncomment made here\nelement vertex {len(points)}\n"
        "property float x\nproperty float y\nproperty float z\nproperty float intensity\n"
        f"{extra}end_header\n"
    )
    if encoding == "ascii":
        body = "".join(" ".join(map(repr, row)) + "\n" for row in points.tolist()).encode()
    else:
        order = "<" if "little" in encoding else ">"
        body = points.astype(f"{order}f4").tobytes()
    return header.encode() + body + tail


WRITERS: dict[str, tuple[str, Callable[[np.ndarray], bytes]]] = {
    "npy": ("a.npy", npy_bytes),
    "npz": ("a.npz", lambda points: npz_bytes(points=points)),
    "pcd-ascii": ("a.pcd", lambda points: pcd_bytes(points, "ascii")),
    "pcd-binary": ("a.pcd", lambda points: pcd_bytes(points, "binary")),
    "pcd-compressed": ("a.pcd", lambda points: pcd_bytes(points, "binary_compressed")),
    "ply-ascii": ("a.ply", lambda points: ply_bytes(points, "ascii")),
    "ply-little": ("a.ply", lambda points: ply_bytes(points, "binary_little_endian")),
    "ply-big": ("a.ply", lambda points: ply_bytes(points, "binary_big_endian")),
}


@pytest.mark.parametrize("num", SIZES)
@pytest.mark.parametrize("kind", WRITERS)
def test_round_trip(kind: str, num: int, tmp_path: Path) -> None:
    points = cloud(num)
    name, make = WRITERS[kind]
    read = read_points(write(tmp_path, name, make(points)))
    assert read.fields == ("x", "y", "z", "intensity")
    assert read.points.dtype == np.float32 and read.points.flags.c_contiguous
    np.testing.assert_array_equal(read.points, points)


@pytest.mark.parametrize("num", [n for n in SIZES if n])
@pytest.mark.parametrize("kind", WRITERS)
def test_truncated(kind: str, num: int, tmp_path: Path) -> None:
    name, make = WRITERS[kind]
    data = make(cloud(num))
    cuts = {len(data) - 1 - kind.endswith("ascii"), len(data) // 2, 10, 0}
    for cut in cuts:
        path = write(tmp_path, name, data[:cut])
        if kind.endswith("ascii") and cut == len(data) - 2:
            continue  # a number that lost its last digit is still a number
        with pytest.raises(ReaderError, match=str(path)):
            read_points(path)


# ---- .bin --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "columns", "width"),
    [("a.bin", None, 4), ("a.pcd.bin", None, 5), ("a.bin", 5, 5), ("a.bin", 7, 7), ("a.bin", 3, 3)],
)
def test_bin_columns(name: str, columns: int | None, width: int, tmp_path: Path) -> None:
    points = cloud(19, width)
    read = read_points(write(tmp_path, name, points.tobytes()), columns=columns)
    np.testing.assert_array_equal(read.points, points)
    assert len(read.fields) == width and read.fields[:3] == ("x", "y", "z")


def test_bin_of_five_columns_is_found_by_its_size(tmp_path: Path) -> None:
    assert read_points(write(tmp_path, "a.bin", cloud(19, 5).tobytes())).points.shape == (19, 5)


def test_bin_whose_size_fits_both_is_told_by_its_rings(tmp_path: Path) -> None:
    kitti = write(tmp_path, "kitti.bin", cloud(20).tobytes())
    assert read_points(kitti).points.shape == (20, 4)
    points = cloud(16, 5)
    points[:, 4] = np.arange(16)
    nuscenes = write(tmp_path, "nuscenes.bin", points.tobytes())
    assert read_points(nuscenes).points.shape == (16, 5)
    assert read_points(nuscenes, columns=4).points.shape == (20, 4)


def test_bin_with_bytes_left_over(tmp_path: Path) -> None:
    path = write(tmp_path, "a.bin", cloud(19).tobytes() + b"!")
    with pytest.raises(ReaderError, match="305 bytes is no whole number"):
        read_points(path)
    with pytest.raises(ReaderError, match=r"\(16 bytes\): 1 bytes left over"):
        read_points(path, columns=4)


@pytest.mark.parametrize("columns", [0, 2, -4, 257])
def test_bin_columns_out_of_bounds(columns: int, tmp_path: Path) -> None:
    with pytest.raises(ReaderError, match=f"columns={columns}, expected 3 to 256"):
        read_points(write(tmp_path, "a.bin", bytes(16)), columns=columns)


def test_unknown_suffix(tmp_path: Path) -> None:
    with pytest.raises(ReaderError, match=r"unknown suffix '\.las', expected \.bin"):
        read_points(tmp_path / "a.las")


def test_absent_file_is_the_systems_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_points(tmp_path / "a.ply")


# ---- .npy and .npz -----------------------------------------------------------------------------


def test_npy_of_other_types_and_orders(tmp_path: Path) -> None:
    points = cloud(19)
    for array in (points.astype(">f8"), np.asfortranarray(points), points.astype(np.float16)):
        read = read_points(write(tmp_path, "a.npy", npy_bytes(array)))
        np.testing.assert_array_equal(read.points, array.astype(np.float32))


def test_npy_of_records(tmp_path: Path) -> None:
    records = np.zeros(3, [("t", "u8"), ("z", "f8"), ("y", "f4"), ("x", "f4"), ("name", "S3")])
    records["x"], records["z"] = [1, 2, 3], 5
    read = read_points(write(tmp_path, "a.npy", npy_bytes(records)))
    assert read.fields == ("x", "y", "z", "t")
    np.testing.assert_array_equal(read.points[:, 0], [1, 2, 3])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 2), np.float32), r"shape \(3, 2\), expected \[N, F\] with F >= 3"),
        (np.zeros(3, np.float32), r"shape \(3,\)"),
        (np.zeros((3, 4), np.complex64), "dtype complex64"),
        (np.zeros((3, 4), "S2"), "dtype .S2"),
        (np.zeros(3, [("x", "f4"), ("y", "f4")]), "no field z, found x, y"),
        (np.zeros((3, 300), np.float32), "300 fields per point"),
    ],
)
def test_npy_that_is_no_cloud(array: np.ndarray, message: str, tmp_path: Path) -> None:
    with pytest.raises(ReaderError, match=message):
        read_points(write(tmp_path, "a.npy", npy_bytes(array)))


def test_npy_of_objects_is_never_unpickled(tmp_path: Path) -> None:
    array = np.array([[1, 2, 3]], object)
    with pytest.raises(ReaderError, match="holds Python objects"):
        read_points(write(tmp_path, "a.npy", npy_bytes(array)))


def test_npy_header_that_claims_terabytes(tmp_path: Path) -> None:
    data = npy_bytes(cloud(19)).replace(b"(19, 4), }        ", b"(99999999999, 4), }")
    with pytest.raises(ReaderError, match="99999999999, 4.*bytes, the file has"):
        read_points(write(tmp_path, "a.npy", data))


def test_npz_chooses_by_name_or_asks(tmp_path: Path) -> None:
    labels, points = np.zeros(3), cloud(3)
    read = read_points(write(tmp_path, "a.npz", npz_bytes(labels=labels, pc=points)))
    np.testing.assert_array_equal(read.points, points)
    with pytest.raises(ReaderError, match="holds a, b, expected one array or one of points"):
        read_points(write(tmp_path, "b.npz", npz_bytes(a=points, b=points)))


def test_npz_member_larger_than_its_directory_entry(tmp_path: Path) -> None:
    data = npz_bytes(points=cloud(190))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        size = archive.infolist()[0].file_size
    with pytest.raises(ReaderError):
        read_points(write(tmp_path, "a.npz", data.replace(struct.pack("<I", size), b"\x90\0\0\0")))


# ---- .pcd --------------------------------------------------------------------------------------


def test_pcd_fields_of_every_type_padding_and_counts(tmp_path: Path) -> None:
    record = np.dtype([("x", "<f8"), ("pad", "u1", 3), ("y", "<f4"), ("z", "<i2"), ("n", "<f4", 2)])
    rows = np.zeros(5, record)
    rows["x"], rows["y"], rows["z"] = np.arange(5), 0.5, -7
    rows["n"] = [[1, 2]] * 5
    header = (
        "VERSION .7\nFIELDS x _ y z normal\nSIZE 8 1 4 2 4\nTYPE F U F I F\nCOUNT 1 3 1 1 2\n"
        "WIDTH 5\nHEIGHT 1\nPOINTS 5\nDATA binary\n"
    )
    read = read_points(write(tmp_path, "a.pcd", header.encode() + rows.tobytes()))
    assert read.fields == ("x", "y", "z", "normal_0", "normal_1")
    np.testing.assert_array_equal(read.points[2], [2, 0.5, -7, 1, 2])


GOOD_PCD = pcd_bytes(cloud(5), "binary")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"POINTS 5", b"POINTS 6", "POINTS 6, but WIDTH x HEIGHT is 5 x 1"),
        (b"WIDTH 5\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS 5", b"WIDTH 6\nHEIGHT 1",
         "6 points x 16 bytes = 96 bytes, the file has 80"),
        (b"WIDTH 5", b"WIDTH 99999999999", "WIDTH x HEIGHT is 99999999999"),
        (b"WIDTH 5", b"WIDTH -5", "WIDTH '-5', expected one non-negative integer"),
        (b"DATA binary", b"DATA zip", "DATA 'zip', expected ascii"),
        (b"FIELDS x y z", b"FIELDS a y z", "no field x, found a, y, z, intensity"),
        (b"FIELDS x y z", b"FIELDS x x z", "no field y"),
        (b"SIZE 4", b"SIZE 3", "field x is TYPE F SIZE 3"),
        (b"SIZE 4 4", b"SIZE 4", "3 values in SIZE, expected 4"),
        (b"COUNT 1", b"COUNT 999", "COUNT 999, expected 1 to 256"),
        (b"VERSION 0.7", b"COLOUR 0.7", "header line 'COLOUR 0.7'"),
        (b"WIDTH 5", b"WIDTH 5\nWIDTH 5", "WIDTH twice"),
        (b"DATA binary\n", b"", "header line|no DATA line"),
    ],
)  # fmt: skip
def test_pcd_headers_that_lie(old: bytes, new: bytes, message: str, tmp_path: Path) -> None:
    assert old in GOOD_PCD
    with pytest.raises(ReaderError, match=message):
        read_points(write(tmp_path, "a.pcd", GOOD_PCD.replace(old, new, 1)))


def test_pcd_huge_count_is_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    data = GOOD_PCD.replace(b"WIDTH 5", b"WIDTH 99999999999").replace(b"POINTS 5\n", b"")
    with pytest.raises(ReaderError, match="99999999999 points, expected 0 to 134217728"):
        read_points(write(tmp_path, "a.pcd", data))


@pytest.mark.parametrize(
    ("compressed", "uncompressed", "message"),
    [
        (82, 81, "81 uncompressed bytes, expected 5 points x 16 = 80"),
        (9999, 80, "9999 compressed bytes, the file has 83"),
        (0, 80, "0 compressed bytes"),
    ],
)
def test_pcd_compressed_sizes_that_lie(
    compressed: int, uncompressed: int, message: str, tmp_path: Path
) -> None:
    data = pcd_bytes(cloud(5), "binary_compressed")
    start = data.index(b"compressed\n") + len(b"compressed\n")
    body = struct.pack("<II", compressed, uncompressed) + data[start + 8 :]
    with pytest.raises(ReaderError, match=message):
        read_points(write(tmp_path, "a.pcd", data[:start] + body))


def test_lzf_by_hand() -> None:
    # "abc" literally, 6 bytes from distance 3, then 12 (7 + 3 + 2) bytes of the last byte.
    data = bytes([2]) + b"abc" + bytes([(4 << 5), 2, (7 << 5), 3, 0])
    assert decompress_lzf(data, 21) == b"abcabcabc" + b"c" * 12


@pytest.mark.parametrize(
    ("data", "size", "message"),
    [
        (bytes([5]) + b"abc", 6, "literal of 6 bytes at 1 ends past 4"),
        (bytes([0]) + b"a" + bytes([1 << 5, 7]), 4, "reaches 7 before the start"),
        (bytes([0]) + b"a" + bytes([1 << 5]), 4, "back reference at 3 ends past 3"),
        (bytes([2]) + b"abc", 2, "more than the declared 2"),
        (bytes([2]) + b"abc", 4, "3 bytes come out, expected 4"),
    ],
)
def test_lzf_refuses(data: bytes, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decompress_lzf(data, size)


# ---- .ply --------------------------------------------------------------------------------------


def test_ply_skips_elements_before_and_ignores_faces_after(tmp_path: Path) -> None:
    header = (
        "ply\r\nformat binary_big_endian 1.0\r\nelement camera 2\r\nproperty double f\r\n"
        "element vertex 3\r\nproperty uchar red\r\nproperty float z\r\nproperty float y\r\n"
        "property double x\r\nelement face 1\r\nproperty list uchar int vertex_indices\r\n"
        "end_header\r\n"
    )
    rows = np.zeros(3, [("red", "u1"), ("z", ">f4"), ("y", ">f4"), ("x", ">f8")])
    rows["red"], rows["x"], rows["z"] = 200, [1, 2, 3], -1
    data = header.encode() + bytes(16) + rows.tobytes() + b"\3faces"
    read = read_points(write(tmp_path, "a.ply", data))
    assert read.fields == ("x", "y", "z", "red")
    np.testing.assert_array_equal(read.points, [[x, 0, -1, 200] for x in (1, 2, 3)])


GOOD_PLY = ply_bytes(cloud(5), "binary_little_endian")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"ply\n", b"plo\n", "starts with b'plo"),
        (b"vertex 5", b"vertex 6", "6 vertices x 16 bytes end at byte 96 of the body"),
        (b"vertex 5", b"vertex 4", "end at byte 64 of the body, the file has 80"),
        (b"vertex 5", b"vertex 99999999999", "99999999999 points, expected"),
        (b"vertex 5", b"vertex -5", "header line 'element vertex -5'"),
        (b"vertex 5", b"points 5", "elements points, expected one named vertex"),
        (b"float x", b"real x", "header line 'property real x'"),
        (b"float x", b"float y", "property y twice"),
        (b"float x", b"float u", "no field x"),
        (b"float x", b"list uchar int x", "has a list property"),
        (b"format binary_little_endian 1.0\n", b"", "no format line"),
        (b"end_header\n", b"", "no end_header line"),
    ],
)
def test_ply_headers_that_lie(old: bytes, new: bytes, message: str, tmp_path: Path) -> None:
    assert old in GOOD_PLY
    with pytest.raises(ReaderError, match=message):
        read_points(write(tmp_path, "a.ply", GOOD_PLY.replace(old, new, 1)))


@pytest.mark.parametrize("kind", ["pcd-ascii", "ply-ascii"])
def test_ascii_rows_that_are_ragged_or_no_numbers(kind: str, tmp_path: Path) -> None:
    name, make = WRITERS[kind]
    good = make(np.ones((3, 4), np.float32))
    row = b"1.0 1.0 1.0 1.0\n"
    for bad in (b"1.0 1.0 1.0\n", row[:-1] + b" 1.0\n", b"1.0 1.0 1.0 one\n", row + row):
        with pytest.raises(ReaderError, match=name):
            read_points(write(tmp_path, name, good[: -len(row)] + bad))


# ---- anything ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WRITERS)
@settings(max_examples=150)
@given(data=st.data())
def test_mutated_files_give_a_cloud_or_a_reader_error(
    kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    name, make = WRITERS[kind]
    content = bytearray(make(cloud(7)))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        length = data.draw(st.integers(0, 12))
        content[start : start + length] = data.draw(st.binary(max_size=12))
    path = write(tmp_path_factory.getbasetemp(), f"{kind}-{name}", bytes(content))
    try:
        read = read_points(path)
    except ReaderError as error:
        assert str(path) in str(error)
    else:
        assert isinstance(read, PointCloud)
        assert read.points.ndim == 2 and read.points.shape[1] == len(read.fields) >= 3


# ---- real files --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "fields"),
    [
        ("kitti_000000_full.bin", (115384, 4), ("x", "y", "z", "intensity")),
        ("kitti_000008_fov.bin", (17238, 4), ("x", "y", "z", "intensity")),
        ("nuscenes_lidar_top_sweep.pcd.bin", (34688, 5), ("x", "y", "z", "intensity", "ring")),
        ("spconv_benchmark_pc.npz", (198130, 3), ("x", "y", "z")),
        ("ouster_os1_128_map.ply", (155000, 3), ("x", "y", "z")),
    ],
)
def test_real_scans(
    name: str, shape: tuple[int, int], fields: tuple[str, ...], data_file: Callable[[str], Path]
) -> None:
    read = read_points(data_file(name))
    assert (read.points.shape, read.fields) == (shape, fields)
    assert np.isfinite(read.points).all() and np.abs(read.points[:, :3]).max() < 300


def test_select_columns() -> None:
    read = PointCloud(cloud(19), ("x", "y", "z", "intensity"))
    np.testing.assert_array_equal(read.select(("intensity", "x")), read.points[:, [3, 0]])
    with pytest.raises(KeyError, match="no column ring: the points have x, y, z, intensity"):
        read.select(("x", "ring"))
    assert (read.select(("x", "ring"), fill=-1)[:, 1] == -1).all()
