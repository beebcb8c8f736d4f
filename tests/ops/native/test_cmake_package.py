# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The installed CMake package, used by the C++ example as any other program would."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from voxgate_ops.session import open_session

GRID = {"point_range": [0.0, -8.0, -2.0, 16.0, 8.0, 2.0], "voxel_size": [0.5, 0.5, 0.5]}
SPATIAL_SHAPE = [8, 32, 32]


def run(*command: str | Path) -> str:
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def cmake() -> str:
    beside = Path(sys.executable).with_name("cmake")
    found = str(beside) if beside.exists() else shutil.which("cmake")
    if found is None:
        pytest.skip("no cmake")
    return found


def onnxruntime_library(folder: Path) -> Path:
    """The library of the Python package, under the name that programs linked to it ask for."""
    spec = importlib.util.find_spec("onnxruntime")
    assert spec is not None and spec.submodule_search_locations
    files = list(Path(spec.submodule_search_locations[0], "capi").glob("libonnxruntime.so.*"))
    if not files:
        pytest.skip("this onnxruntime package has no library of its own")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / name).symlink_to(files[0])
    return folder / "libonnxruntime.so"


def onnxruntime_headers(repository: Path) -> Path:
    named = os.environ.get("ONNXRUNTIME_INCLUDE_DIR")
    candidates = [
        *([Path(named)] if named else []),
        repository / "build/onnxruntime-headers/usr/include/onnxruntime",
        Path("/usr/include/onnxruntime"),
        Path("/usr/local/include/onnxruntime"),
    ]
    for folder in candidates:
        if (folder / "onnxruntime_cxx_api.h").is_file():
            return folder
    pytest.skip("no ONNX Runtime headers")


@pytest.fixture(scope="module")
def run_scan(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, built against a fresh install of the package."""
    folder = tmp_path_factory.mktemp("cmake_package")
    built = repository / "build" / "editable"
    if not (built / "CMakeCache.txt").is_file():
        pytest.skip("not built by make build")
    prefix = folder / "prefix"
    run(cmake(), "--install", built, "--prefix", prefix, "--component", "development")
    example = folder / "build"
    run(
        *(cmake(), "-S", repository / "ops/native/examples/run_scan", "-B", example),
        f"-DCMAKE_PREFIX_PATH={prefix}",
        f"-DONNXRUNTIME_INCLUDE_DIR={onnxruntime_headers(repository)}",
        f"-DONNXRUNTIME_LIBRARY={onnxruntime_library(folder)}",
    )
    run(cmake(), "--build", example)
    return example / "run_scan"


def write_model(path: Path, *, points: bool) -> None:
    """One submanifold layer, 4 to 8 channels, over voxels or (with `points`) over points."""
    weight = np.random.default_rng(0).standard_normal((27, 4, 8)).astype(np.float32)
    nodes = [
        helper.make_node(
            "SubmanifoldRulebook",
            ["coords"],
            ["neighbors"],
            domain="voxgate",
            kernel_size=[3, 3, 3],
            dilation=[1, 1, 1],
            spatial_shape=SPATIAL_SHAPE,
        ),
        helper.make_node(
            "SparseConv", ["features", "neighbors", "weight"], ["out"], domain="voxgate"
        ),
    ]
    if points:
        voxelize = helper.make_node(
            "Voxelize",
            ["points", "point_batch"],
            ["coords", "features", "point_voxel"],
            domain="voxgate",
            reduce="mean",
            **GRID,
        )
        nodes.insert(0, voxelize)
        inputs = [
            helper.make_tensor_value_info("points", TensorProto.FLOAT, ["P", 4]),
            helper.make_tensor_value_info("point_batch", TensorProto.INT32, ["P"]),
        ]
    else:
        inputs = [
            helper.make_tensor_value_info("coords", TensorProto.INT32, ["N", 4]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 4]),
        ]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["M", 8])]
    initializer = [onnx.numpy_helper.from_array(weight, "weight")]
    graph = helper.make_graph(nodes, "layer", inputs, outputs, initializer)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("voxgate", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    metadata = (
        '{"format_version": 1, "class_names": ["a, {b}", "\\"c\\""], "outputs": {"out": {}},'
        f' "point_range": {GRID["point_range"]}, "voxel_size": {GRID["voxel_size"]}}}'
    )
    helper.set_model_props(model, {"voxgate": metadata})
    onnx.save(model, path)


@pytest.mark.parametrize("points", [False, True])
def test_the_example_runs_a_scan(run_scan: Path, tmp_path: Path, points: bool) -> None:
    rng = np.random.default_rng(1)
    scan = rng.uniform([-1, -9, -3, 0], [17, 9, 3, 1], (5000, 4)).astype(np.float32)
    scan.tofile(tmp_path / "scan.bin")
    write_model(tmp_path / "points.onnx", points=True)
    write_model(tmp_path / "model.onnx", points=points)
    (expected,) = open_session(tmp_path / "points.onnx").run(
        None, {"points": scan, "point_batch": np.zeros(len(scan), np.int32)}
    )

    printed = run(run_scan, tmp_path / "model.onnx", tmp_path / "scan.bin", "--runs", "2")

    assert "scan    5000 points of 4 values" in printed
    assert f"output  out [{len(expected)}, 8]" in printed
    assert "ms median of 2 runs" in printed


@pytest.mark.parametrize(("asked", "columns"), [((), 5), (("--columns", "4"), 4)])
def test_the_example_knows_rows_with_rings(
    run_scan: Path, tmp_path: Path, asked: tuple[str, ...], columns: int
) -> None:
    """Though as many bytes are rows of four values, too."""
    scan = np.random.default_rng(1).uniform(0, 1, (400, 5)).astype(np.float32)
    scan[:, 4] = np.arange(400) % 32
    scan.tofile(tmp_path / "scan.bin")
    write_model(tmp_path / "model.onnx", points=True)
    printed = run(run_scan, tmp_path / "model.onnx", tmp_path / "scan.bin", *asked)
    assert f"scan    {2000 // columns} points of {columns} values" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "33 bytes"),
        (("--runs", "two"), "--runs two: expected a whole number"),
        (("--columns",), "--columns : expected a whole number"),
        (("--columns", "2"), "usage: run_scan"),
        (("other.bin",), "usage: run_scan"),
    ],
)
def test_the_example_says_what_is_wrong(
    run_scan: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    write_model(tmp_path / "model.onnx", points=False)
    (tmp_path / "short.bin").write_bytes(b"\0" * 33)
    finished = subprocess.run(
        [run_scan, tmp_path / "model.onnx", tmp_path / "short.bin", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 1
    assert message in finished.stderr
