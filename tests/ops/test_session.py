# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Opening models: what is refused, and how it is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import voxgate_ops
from voxgate_ops.device import Device
from voxgate_ops.errors import LibraryMissingError, ModelError
from voxgate_ops.session import (
    LIBRARY_NAME,
    LIBRARY_VARIABLE,
    check_model,
    open_session,
    operators_library,
)

GRAPH = """<ir_version: 10, opset_import: ["": 20, "voxgate": 1]>
    g (int32[N, 4] coords) => (int32[K, N] neighbors) {
        neighbors = voxgate.SubmanifoldRulebook
            <kernel_size = [3, 3, 3], spatial_shape = [8, 8, 8]> (coords)
    }"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(onnx.parser.parse_model(GRAPH), path)
    return path


def test_opens_and_runs(model: Path) -> None:
    session = open_session(model, threads=1)
    coords = np.array([[0, 1, 1, 1], [0, 1, 1, 2]], dtype=np.int32)
    (neighbors,) = session.run(None, {"coords": coords})
    assert neighbors.shape == (27, 2)
    assert (neighbors >= 0).sum() == 4
    options = session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)


def test_a_library_that_is_not_there(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIBRARY_VARIABLE, str(tmp_path / "gone.so"))
    with pytest.raises(LibraryMissingError, match=r"gone\.so") as caught:
        open_session(model)
    assert LIBRARY_VARIABLE in str(caught.value)
    monkeypatch.delenv(LIBRARY_VARIABLE)
    monkeypatch.setattr(voxgate_ops, "__path__", [str(tmp_path)])
    with pytest.raises(LibraryMissingError) as caught:
        open_session(model)
    assert str(tmp_path / LIBRARY_NAME) in str(caught.value)
    assert LIBRARY_VARIABLE in str(caught.value)


def test_the_variable_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.so").touch()
    monkeypatch.setenv(LIBRARY_VARIABLE, str(tmp_path / "mine.so"))
    assert operators_library() == (tmp_path / "mine.so").resolve()


def test_a_library_that_cannot_be_loaded(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "text.so"
    library.write_text("not a library")
    monkeypatch.setenv(LIBRARY_VARIABLE, str(library))
    with pytest.raises(LibraryMissingError, match="cannot be loaded") as caught:
        open_session(model)
    assert str(library) in str(caught.value)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    "content",
    [b"", b"not a model", b"\x08\x0a\xff\xff\xff\xff", bytes(1000), "truncated"],
    ids=["empty", "text", "noise", "zeros", "truncated"],
)
def test_a_broken_file(model: Path, tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "broken.onnx"
    whole = model.read_bytes()
    path.write_bytes(content if isinstance(content, bytes) else whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"broken\.onnx"):
        open_session(path)


def test_every_truncation_is_refused(model: Path, tmp_path: Path) -> None:
    whole = model.read_bytes()
    path = tmp_path / "cut.onnx"
    for size in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelError):
            open_session(path)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a file"):
        open_session(tmp_path / "gone.onnx")
    with pytest.raises(ModelError, match="is not a file"):
        open_session(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("SubmanifoldRulebook", "DenseRulebook", "DenseRulebook"),
        ("[3, 3, 3]", "[3, 2, 3]", "2"),
    ],
    ids=["operator", "attribute"],
)
def test_what_the_runtime_refuses(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "wrong.onnx"
    onnx.save(onnx.parser.parse_model(GRAPH.replace(old, new)), path)
    with pytest.raises(ModelError, match=r"wrong\.onnx is refused by ONNX Runtime") as caught:
        open_session(path)
    assert said in str(caught.value)
    assert caught.value.__cause__ is not None


def test_a_later_version_of_the_operators(tmp_path: Path) -> None:
    path = tmp_path / "later.onnx"
    onnx.save(onnx.parser.parse_model(GRAPH.replace('"voxgate": 1', '"voxgate": 7')), path)
    with pytest.raises(ModelError, match="uses version 7 .* this Voxgate has version 1"):
        open_session(path)


def test_devices(model: Path) -> None:
    assert check_model(model, device="cpu").device == Device()
    assert open_session(model, device="cpu").get_providers() == ["CPUExecutionProvider"]


@pytest.mark.parametrize("device", ["", "gpu", "cuda:", "cuda:x", "CPU", "cpu:0"])
def test_device_names(model: Path, device: str) -> None:
    with pytest.raises(ValueError, match="expected auto, cpu, cuda or cuda:N") as caught:
        open_session(model, device=device)
    assert repr(device) in str(caught.value)


def test_threads_are_checked(model: Path) -> None:
    with pytest.raises(ValueError, match="threads is 0"):
        open_session(model, threads=0)


def with_external_data(folder: Path, location: str) -> Path:
    weight = onnx.numpy_helper.from_array(np.arange(4, dtype=np.float32), "w")
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [value("x", 1, [4])],
        [value("y", 1, [4])],
        [weight],
    )
    onnx.external_data_helper.set_external_data(weight, location)
    weight.ClearField("raw_data")
    del graph.initializer[:]
    graph.initializer.append(weight)
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10
    )
    folder.mkdir(parents=True)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_external_data_beside_the_model(tmp_path: Path) -> None:
    path = with_external_data(tmp_path / "1", "weights.bin")
    (tmp_path / "1" / "weights.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    (y,) = open_session(path).run(None, {"x": np.ones(4, dtype=np.float32)})
    np.testing.assert_array_equal(y, [1, 2, 3, 4])


@pytest.mark.parametrize("how", ["relative", "absolute", "link"])
def test_external_data_outside_the_folder(tmp_path: Path, how: str) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.arange(4, dtype=np.float32).tobytes())
    location = {"relative": "../secret.bin", "absolute": str(secret), "link": "link.bin"}[how]
    path = with_external_data(tmp_path / "1", location)
    if how == "link":
        (tmp_path / "1" / "link.bin").symlink_to(secret)
    with pytest.raises(ModelError, match="outside the model's folder") as caught:
        open_session(path)
    assert "'w'" in str(caught.value)


def test_external_data_of_a_sparse_constant(tmp_path: Path) -> None:
    values = onnx.TensorProto(data_type=1, dims=[4], name="hidden", data_location="EXTERNAL")
    values.external_data.add(key="location", value="../secret.bin")
    indices = onnx.helper.make_tensor("indices", onnx.TensorProto.INT64, [4], range(4))
    node = onnx.NodeProto(op_type="Constant", output=["y"])
    node.attribute.add(
        name="sparse_value",
        type=onnx.AttributeProto.SPARSE_TENSOR,
        sparse_tensor=onnx.SparseTensorProto(values=values, indices=indices, dims=[4]),
    )
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph([node], "g", [], [value("y", 1, [4])])
    path = tmp_path / "1" / "model.onnx"
    path.parent.mkdir()
    path.write_bytes(onnx.helper.make_model(graph, ir_version=10).SerializeToString())
    with pytest.raises(ModelError, match="outside the model's folder") as caught:
        open_session(path)
    assert "'hidden'" in str(caught.value)


def test_external_data_that_is_missing(tmp_path: Path) -> None:
    path = with_external_data(tmp_path / "1", "weights.bin")
    with pytest.raises(ModelError, match=r"weights\.bin.*missing"):
        open_session(path)


def test_configuration_entries_reach_the_session(model: Path) -> None:
    session = open_session(model, config={"voxgate.model": "lidar"})
    options = session.get_session_options()
    assert options.get_session_config_entry("voxgate.model") == "lidar"
    assert not options.enable_mem_pattern


def test_weights_are_counted_inside_and_beside_the_file(tmp_path: Path) -> None:
    weight = onnx.numpy_helper.from_array(np.ones((30, 40), np.float32), "w")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 30])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 40])],
        [weight],
    )
    opsets = [onnx.helper.make_opsetid("", 18)]
    proto = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    inside, beside = tmp_path / "inside.onnx", tmp_path / "beside.onnx"
    onnx.save(proto, inside)
    onnx.save(proto, beside, save_as_external_data=True, location="w.bin", size_threshold=0)
    for path in (inside, beside):
        checked = check_model(path)
        assert checked.weight_bytes == 30 * 40 * 4
        first, second = (checked.open(threads=1) for _ in range(2))
        x = np.ones((2, 30), np.float32)
        assert first.run(None, {"x": x})[0].tobytes() == second.run(None, {"x": x})[0].tobytes()
