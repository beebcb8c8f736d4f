# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Small networks through export: inputs, outputs, metadata, points and refusals."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.ops.checks.networks import (
    SHAPE,
    Function,
    Layers,
    down,
    export,
    norm,
    sites,
    subm,
)
from torch import Tensor, nn

import voxgate_ops.nn as spconv
from voxgate_ops.errors import ExportError
from voxgate_ops.export import Voxelizer, translation
from voxgate_ops.metadata import OutputMetadata, read_metadata
from voxgate_ops.session import open_session


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


# --- inputs, outputs, metadata --------------------------------------------------------------------


def test_a_sparse_output_is_coords_and_features(out: Path) -> None:
    model = export(Function(lambda x, conv: {"y": conv(x)}, conv=down(4, 8)), out)
    assert [value.name for value in model.graph.output] == ["y_coords", "y_features"]
    assert [value.name for value in model.graph.input] == ["coords", "features"]
    metadata = read_metadata(out)
    assert metadata.outputs["y_features"] == OutputMetadata(meaning="sparse", coords="y_coords")
    assert metadata.outputs["y_coords"] == OutputMetadata(meaning="sparse", coords="y_coords")


def test_the_only_output_is_called_out(out: Path) -> None:
    model = export(Function(lambda x, conv: conv(x), conv=subm(4, 8)), out)
    assert [value.name for value in model.graph.output] == ["out_coords", "out_features"]
    model = export(Layers(subm(4, 8)), out)
    assert [value.name for value in model.graph.output] == ["out"]


def test_meanings_follow_from_shapes(out: Path) -> None:
    def call(x: Any, conv: nn.Module) -> dict[str, Tensor]:
        dense = conv(x).dense()
        return {
            "grid": dense,
            "frame": dense.amax(dim=(2, 3, 4)),
            "site": x.features,
            "block": x.features.reshape(-1, 2, 2),
            "flag": (x.features[:, 0] > 0).to(torch.int64),
        }

    model = export(Function(call, conv=down(4, 8)), out)
    metadata = read_metadata(out)
    assert {name: output.meaning for name, output in metadata.outputs.items()} == {
        "grid": "dense",
        "frame": "per_frame",
        "site": "per_site",
        "block": "per_site",
        "flag": "per_site",
    }
    assert [value.name for value in model.graph.input] == ["coords", "features", "batch_size"]
    dims = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert dims["coords"] == ["N", 4]
    assert dims["block"] == ["N", 2, 2]
    assert dims["grid"] == ["B", 8, 5, 5, 6]
    assert dims["batch_size"] == []


def test_outputs_that_are_one_value_have_two_names(out: Path) -> None:
    def call(x: Any, conv: nn.Module) -> dict[str, Any]:
        y = conv(x)
        return {"a": y, "b": y}

    export(Function(call, conv=down(4, 8)), out)
    coords, features = sites(40)
    a, _, b, _ = open_session(out).run(None, {"coords": coords, "features": features})
    np.testing.assert_array_equal(a, b)


def test_metadata_says_what_it_was_given(out: Path) -> None:
    export(
        Layers(subm(4, 2)),
        out,
        feature_names=["x", "y", "z", "intensity"],
        feature_units=["m", "m", "m", "1"],
        point_range=[0, 0, 0, 1.1, 1.0, 0.9],
        voxel_size=[0.1, 0.1, 0.1],
        class_names=["a", "b"],
        class_colors=["#000000", "#ffffff"],
        allow_nonfinite=True,
        batchable=False,
    )
    metadata = read_metadata(open_session(out))
    assert metadata.input_kind == "voxels"
    assert metadata.axes == ["z", "y", "x"]
    assert metadata.spatial_shape == SHAPE
    assert metadata.voxel_size == [0.1, 0.1, 0.1]
    assert metadata.class_colors == ["#000000", "#ffffff"]
    assert metadata.allow_nonfinite
    assert not metadata.batchable
    assert metadata.precision == "fp32"


def test_nothing_of_the_exporting_machine_is_in_the_file(out: Path, repository: Path) -> None:
    export(Layers(subm(4, 8), norm(8), nn.ReLU()), out)
    content = out.read_bytes()
    for trace in (str(repository), "site-packages", os.path.expanduser("~/"), __file__):
        assert trace.encode() not in content


def test_weights_are_initializers_by_offset_then_channels(out: Path) -> None:
    network = Function(lambda x, a, b: b(a(x)), a=subm(4, 8), b=down(8, 6))
    model = export(network, out)
    shapes = {i.name: list(i.dims) for i in model.graph.initializer}
    used = [shapes[n.input[2]] for n in model.graph.node if n.op_type == "SparseConv"]
    assert used == [[27, 4, 8], [27, 8, 6]]


@pytest.mark.parametrize("rows", [0, 1, 3, 40])
@pytest.mark.parametrize("bounded", [False, True])
def test_top_k_takes_what_there_is(out: Path, rows: int, bounded: bool) -> None:
    def call(x: Any, conv: nn.Module) -> dict[str, Tensor]:
        score = conv(x).features[:, 0]
        values, index = torch.topk(score, min(10, score.shape[0]) if bounded else 10)
        return {"best": values, "row": index}

    frame = {name: OutputMetadata(meaning="detections", frame="row") for name in ("best", "row")}
    export(Function(call, conv=subm(4, 8)), out, outputs=frame, batchable=False)
    coords, features = sites(rows)
    best, index = open_session(out).run(None, {"coords": coords, "features": features})
    assert best.shape == index.shape == (min(10, rows),)
    assert np.all(np.diff(best) <= 0)


# --- points ---------------------------------------------------------------------------------------

VOXELIZER = Voxelizer(point_range=[0.0, 0.0, 0.0, 1.1, 1.0, 0.8], voxel_size=[0.1, 0.1, 0.1])


def test_points_go_in_and_rows_come_back_per_point(out: Path) -> None:
    def call(x: Any, conv: nn.Module) -> dict[str, Any]:
        y = conv(x).features
        return {"label": y.argmax(dim=1).to(torch.int32), "score": y.amax(dim=1), "y": x}

    model = export(Function(call, conv=subm(5, 3)), out, num_features=5, voxelizer=VOXELIZER)
    assert [value.name for value in model.graph.input] == ["points", "point_batch"]
    metadata = read_metadata(out)
    assert metadata.input_kind == "points"
    assert metadata.feature_names == ["x", "y", "z", "feature_3", "feature_4"]
    assert metadata.voxel_size == [0.1, 0.1, 0.1]
    assert metadata.outputs["label"].meaning == "per_point"
    points = np.array(
        [[0.05, 0.05, 0.05, 1, 2], [9, 0, 0, 1, 2], [np.nan, 0, 0, 1, 2], [0.06, 0.05, 0.05, 3, 2]],
        dtype=np.float32,
    )
    label, score, coords, features = open_session(out).run(
        None, {"points": points, "point_batch": np.zeros(4, dtype=np.int32)}
    )
    assert label.dtype == np.int32
    assert list(label[1:3]) == [-1, -1]
    assert list(score[1:3]) == [0, 0]
    assert label[0] == label[3] >= 0
    np.testing.assert_array_equal(coords, [[0, 0, 0, 0]])
    np.testing.assert_allclose(features, [[0.055, 0.05, 0.05, 2, 2]], rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"spatial_shape": [7, 10, 11]},
            r"\[8, 10, 11\] voxels, which does not fit into .*\[7, 10, 11\]",
        ),
        ({"num_features": 2}, "num_features is 2"),
        ({"spatial_shape": [10, 11]}, "spatial_shape has 2 entries, expected 3"),
        ({"voxel_size": [0.2, 0.2, 0.2]}, "voxel_size is .*, the voxelizer's is"),
    ],
)
def test_a_voxelizer_that_does_not_fit(out: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ExportError, match=said):
        export(Layers(subm(4, 4)), out, voxelizer=VOXELIZER, **changes)


# --- refusals -------------------------------------------------------------------------------------


def wrong_conv(*args: Any, **given: Any) -> Any:
    right = translation.TRANSLATIONS["sparse_conv"](*args, **given)
    return translation.standard.Mul(right, translation.standard.Constant(value_float=1.01))


def test_a_model_that_disagrees_is_not_written(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Layers(subm(4, 8))
    export(network, out)
    before = out.read_bytes()
    table = translation.translation_table()
    table[torch.ops.voxgate.sparse_conv.default] = wrong_conv
    monkeypatch.setattr(translation, "translation_table", lambda: table)
    with pytest.raises(ExportError, match=r"output 'out' disagrees.*difference [0-9.]+"):
        export(network, out)
    assert out.read_bytes() == before
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_the_given_sample_is_used(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coords, features = sites(30)
    given = {"coords": coords, "features": np.zeros_like(features)}
    table = translation.translation_table()
    table[torch.ops.voxgate.sparse_conv.default] = wrong_conv
    monkeypatch.setattr(translation, "translation_table", lambda: table)
    export(Layers(subm(4, 8)), out, sample=given)  # 1.01 times nothing is nothing
    with pytest.raises(ExportError, match=r"features has shape \(30, 3\), expected \(30, 4\)"):
        export(Layers(subm(4, 8)), out, sample={"coords": coords, "features": features[:, :3]})
    with pytest.raises(ExportError, match="sample lacks features"):
        export(Layers(subm(4, 8)), out, sample={"coords": coords})


@pytest.mark.parametrize("precision", ["int8", ""])
def test_precision(out: Path, precision: str) -> None:
    with pytest.raises(ExportError, match=f"precision is '{precision}', expected fp32, fp16, bf16"):
        export(Layers(subm(4, 8)), out, precision=precision)


@pytest.mark.parametrize(
    ("call", "given", "said"),
    [
        (lambda x: None, {}, "returned NoneType"),
        (lambda x: (x, x), {}, "returned tuple"),
        (lambda x: {}, {}, "non-empty dict"),
        (lambda x: {"a": 3}, {}, "output 'a' is int"),
        (lambda x: {1: x}, {}, "output name 1"),
        (lambda x: {"coords": x.features}, {}, "'coords' has the name of an input"),
        (lambda x: {"a": x, "a_coords": x.features}, {}, "two outputs have the same name"),
        (lambda x: x.features.double(), {}, "dtype torch.float64"),
        (lambda x: x.features > 0, {}, "dtype torch.bool"),
        (lambda x: x.features.T, {}, "neither one row per input site"),
        (lambda x: x.features, {"outputs": {"b": "dense"}}, "outputs says what b means"),
        (lambda x: x.features, {"outputs": {"out": "per_point"}}, "cannot be per_point"),
        (lambda x: x.features.T, {"outputs": {"out": "per_site"}}, "cannot be per_site"),
        (lambda x: x.features.T, {"outputs": {"out": "detections"}}, "give OutputMetadata"),
        (lambda x: x.features, {"spatial_shape": [4] * 5}, "5 axes, expected 1 to 4"),
        (lambda x: x.features, {"spatial_shape": [4, 0, 4]}, "every size must be positive"),
        (lambda x: x.features, {"feature_names": ["a"]}, "feature_names has 1 entries, expected 4"),
        (lambda x: x.features, {"class_colors": ["#000000"]}, "class_colors has 1 entries"),
        (lambda x: 1 / 0, {}, "ZeroDivisionError"),
    ],
)
def test_what_cannot_be_exported(
    out: Path, call: Callable[..., Any], given: dict[str, Any], said: str
) -> None:
    with pytest.raises(ExportError) as caught:
        export(Function(call), out, **given)
    assert said in str(caught.value)
    assert not out.exists()


def test_batch_norm_without_statistics(out: Path) -> None:
    network = Layers(subm(4, 8), nn.BatchNorm1d(8, track_running_stats=False))
    with pytest.raises(ExportError, match=r"layers\.1 .*track_running_stats"):
        export(network, out)


def test_the_network_is_not_changed(out: Path) -> None:
    network = Layers(subm(4, 8), norm(8)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    export(network, out)
    assert network.training
    assert all(module.training for module in network.modules())
    assert isinstance(network.layers[1], nn.BatchNorm1d)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_transposed_layer_that_would_fill_memory(out: Path) -> None:
    conv = spconv.SparseConvTranspose3d(4, 8, 16, stride=16, bias=False)
    network = Function(lambda x, conv: conv(x), conv=conv)
    coords, features = sites(4)
    export(network, out, sample={"coords": coords, "features": features})
    session = open_session(out)
    # 4096 output sites for each of 990 input sites, and a rulebook of 4096 rows over them: 66 GB.
    many, values = sites(990)
    with pytest.raises(Exception, match=r"SparseRulebook.*4096 x more than 262144 sites"):
        session.run(None, {"coords": many, "features": values})
    session.run(None, {"coords": coords, "features": features})  # and goes on


def test_the_example_in_the_documentation_runs(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (repository / "docs" / "exporting.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    exec(page.split("```python\n")[1].split("```")[0], {"__name__": "example"})
    assert read_metadata(tmp_path / "models/labels/1/model.onnx").class_names[1] == "car"
