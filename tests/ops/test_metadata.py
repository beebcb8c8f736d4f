# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The metadata that a model carries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from voxgate_ops import _native
from voxgate_ops.errors import ModelError
from voxgate_ops.metadata import (
    ModelMetadata,
    parse_metadata,
    read_metadata,
    voxel_grid_shape,
    write_metadata,
)


def fields(**changes: Any) -> dict[str, Any]:
    return {
        "input_kind": "voxels",
        "axes": ["z", "y", "x"],
        "spatial_shape": [41, 64, 32],
        "feature_names": ["x", "intensity"],
        "outputs": {"label": {"meaning": "per_site"}},
        "exporter_version": "1.2.3",
        **changes,
    }


def empty_model() -> onnx.ModelProto:
    graph = onnx.parser.parse_graph("g (float[N] x) => (float[N] y) { y = Identity(x) }")
    return onnx.helper.make_model(graph)


def test_round_trip_through_a_file(tmp_path: Path) -> None:
    metadata = ModelMetadata(
        **fields(
            class_names=["ground"],
            class_colors=["#00ff00"],
            point_range=[0, -1.6, -3, 1.6, 1.6, 1],  # 40 voxels along z, the grid has 41
            voxel_size=[0.05, 0.05, 0.1],
        )
    )
    model = empty_model()
    model.metadata_props.add(key="other", value="kept")
    write_metadata(model, metadata)
    write_metadata(model, metadata)  # replaces, does not repeat
    assert [entry.key for entry in model.metadata_props] == ["other", "voxgate"]
    onnx.save(model, tmp_path / "model.onnx")
    assert read_metadata(tmp_path / "model.onnx") == metadata


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"spatial_shape": [41, 64]}, "spatial_shape has 2 entries, expected 3"),
        ({"spatial_shape": [41, 64, 0]}, "greater than 0"),
        ({"spatial_shape": [41, 64, 2**31]}, "less than 2147483648"),
        ({"axes": [], "spatial_shape": []}, "axes: List should have at least 1 item"),
        ({"axes": list("abcde"), "spatial_shape": [2] * 5}, "axes: List should have at most 4"),
        ({"voxel_size": [0.1, 0.1]}, "voxel_size has 2 entries, expected 3"),
        ({"voxel_size": [0.1, 0.1, 0.1]}, "voxel_size is given without point_range"),
        ({"point_range": [0, 0, 0, 1, 1, 1]}, "point_range is given without voxel_size"),
        (
            {"point_range": [0, 0, 0, 3.3, 6.4, 4.1], "voxel_size": [0.1, 0.1, 0.1]},
            "make [41, 64, 33] voxels, which does not fit into spatial_shape [41, 64, 32]",
        ),
        ({"point_range": [0, 0, 1, 1, 1, 1], "voxel_size": [0.1, 0.1, 0.1]}, "bounds that rise"),
        ({"point_range": [0, 0, 0, 1e39, 1, 1], "voxel_size": [1, 1, 1]}, "finite bounds"),
        ({"feature_units": ["m"]}, "feature_units has 1 entries, expected 2"),
        ({"class_names": ["a"], "class_colors": ["red"]}, "class_colors"),
        ({"class_colors": ["#ffffff"]}, "class_colors has 1 entries, expected 0"),
        ({"input_kind": "points"}, "needs point_range and voxel_size"),
        ({"input_kind": "images"}, "input_kind"),
        ({"precision": "int8"}, "precision"),
        ({"outputs": {"x": {"meaning": "sparse"}}}, "coords is None"),
        ({"outputs": {"x": {"meaning": "sparse", "coords": "y"}}}, "'y', which is no output"),
        ({"outputs": {"x": {"meaning": "dense", "frame": "x"}}}, "frame is 'x'"),
        ({"format_version": 2}, "format_version 2, this Voxgate reads 1"),
    ],
)
def test_refuses(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelError, match="voxgate") as caught:
        parse_metadata(json.dumps(fields(**changes)))
    assert said in str(caught.value)


@pytest.mark.parametrize("cells", [10.5, 2.5, 40.0, 1408.0])
def test_the_voxel_grid_is_rounded_as_the_operator_rounds_it(cells: float) -> None:
    point_range, voxel_size = [0.0, 0.0, -1.0, 3.0, 4.0, 0.1 * cells - 1.0], [1.0, 1.0, 0.1]
    point = np.zeros((1, 3), np.float32)
    shape = voxel_grid_shape(point_range, voxel_size)
    assert shape[1:] == [4, 3]
    for index in (shape[0] - 1, shape[0]):
        point[0, 2] = np.float32(-1.0) + np.float32(0.1) * np.float32(index + 0.5)
        coords, _, _ = _native.voxelize(point, np.zeros(1, np.int32), point_range, voxel_size)
        assert len(coords) == (index < shape[0])


def test_refuses_what_is_no_json() -> None:
    with pytest.raises(ModelError, match="not valid"):
        parse_metadata("{")


def test_a_file_without_metadata(tmp_path: Path) -> None:
    onnx.save(empty_model(), tmp_path / "plain.onnx")
    with pytest.raises(ModelError, match=r"plain\.onnx has no 'voxgate' metadata"):
        read_metadata(tmp_path / "plain.onnx")
    (tmp_path / "text.onnx").write_bytes(b"\xff\xfe not a model")
    with pytest.raises(ModelError, match="cannot be read as an ONNX model"):
        read_metadata(tmp_path / "text.onnx")
