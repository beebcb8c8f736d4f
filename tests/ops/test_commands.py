# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""`voxgate export` and `voxgate inspect`, run as a shell would."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from voxgate_ops import commands, models
from voxgate_ops.export import exporter
from voxgate_ops.metadata import read_metadata

SMALL_UNET = """
import torch
from voxgate_ops.models import SparseUNet
from voxgate_ops.models.blocks import seed_weights

def build(num_features, seed):
    network = SparseUNet(num_features, 3, channels=(4, 8))
    seed_weights(network, seed)
    return network

def wants(model_cfg, *, depth, num_features, width=3, **more):
    raise AssertionError

instance = build(2, 0)
number = 3
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of an importable module with networks."""
    folder = tmp_path_factory.mktemp("networks")
    (folder / "my_networks.py").write_text(SMALL_UNET)
    (folder / "spconv_network.py").write_text("import spconv.pytorch as spconv\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield "my_networks"
    sys.modules.pop("my_networks", None)


def run(*args: object) -> Result:
    app = typer.Typer()
    app.command("export")(commands.export)
    app.command("inspect")(commands.inspect)
    return CliRunner(env={"COLUMNS": "140"}).invoke(app, [str(arg) for arg in args])


def said(result: Result) -> str:
    return " ".join((result.stdout + result.stderr).split())


def test_export_by_name_with_points(tmp_path: Path) -> None:
    path = tmp_path / "models" / "unet" / "1" / "model.onnx"
    result = run(
        "export", "sparse_unet", path, "--points", "--point-range", "0,0,0,1.6,1.6,1.2",
        "--voxel-size", "0.1,0.1,0.1",
    )  # fmt: skip
    assert result.exit_code == 0, said(result)
    assert "label (per_point): largest difference" in said(result)
    metadata = read_metadata(path)
    assert metadata.input_kind == "points"
    assert metadata.spatial_shape == [12, 16, 16]
    assert metadata.feature_names == ["x", "y", "z", "intensity"]
    assert metadata.feature_units == ["m", "m", "m", "1"]
    assert list(metadata.class_names) == list(models.MODELS["sparse_unet"].class_names)


def test_export_keeps_the_extra_cell_of_the_backbones(tmp_path: Path) -> None:
    path = tmp_path / "bev.onnx"
    result = run("export", "voxel_backbone8x", path, "--point-range", "0,-0.8,-3,0.8,0.8,1")
    assert result.exit_code == 0, said(result)
    assert read_metadata(path).spatial_shape == [41, 32, 16]


def test_export_of_ones_own_network(tmp_path: Path, module: str) -> None:
    path = tmp_path / "own.onnx"
    result = run(
        "export", f"{module}:build", path, "--spatial-shape", "8,16,16",
        "--feature-names", "height, intensity", "--class-names", "a,b,c",
    )  # fmt: skip
    assert result.exit_code == 0, said(result)
    metadata = read_metadata(path)
    assert metadata.feature_names == ["height", "intensity"]
    assert metadata.class_names == ["a", "b", "c"]
    result = run(
        "export", f"{module}:instance", path, "--spatial-shape", "8,16,16", "--num-features", 2
    )
    assert result.exit_code == 0, said(result)
    assert read_metadata(path).feature_names == ["feature_0", "feature_1"]


def test_a_checkpoint_is_loaded(tmp_path: Path) -> None:
    trained = models.voxel_backbone8x(seed=5)
    state = {f"backbone_3d.{name}": value for name, value in trained.state_dict().items()}
    state["dense_head.weight"] = torch.zeros(3)
    torch.save({"model_state": state, "epoch": 80}, tmp_path / "second.pth")
    small = ("--point-range", "0,-0.8,-3,0.8,0.8,1")
    given = ("--checkpoint", tmp_path / "second.pth", "--prefix", "backbone_3d.")
    for name, options in (("a", given), ("b", ("--seed", 5)), ("c", ())):
        result = run("export", "voxel_backbone8x", tmp_path / f"{name}.onnx", *small, *options)
        assert result.exit_code == 0, said(result)
    a, b, c = (
        [(i.name, i.raw_data) for i in onnx.load(tmp_path / f"{name}.onnx").graph.initializer]
        for name in "abc"
    )
    assert a == b
    assert a != c


def test_export_finds_networks_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nets_beside_us.py").write_text("build = 7\n")
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder])
    monkeypatch.chdir(tmp_path)
    result = run("export", "nets_beside_us:build", "m.onnx", "--num-features", 4)
    assert "nets_beside_us:build is int, expected a torch module" in said(result)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["resnet50"], "no network is called 'resnet50'; there are voxel_backbone8x"),
        (["no_such_module:build"], "cannot be imported: No module named 'no_such_module'"),
        (["my_networks:gone", "--num-features", 4], "cannot be imported"),
        (["my_networks:number", "--num-features", 4], "is int, expected a torch module"),
        (["my_networks:wants", "--num-features", 4],
         "wants model_cfg, depth, and voxgate export knows only num_features, seed: name a"),
        (["spconv_network:build"], "In its place write: import voxgate_ops.nn as spconv"),
        (["my_networks:build"], "give --num-features or --feature-names"),
        (["my_networks:build", "--num-features", 2], "give --spatial-shape, or --point-range"),
        (["my_networks:build", "--num-features", 4, "--points"], "--points needs --point-range"),
        (["sparse_unet", "--voxel-size", "0.1,x"], "--voxel-size is '0.1,x', expected float"),
        (["sparse_unet", "--voxel-size", "0.1"], "give --spatial-shape, or --point-range"),
        (["my_networks:build", "--num-features", 2, "--spatial-shape", "8,16,16",
          "--voxel-size", "1,1,1"], "point_range is None and voxel_size [1.0, 1.0, 1.0]"),
        (["sparse_unet", "--checkpoint", "gone.pth"], "gone.pth cannot be read"),
        (["sparse_unet", "--point-range", "0,0,0,9,9,9", "--spatial-shape", "4,4,4", "--points"],
         "does not fit into spatial_shape [4, 4, 4]"),
        (["sparse_unet", "--spatial-shape", "41,1600,1408"],
         "make [80, 1024, 1024] voxels, which does not fit into spatial_shape [41, 1600, 1408]"),
    ],
)  # fmt: skip
def test_export_says_what_is_wrong(
    tmp_path: Path, module: str, args: list[object], message: str
) -> None:
    result = run("export", args[0], tmp_path / "m.onnx", *args[1:])
    assert result.exit_code == 1
    assert message in said(result)
    assert not (tmp_path / "m.onnx").exists()


def test_a_checkpoint_that_does_not_fit(tmp_path: Path) -> None:
    torch.save({"conv_input.0.weight": torch.zeros(1)}, tmp_path / "small.pth")
    path = tmp_path / "m.onnx"
    result = run("export", "voxel_backbone8x", path, "--checkpoint", tmp_path / "small.pth")
    assert result.exit_code == 1
    assert "does not fit the network" in said(result)
    assert "conv1.0.0.weight" in said(result)
    result = run(
        "export", "voxel_backbone8x", path, "--checkpoint", tmp_path / "small.pth", "--prefix", "b."
    )
    assert "has no key that starts with 'b.'" in said(result)


def test_a_checkpoint_behind_a_prefix_says_which(tmp_path: Path) -> None:
    state = models.voxel_backbone8x(seed=5).state_dict()
    behind = {f"module.backbone_3d.{name}": value for name, value in state.items()}
    torch.save({"model_state": behind}, tmp_path / "whole.pth")
    given = ("--checkpoint", tmp_path / "whole.pth")
    for wrong in ((), ("--prefix", "module.")):
        result = run("export", "voxel_backbone8x", tmp_path / "m.onnx", *given, *wrong)
        assert result.exit_code == 1
        assert "give --prefix module.backbone_3d." in said(result)
    behind.popitem()
    torch.save(behind, tmp_path / "whole.pth")
    result = run("export", "voxel_backbone8x", tmp_path / "m.onnx", *given)
    assert "does not fit the network" in said(result)


def test_a_checkpoint_that_is_a_whole_network(tmp_path: Path) -> None:
    torch.save(models.voxel_backbone8x(seed=5), tmp_path / "whole.pth")
    result = run(
        "export", "voxel_backbone8x", tmp_path / "m.onnx", "--checkpoint", tmp_path / "whole.pth"
    )
    assert result.exit_code == 1
    assert "it holds voxgate_ops.models" in said(result)
    assert "Write torch.save(network.state_dict(), FILE)" in said(result)
    assert "weights_only" not in said(result)


def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path / "locked")
    (tmp_path / "locked").mkdir()
    monkeypatch.setattr(exporter.tracing, "trace", None)  # would fail in another way
    for place, why in [
        (tmp_path, f"{tmp_path} is a folder: name the file to write"),
        (tmp_path / "file" / "m.onnx", f"{tmp_path / 'file'} is no folder"),
        (tmp_path / "locked" / "unet" / "1" / "m.onnx", f"{tmp_path / 'locked'} is not writable"),
    ]:
        result = run("export", "sparse_unet", place)
        assert result.exit_code == 1 and why in said(result), said(result)


def test_what_is_printed_can_be_copied(tmp_path: Path, module: str) -> None:
    path = tmp_path / ("a [long] name " + "x" * 100) / "m.onnx"
    result = run(
        "export", f"{module}:build", path, "--spatial-shape", "8,16,16", "--num-features", 2
    )
    assert result.exit_code == 0, said(result)
    assert f"look at it with: voxgate inspect '{path}'" in result.stdout.splitlines()
    assert f"wrote {path}" in result.stdout.splitlines()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, module: str) -> Path:
    path = tmp_path_factory.mktemp("exported") / "own.onnx"
    result = run(
        "export", f"{module}:build", path, "--spatial-shape", "8,16,16", "--num-features", 2,
        "--class-names", "road,[wall],car",
    )  # fmt: skip
    assert result.exit_code == 0, said(result)
    return path


def test_inspect_shows_everything(exported: Path) -> None:
    result = run("inspect", exported)
    assert result.exit_code == 0, said(result)
    text = said(result)
    for expected in (
        "z 8, y 16, x 16",
        "road, [wall], car",
        "feature_0, feature_1",
        "[N, 4]",
        "label │ int32 │ [N] │ per_site",
        "SparseConv │ voxgate",
        "voxgate 1, ai.onnx 20",
        f"{exported.stat().st_size:,} bytes",
    ):
        assert expected in text, expected


def test_inspect_as_json(exported: Path) -> None:
    result = run("inspect", exported, "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["metadata"]["spatial_shape"] == [8, 16, 16]
    assert found["inputs"][0] == {"name": "coords", "dtype": "int32", "shape": ["N", 4]}
    assert found["rulebooks"] == sum(
        operator["nodes"] for operator in found["operators"] if "Rulebook" in operator["name"]
    )
    assert found["parameters"] == sum(
        onnx.numpy_helper.to_array(i).size for i in onnx.load(exported).graph.initializer
    )


def test_inspect_of_a_model_from_elsewhere(tmp_path: Path) -> None:
    graph = onnx.parser.parse_graph("g (float[N] x) => (float[N] y) { y = Identity(x) }")
    onnx.save(onnx.helper.make_model(graph), tmp_path / "plain.onnx")
    result = run("inspect", tmp_path / "plain.onnx")
    assert result.exit_code == 0
    assert "none: not written by voxgate export" in said(result)


@pytest.mark.parametrize("content", [None, b"", b"not a model"], ids=["missing", "empty", "text"])
def test_inspect_of_what_is_no_model(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.onnx"
    if content is not None:
        path.write_bytes(content)
    result = run("inspect", path)
    assert result.exit_code == 1
    assert "broken.onnx" in said(result)
    assert "Traceback" not in said(result)


def test_help_teaches() -> None:
    for command in ("export", "inspect"):
        result = run(command, "--help")
        assert result.exit_code == 0
        assert f"voxgate {command} " in said(result)
        assert "Example" in said(result)


def test_export_without_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "voxgate_ops.export.by_name", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "voxgate_ops.export", raising=False)
    result = run("export", "sparse_unet", tmp_path / "m.onnx")
    assert result.exit_code == 1
    assert 'exporting needs torch: pip install "voxgate[export]"' in said(result)
