# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Models exported in float16 and bfloat16: their graphs, values, checks and files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto
from tests.ops.checks.networks import SHAPE, Function, Layers, down, norm, sites, subm
from torch import Tensor, nn

import voxgate_ops.nn as spconv
from voxgate_ops import models
from voxgate_ops.errors import ExportError
from voxgate_ops.export import Voxelizer, export_onnx, exporter, verification
from voxgate_ops.export.precision import LowPrecision, lower
from voxgate_ops.export.row_sets import match_rows
from voxgate_ops.inspection import summarize
from voxgate_ops.metadata import OutputMetadata, Precision, read_metadata
from voxgate_ops.session import open_session

Array = npt.NDArray[Any]

LOW: tuple[Precision, ...] = ("fp16", "bf16")
ELEMENTS = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
low_types = pytest.mark.parametrize("precision", LOW)
# Of an output's largest magnitude, from the float32 model.
CLOSE = {"fp16": 5e-3, "bf16": 4e-2}


def save(network: nn.Module, path: Path, precision: Precision, **given: Any) -> onnx.ModelProto:
    torch.manual_seed(0)
    given = {"spatial_shape": SHAPE, "num_features": 4, **given}
    export_onnx(network, path, precision=precision, **given)
    return onnx.shape_inference.infer_shapes(onnx.load(path))


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    graph = model.graph
    infos = (*graph.value_info, *graph.input, *graph.output)
    types = {info.name: info.type.tensor_type.elem_type for info in infos}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def of_type(model: onnx.ModelProto, op_type: str) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == op_type]


def input_types(model: onnx.ModelProto, op_type: str) -> set[int]:
    types = element_types(model)
    return {types[name] for node in of_type(model, op_type) for name in node.input if name}


def float_casts(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    types = element_types(model)
    floats = (TensorProto.FLOAT, *ELEMENTS.values())
    return [node for node in of_type(model, "Cast") if types[node.input[0]] in floats]


def run(path: Path, feeds: Mapping[str, Array], threads: int = 2) -> list[Array]:
    session = open_session(path, device="cpu", threads=threads)
    names = {value.name for value in session.get_inputs()}
    found: list[Array] = session.run(None, {k: v for k, v in feeds.items() if k in names})
    return found


def voxels(count: int, seed: int = 1, frames: int = 1) -> dict[str, Array]:
    coords, features = sites(count, seed, frames)
    return {"coords": coords, "features": features, "batch_size": np.array(frames)}


def expect_close(found: list[Array], wanted: list[Array], precision: Precision) -> None:
    for a, b in zip(found, wanted, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        if b.dtype.kind == "f":
            largest = np.abs(b).max(initial=0)
            np.testing.assert_allclose(a, b, rtol=0, atol=CLOSE[precision] * largest)
            assert b.size == 0 or not np.array_equal(a, b)  # else it still computes in float32
        else:
            np.testing.assert_array_equal(a, b)


# --- whole networks -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unets(tmp_path_factory: pytest.TempPathFactory) -> dict[Precision, Path]:
    """A small U-Net of voxels, in every precision."""
    folder = tmp_path_factory.mktemp("unets")
    network = models.MODELS["sparse_unet"].build(num_features=4, seed=0)
    paths: dict[Precision, Path] = {}
    for precision in ("fp32", *LOW):
        paths[precision] = folder / f"{precision}.onnx"
        save(network, paths[precision], precision, spatial_shape=[16, 24, 32])
    return paths


@low_types
def test_a_u_net_keeps_its_inputs_and_outputs(unets: dict[Precision, Path], precision: Precision):
    low, full = (open_session(unets[name], device="cpu") for name in (precision, "fp32"))
    for side in ("get_inputs", "get_outputs"):
        public = [[(v.name, v.type, v.shape) for v in getattr(s, side)()] for s in (low, full)]
        assert public[0] == public[1]
    assert read_metadata(unets[precision]).precision == precision
    assert summarize(unets[precision]).metadata.precision == precision


@low_types
def test_a_u_net_is_half_the_file(unets: dict[Precision, Path], precision: Precision):
    sizes = {name: path.stat().st_size for name, path in unets.items()}
    assert sizes[precision] < 0.55 * sizes["fp32"]
    assert summarize(unets[precision]).parameters == summarize(unets["fp32"]).parameters


@low_types
def test_a_u_net_is_cast_at_its_borders_only(unets: dict[Precision, Path], precision: Precision):
    model = onnx.shape_inference.infer_shapes(onnx.load(unets[precision]))
    types = element_types(model)
    casts = float_casts(model)
    made_low = [node for node in casts if types[node.output[0]] == ELEMENTS[precision]]
    assert len(made_low) == 1
    # Back to float32: the logits, for the scores and the labels.
    assert len(casts) == 2
    assert input_types(model, "SparseConv") == {TensorProto.INT32, ELEMENTS[precision]}
    assert input_types(model, "Softmax") <= {TensorProto.FLOAT}


@low_types
@pytest.mark.parametrize("count", [0, 1, 19, 900])
def test_a_u_net_is_close_to_float32(
    unets: dict[Precision, Path], precision: Precision, count: int
):
    given = voxels(count, seed=count)
    found, wanted = run(unets[precision], given), run(unets["fp32"], given)
    outputs = [value.name for value in open_session(unets["fp32"], device="cpu").get_outputs()]
    for name, a, b in zip(outputs, found, wanted, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        if b.dtype.kind == "f":
            # Seeded weights: large logits, whose softmax makes much of a difference.
            assert np.count_nonzero(np.abs(a - b) > CLOSE[precision]) <= 0.1 * b.size, name
        else:
            assert np.count_nonzero(a != b) <= 0.1 * b.size, name


@low_types
def test_bits_depend_on_neither_threads_nor_batch(
    unets: dict[Precision, Path], precision: Precision
):
    batch = voxels(989, seed=3, frames=3)
    together = run(unets[precision], batch)
    for once_more in (run(unets[precision], batch, 1), run(unets[precision], batch, 3)):
        assert [a.tobytes() for a in once_more] == [a.tobytes() for a in together]
    for frame in range(3):
        chosen = batch["coords"][:, 0] == frame
        coords = batch["coords"][chosen] * np.array([0, 1, 1, 1], np.int32)
        alone = run(unets[precision], {"coords": coords, "features": batch["features"][chosen]})
        assert [a.tobytes() for a in alone] == [a[chosen].tobytes() for a in together]


@low_types
def test_points_are_voxelized_in_float32(tmp_path: Path, precision: Precision):
    # In float16 neither the range's end nor the positions near it could be told apart.
    voxelizer = Voxelizer([0.0, -40.0, -3.0, 70.4, 40.0, 1.0], [0.05, 0.05, 0.1])
    network = Layers(subm(4, 16), norm(16), nn.ReLU(), down(16, 32), subm(32, 8, bias=True))
    features = Function(lambda x, layers: {"sites": layers(x)}, network.layers)
    given = {"spatial_shape": [40, 1600, 1408], "voxelizer": voxelizer}
    model = save(features, tmp_path / "low.onnx", precision, **given)
    save(features, tmp_path / "full.onnx", "fp32", **given)
    assert input_types(model, "Voxelize") == {TensorProto.FLOAT, TensorProto.INT32}
    random = np.random.default_rng(5)
    points = random.random((3000, 4), np.float32) * [2, 2, 2, 1] + [67.9, -40, -1, 0]
    feeds = {"points": points.astype(np.float32), "point_batch": np.zeros(3000, np.int32)}
    found, wanted = (run(tmp_path / f"{name}.onnx", feeds) for name in ("low", "full"))
    np.testing.assert_array_equal(found[0], wanted[0])
    expect_close(found, wanted, precision)


# --- parts of graphs ------------------------------------------------------------------------------


class DenseHead(nn.Module):
    """Sparse layers, a dense head with everything that is delicate, scores and positions."""

    def __init__(self) -> None:
        super().__init__()
        self.sparse = spconv.SparseSequential(subm(4, 8), norm(8), nn.ReLU())
        self.head = nn.Sequential(
            nn.Conv2d(8 * SHAPE[0], 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(16, 3, 1),
        )

    def forward(self, x: spconv.SparseConvTensor) -> dict[str, Tensor]:
        heat = self.head(self.sparse(x).dense().flatten(1, 2))
        return {"heat": heat.sigmoid(), "strong": (heat.sigmoid() > 0.5).to(torch.int32)}


@low_types
def test_a_dense_head(tmp_path: Path, precision: Precision):
    torch.manual_seed(1)
    network = DenseHead().eval()
    model = save(network, tmp_path / "low.onnx", precision)
    save(network, tmp_path / "full.onnx", "fp32")
    assert not of_type(model, "BatchNormalization")
    (resize,) = of_type(model, "Resize")
    types = element_types(model)
    low, kept = ELEMENTS[precision], TensorProto.FLOAT
    dense = low if precision == "fp16" else kept
    assert input_types(model, "Conv") == {dense}
    assert types[resize.input[0]] == dense
    assert {types[name] for name in resize.input[1:3] if name} <= {kept}
    assert input_types(model, "Sigmoid") == {kept}
    given = voxels(300, frames=2)
    found, wanted = (run(tmp_path / f"{name}.onnx", given) for name in ("low", "full"))
    np.testing.assert_allclose(found[0], wanted[0], rtol=0, atol=CLOSE[precision])
    assert np.count_nonzero(found[1] != wanted[1]) <= 0.05 * wanted[1].size


@low_types
def test_positions_keep_their_digits(tmp_path: Path, precision: Precision):
    def centers(x: spconv.SparseConvTensor, layers: nn.Module) -> dict[str, Tensor]:
        offset = layers(x).features
        cell = x.indices[:, 1:].flip(1).to(torch.float32)
        return {"center": cell * 0.05 + 1000.0 + offset.tanh() * 1e-3}

    network = Function(centers, Layers(subm(4, 3)).layers)
    save(network, tmp_path / "low.onnx", precision)
    given = voxels(200)
    (center,) = run(tmp_path / "low.onnx", given)
    wanted = given["coords"][:, :0:-1] * 0.05 + 1000.0
    np.testing.assert_allclose(center, wanted, rtol=0, atol=1.2e-3)


def low_rank(x: spconv.SparseConvTensor, *layers: nn.Module) -> dict[str, Any]:
    first = layers[0](x)
    second = layers[1](first)
    wide = first.replace_feature(torch.cat([first.features, second.features], 1))
    return {"y": layers[2](wide).features}


@low_types
def test_data_that_only_move_stay_low(tmp_path: Path, precision: Precision):
    network = Function(low_rank, subm(4, 8), subm(8, 8), subm(16, 8))
    model = save(network, tmp_path / "low.onnx", precision)
    assert input_types(model, "Concat") == {ELEMENTS[precision]}
    assert len(float_casts(model)) == 2


@low_types
def test_a_linear_layer(tmp_path: Path, precision: Precision):
    network = Function(
        lambda x, conv, linear: {"y": linear(conv(x).features)}, subm(4, 8), nn.Linear(8, 5)
    )
    model = save(network, tmp_path / "low.onnx", precision)
    save(network, tmp_path / "full.onnx", "fp32")
    kinds = {node.op_type for node in model.graph.node} & {"Gemm", "MatMul"}
    wanted = ELEMENTS["fp16"] if precision == "fp16" else TensorProto.FLOAT
    assert kinds and all(input_types(model, kind) == {wanted} for kind in kinds)
    given = voxels(200)
    expect_close(run(tmp_path / "low.onnx", given), run(tmp_path / "full.onnx", given), precision)


def test_integers_are_gathered_as_integers(tmp_path: Path):
    network = Function(
        lambda x, conv: {"label": conv(x).features.argmax(1).to(torch.int32)}, subm(4, 8)
    )
    model = save(network, tmp_path / "m.onnx", "fp16")
    assert TensorProto.INT32 in input_types(model, "GatherRows")


# --- what is refused ------------------------------------------------------------------------------


def constant_conv(value: float) -> nn.Module:
    conv = subm(4, 4)
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[1, 1, 1, 1, 2] = value
    return Layers(conv)


def test_a_weight_too_large_is_named(tmp_path: Path):
    path = tmp_path / "m.onnx"
    with pytest.raises(ExportError, match=r"weight of SparseConv 'layers.0' holds 70000, .*65504"):
        save(constant_conv(7e4), path, "fp16")
    assert not list(tmp_path.iterdir())
    save(constant_conv(7e4), path, "bf16")


def test_activations_too_large_are_refused(tmp_path: Path):
    network = Function(
        lambda x, a, b: {"y": b(a(x)).features},
        constant_conv(6e4).layers,
        constant_conv(1e-4).layers,
    )
    given = {"coords": [[0, 4, 4, 4]], "features": [[9.0, 9.0, 9.0, 9.0]]}
    with pytest.raises(ExportError, match="'y' disagrees with eager torch"):
        save(network, tmp_path / "m.onnx", "fp16", sample=given)
    assert not list(tmp_path.iterdir())
    save(network, tmp_path / "m.onnx", "bf16", sample=given)


def test_a_network_that_cancels_is_refused(tmp_path: Path):
    # 1000 + features, rounded to 16 bits, less 1000 again: most digits are gone.
    def cancel(x: spconv.SparseConvTensor, a: nn.Module, b: nn.Module) -> dict[str, Any]:
        return {"y": b(a(x)).features}

    one, back = (spconv.SubMConv3d(4, 4, 1, bias=True) for _ in range(2))
    with torch.no_grad():
        for conv, shift in ((one, 1000.0), (back, -1000.0)):
            conv.weight.copy_(torch.eye(4).reshape(conv.weight.shape))
            conv.bias.fill_(shift)
    network = Function(cancel, one, back)
    with pytest.raises(ExportError, match="disagrees with eager torch.*allowed"):
        save(network, tmp_path / "m.onnx", "fp16")


def test_a_wrong_graph_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def lower_wrongly(model: ir.Model, precision: LowPrecision) -> None:
        lower(model, precision)
        conv = next(node for node in model.graph if node.op_type == "SparseConv")
        conv.attributes["activation"] = ir.AttrString("activation", "leaky_relu")
        conv.attributes["alpha"] = ir.AttrFloat32("alpha", 0.2)

    monkeypatch.setattr(exporter, "lower", lower_wrongly)
    with pytest.raises(ExportError, match="'out' disagrees with eager torch"):
        save(Layers(subm(4, 8), nn.ReLU()), tmp_path / "m.onnx", "fp16")
    assert not list(tmp_path.iterdir())


# --- rows that values choose ----------------------------------------------------------------------


def kept_cells(x: spconv.SparseConvTensor, conv: nn.Module) -> dict[str, Any]:
    dense = conv(x).dense()
    coords, features = torch.ops.voxgate.dense_to_sparse(dense, 0.5)
    return {"kept": spconv.SparseConvTensor(features, coords, SHAPE, x.batch_size)}


@low_types
def test_sites_above_a_threshold_may_be_a_few_others(tmp_path: Path, precision: Precision):
    save(Function(kept_cells, subm(4, 2)), tmp_path / "m.onnx", precision)
    coords, features = run(tmp_path / "m.onnx", voxels(500, frames=2))
    assert coords.shape == (len(features), 4)
    assert len(coords) > 10


def boxes(x: spconv.SparseConvTensor, conv: nn.Module) -> dict[str, Tensor]:
    y = conv(x)
    scores = y.features[:, 0].sigmoid()
    position = y.indices[:, 1:].flip(1).to(torch.float32)
    found = torch.cat([position, y.features[:, 1:4].exp(), y.features[:, 4:5]], 1)
    frame = y.indices[:, 0].contiguous()
    kept = torch.ops.voxgate.rotated_nms(found, scores, frame, 0.1, 0.55, 50)
    return {"boxes": found[kept], "scores": scores[kept], "frame": frame[kept]}


@low_types
def test_detections_may_be_a_few_others(tmp_path: Path, precision: Precision):
    of_frame = OutputMetadata(meaning="detections", frame="frame")
    meanings = {
        "boxes": of_frame,
        "scores": of_frame,
        "frame": of_frame.model_copy(update={"hidden": True}),
    }
    model = save(Function(boxes, subm(4, 5)), tmp_path / "m.onnx", precision, outputs=meanings)
    assert input_types(model, "RotatedNms") == {TensorProto.FLOAT, TensorProto.INT32}
    found = run(tmp_path / "m.onnx", voxels(400, frames=2))
    assert found[0].shape[0] == found[1].shape[0] == found[2].shape[0] > 0


def test_rows_match_whatever_their_order() -> None:
    keys = np.array([[0, 1], [0, 2], [1, 1]], np.int32)
    values = np.array([1.0, 2.0, np.inf], np.float32)
    order = [2, 0, 1]
    match = match_rows([keys[order], values[order] + 0.01], [keys, values], [0.0, 0.02])
    assert match.unmatched == 0
    np.testing.assert_allclose(match.gaps, [0, 0.01], atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        lambda keys, values: (keys[:-1], values[:-1]),
        lambda keys, values: (keys + np.array([[0, 9]] + [[0, 0]] * 3, np.int32), values),
        lambda keys, values: (keys, values + np.array([0, 0, 0, 0.5], np.float32)),
        lambda keys, values: (keys, np.array([np.nan, *values[1:]], np.float32)),
    ],
    ids=["lacking", "elsewhere", "other value", "nan"],
)
def test_a_row_without_counterpart_is_counted(change: Callable[..., tuple[Array, Array]]) -> None:
    keys = np.array([[0, 1], [0, 2], [1, 1], [1, 5]], np.int32)
    values = np.array([1.0, 2.0, 3.0, 4.0], np.float32)
    for found, wanted in (
        (change(keys, values), (keys, values)),
        ((keys, values), change(keys, values)),
    ):
        match = match_rows(list(found), list(wanted), [0.0, 0.1])
        assert match.unmatched == 0.25


def test_no_rows_match_no_rows() -> None:
    empty = [np.zeros((0, 4), np.int32), np.zeros((0, 3), np.float32)]
    assert match_rows(empty, empty, [0.0, 0.1]).unmatched == 0
    one = [np.zeros((1, 4), np.int32), np.zeros((1, 3), np.float32)]
    assert match_rows(empty, one, [0.0, 0.1]).unmatched == 1


def test_tolerances_rise_with_the_rounding() -> None:
    order = [verification.TOLERANCES[name] for name in ("fp32", "fp16", "bf16")]
    for a, b in zip(order, order[1:], strict=False):
        assert a.relative < b.relative <= b.most_relative
        assert a.flipped < b.flipped <= b.most_flipped
