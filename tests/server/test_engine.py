# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The pool of a model's instances: bits, batches, failures, runs that hang, memory."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from tests.server.batch_models import (
    COLUMNS,
    GRID,
    cumulative_sum,
    every_meaning,
    frame,
    looping,
    metadata,
    row_model,
    save,
)
from tests.server.conftest import Load
from tests.server.models import (
    exploding_model,
    overflowing_model,
    points_model,
    refusing_model,
    voxel_model,
)

from voxgate_ops.errors import ModelError
from voxgate_ops.metadata import OutputMetadata
from voxgate_server.codec import DecodedFrame
from voxgate_server.engine import Engine, EngineOptions, Execution
from voxgate_server.errors import InternalError, InvalidFrame, InvalidRequest, ModelLimitExceeded
from voxgate_server.instance import Instance
from voxgate_server.warm_up import synthetic_frame


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return every_meaning(tmp_path_factory.mktemp("engine") / "model.onnx")


@pytest.fixture(scope="module", params=["every_meaning", "sparse_unet", "voxel_backbone8x"])
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp(request.param) / "model.onnx"
    if request.param == "every_meaning":
        return every_meaning(path)
    pytest.importorskip("torch", reason="the networks are exported here")
    from voxgate_ops import models
    from voxgate_ops.export import export_onnx

    built = models.MODELS[request.param].build(num_features=COLUMNS, seed=0)
    shape = [41, *GRID[1:]]  # what the backbone's strides ask for
    export_onnx(built, path, spatial_shape=shape, num_features=COLUMNS)
    return path


def assert_same(one: Execution, other: Execution) -> None:
    assert one.outputs.keys() == other.outputs.keys()
    for name, array in one.outputs.items():
        assert array.shape == other.outputs[name].shape, name
        assert array.dtype == other.outputs[name].dtype, name
        assert array.tobytes() == other.outputs[name].tobytes(), name


BATCHES = [
    [0],
    [1],
    [0, 0, 0],
    [1, 1],
    [19, 0, 989],
    [989, 0, 0, 1],
    [0, 1, 19, 0],
    [2, 3, 989, 5, 1, 19, 989, 0],
]


@pytest.mark.parametrize("threads", [1, 3])
async def test_an_answer_is_the_same_bits_alone_and_in_any_batch(
    network: Path, load: Load, threads: int
) -> None:
    engine = load(network, threads=threads)
    assert engine.batchable
    outputs = engine.select(())
    random = np.random.default_rng(threads)
    batches = BATCHES + [list(random.integers(0, 300, 6)) for _ in range(4)]
    for counts in batches:
        frames = [frame(int(count), seed) for seed, count in enumerate(counts)]
        together = await engine.run(frames, outputs)
        assert len(together) == len(frames)
        for one, got in zip(frames, together, strict=True):
            (alone,) = await engine.run([one], outputs)
            assert_same(got, alone)
            assert (alone.batch_frames, alone.batch_sites) == (1, one.num_sites)
            assert (got.batch_frames, got.batch_sites) == (len(frames), sum(counts))
            assert got.seconds > 0


async def test_what_each_frame_gets_is_its_own(model: Path, load: Load) -> None:
    engine = load(model)
    frames = [frame(19), frame(0), frame(989)]
    parts = await engine.run(frames, engine.select(()))
    for one, part in zip(frames, parts, strict=True):
        got, features = part.outputs, one.inputs["features"]
        assert set(got) == set(engine.outputs) and "box_frame" not in got
        assert got["score"].shape == (one.num_sites, 7)
        np.testing.assert_array_equal(got["label"], got["score"].argmax(axis=1))
        np.testing.assert_array_equal(got["boxes"], features[features[:, 0] > 0.5])
        coarse = got["down_coords"]
        assert coarse.shape[1] == len(GRID) and (len(coarse) > 0) == (one.num_sites > 0)
        assert (coarse >= 0).all() and (2 * coarse < GRID).all()
        assert got["down_features"].shape == (len(coarse), 5)
        assert (got["scene"].shape, got["bev"].shape) == ((7,), (3, 16, 16))


async def test_parts_are_views_of_outputs_that_nothing_overwrites(model: Path, load: Load) -> None:
    engine = load(model)
    outputs = engine.select(())
    frames = [frame(19), frame(989)]
    first = await engine.run(frames, outputs)
    assert first[0].outputs["bev"].base is first[1].outputs["bev"].base
    assert not first[0].outputs["score"].flags.owndata
    copies = [{k: v.copy() for k, v in part.outputs.items()} for part in first]
    for seed in range(5):
        await engine.run([frame(19, 10 + seed), frame(989, 20 + seed)], outputs)
    assert engine.close()
    del engine
    gc.collect()
    for part, kept in zip(first, copies, strict=True):
        assert all(part.outputs[name].tobytes() == kept[name].tobytes() for name in kept)


async def test_an_output_that_is_an_input_is_not_the_batch_buffer(
    tmp_path: Path, load: Load
) -> None:
    value = helper.make_tensor_value_info
    path = save(
        tmp_path / "model.onnx",
        [helper.make_node("Neg", ["features"], ["negative"])],
        [
            value("features", onnx.TensorProto.FLOAT, ["N", COLUMNS]),
            value("negative", onnx.TensorProto.FLOAT, ["N", COLUMNS]),
        ],
        metadata(
            {
                "features": OutputMetadata(meaning="per_site"),
                "negative": OutputMetadata(meaning="per_site"),
            }
        ),
    )
    engine = load(path)
    frames = [frame(19), frame(30)]
    first = await engine.run(frames, engine.select(()))
    await engine.run([frame(19, 5), frame(30, 6)], engine.select(()))
    for one, part in zip(frames, first, strict=True):
        np.testing.assert_array_equal(part.outputs["features"], one.inputs["features"])


async def test_only_the_outputs_asked_for_are_given(model: Path, load: Load) -> None:
    engine = load(model)
    (part,) = await engine.run([frame(19)], engine.select(["label", "boxes"]))
    assert set(part.outputs) == {"label", "boxes"}
    assert [spec.name for spec in engine.select(["down_features"])] == [
        "down_coords",
        "down_features",
    ]
    (part,) = await engine.run([frame(19)], [engine.outputs["down_features"]])
    assert set(part.outputs) == {"down_features"}
    with pytest.raises(InvalidRequest, match=r"'nothing' is unknown.*score"):
        engine.select(["nothing"])


async def test_points(tmp_path: Path, load: Load) -> None:
    engine = load(points_model(tmp_path / "model.onnx"))
    random = np.random.default_rng(0)
    clouds = []
    for count in (0, 1, 989):
        points = random.random((count, 4), np.float32)
        inputs = {"points": points, "point_batch": np.zeros(count, np.int32)}
        clouds.append(DecodedFrame(inputs, count, None))
    together = await engine.run(clouds, engine.select(()))
    for one, got in zip(clouds, together, strict=True):
        (alone,) = await engine.run([one], engine.select(()))
        assert_same(got, alone)
        assert got.outputs["norm"].shape == (one.num_sites,)


def test_which_models_take_batches(
    tmp_path: Path, load: Load, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert load(model).batchable
    # `mean` is declared to be one row, whatever the batch.
    assert not load(voxel_model(tmp_path / "fixed" / "model.onnx")).batchable
    identity = helper.make_node("Identity", ["features"], ["out"])
    path = row_model(tmp_path / "told" / "model.onnx", identity, columns=4, batchable=False)
    assert not load(path).batchable
    # A cumulative sum over all rows: each answer depends on the frames before.
    with caplog.at_level(logging.WARNING):
        engine = load(row_model(tmp_path / "leaky" / "model.onnx", *cumulative_sum(), columns=4))
    assert not engine.batchable
    assert "not the same bits: out" in caplog.text


def test_what_an_engine_says_of_itself(model: Path, load: Load) -> None:
    engine = load(model, instances=2, max_frame_sites=1234, max_frame_bytes=5678, name="lidar")
    assert (engine.device, engine.instances, engine.default_max_batch_sites) == ("cpu", 2, 16_384)
    assert (engine.frame_spec.max_sites, engine.frame_spec.max_bytes) == (1234, 5678)
    proto = onnx.load(model)
    weights = sum(onnx.numpy_helper.to_array(t).nbytes for t in proto.graph.initializer)
    assert weights > 0
    assert 2 * weights <= engine.memory_bytes <= 2 * weights + (1 << 22)
    assert not engine.hung


@pytest.mark.parametrize("options", [{"instances": 0}, {"device": "gpu"}, {"threads": 0}])
def test_options_that_are_none(model: Path, options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Engine.load(model, EngineOptions(**options))  # type: ignore[arg-type]


def test_metadata_has_a_limit(tmp_path: Path) -> None:
    many = ["x" * 1024] * 1024
    path = row_model(
        tmp_path / "model.onnx",
        helper.make_node("Identity", ["features"], ["out"]),
        columns=4,
        class_names=many,
    )
    with pytest.raises(ModelError, match=r"metadata 'voxgate' .* 1048576"):
        Engine.load(path, EngineOptions(threads=1))


async def test_warm_up_runs_small_large_and_together(
    model: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[int]] = []
    execute = Instance.execute

    def noted(self: Instance, frames, outputs, options) -> list[Execution]:
        ran.append([one.num_sites for one in frames])
        return execute(self, frames, outputs, options)

    monkeypatch.setattr(Instance, "execute", noted)
    volume = int(np.prod(GRID))
    load(model, instances=2)
    assert ran == 2 * [[0], [1], [989], [volume], [volume, 989, 1, 0]]
    ran.clear()
    load(model, warm_up=False)
    assert ran == []


@pytest.mark.parametrize("count", [0, 1, 19, 989, 10**9])
def test_synthetic_frames_are_frames_of_the_model(model: Path, load: Load, count: int) -> None:
    engine = load(model, warm_up=False)
    made = synthetic_frame(engine.frame_spec, engine.metadata, count)
    coords = made.inputs["coords"]
    assert made.num_sites == len(coords) == min(count, int(np.prod(GRID)))
    assert coords.dtype == np.int32 and made.inputs["features"].dtype == np.float32
    assert (coords[:, 1:] >= 0).all() and (coords[:, 1:] < GRID).all()
    keys = np.ravel_multi_index(tuple(coords[:, 1:].T), GRID)
    assert (np.diff(keys) > 0).all()


def test_a_model_that_breaks_on_its_warm_up_is_not_loaded(tmp_path: Path) -> None:
    path = row_model(
        tmp_path / "model.onnx",
        helper.make_node("ReduceSum", ["features"], ["out"], keepdims=1),
        columns=4,
    )
    with pytest.raises(ModelError, match=r"warm-up with 0 sites: output 'out' \(per_site\)"):
        Engine.load(path, EngineOptions(threads=1))
    out_of_bounds = [
        helper.make_node("Constant", [], ["column"], value_int=COLUMNS),
        helper.make_node("Gather", ["features", "column"], ["out"], axis=1),
    ]
    path = row_model(tmp_path / "2" / "model.onnx", *out_of_bounds, columns=1)
    with pytest.raises(ModelError, match=r"every frame of the warm-up was refused: .*Gather"):
        Engine.load(path, EngineOptions(threads=1))
    with pytest.raises(ModelError, match="2147483647"):
        Engine.load(overflowing_model(tmp_path / "3" / "model.onnx"), EngineOptions(threads=1))


async def test_frames_that_are_refused(tmp_path: Path, load: Load) -> None:
    refusing = load(refusing_model(tmp_path / "1" / "model.onnx"))
    with pytest.raises(InvalidFrame, match="refused the frame"):
        await refusing.run([frame_of_two_columns(2)], refusing.select(()))
    exploding = load(exploding_model(tmp_path / "2" / "model.onnx", "dense"))
    with pytest.raises(ModelLimitExceeded, match="68719476736"):
        await exploding.run([frame_of_two_columns(1)], exploding.select(()))


async def test_a_failed_run_keeps_no_arrays(tmp_path: Path, load: Load) -> None:
    engine = load(refusing_model(tmp_path / "model.onnx"))
    one = frame_of_two_columns(2)
    gone = weakref.ref(one.inputs["features"])
    gc.disable()  # it would find what hangs together
    try:
        with pytest.raises(InvalidFrame) as caught:
            await engine.run([one], engine.select(()))
        assert "Gather" in str(caught.value)
        del one, caught
        await engine.run([frame_of_two_columns(19)], engine.select(()))
        assert gone() is None
    finally:
        gc.enable()


def frame_of_two_columns(count: int) -> DecodedFrame:
    made = frame(count)
    made.inputs["features"] = np.ascontiguousarray(made.inputs["features"][:, :2])
    return made


def endless() -> DecodedFrame:
    one = frame(1)
    one.inputs["features"] = np.full((1, COLUMNS), 1e17, np.float32)
    return one


async def test_a_run_that_is_abandoned_ends_and_the_next_one_runs(
    tmp_path: Path, load: Load
) -> None:
    engine = load(looping(tmp_path / "model.onnx"))
    outputs = engine.select(())
    hanging = asyncio.ensure_future(engine.run([endless()], outputs))
    waiting = asyncio.ensure_future(engine.run([frame(19)], outputs))
    done, _ = await asyncio.wait({hanging}, timeout=0.05)
    assert not done
    engine.abandon(hanging)
    with pytest.raises(InternalError, match="took too long and was stopped"):
        await hanging
    assert len(await waiting) == 1
    assert not engine.hung
    engine.abandon(hanging)  # it is in no run any more
    assert len(await engine.run([frame(19)], outputs)) == 1


async def test_a_cancelled_call_gives_its_instance_back(tmp_path: Path, load: Load) -> None:
    engine = load(looping(tmp_path / "model.onnx"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(engine.run([endless()], engine.select(())), 0.05)
    assert len(await engine.run([frame(19)], engine.select(()))) == 1


async def test_instances_run_at_once(tmp_path: Path, load: Load) -> None:
    engine = load(looping(tmp_path / "model.onnx"), instances=2)
    outputs = engine.select(())
    hanging = asyncio.ensure_future(engine.run([endless()], outputs))
    for _ in range(3):
        assert len(await engine.run([frame(19)], outputs)) == 1
    assert not hanging.done()
    engine.abandon(hanging)
    with pytest.raises(InternalError):
        await hanging


class Stuck:
    """Instances whose runs end when told, as one inside an operator does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered = threading.Semaphore(0)
        self.release = threading.Event()
        monkeypatch.setattr(Instance, "execute", self._execute)

    def _execute(self, frames, outputs, options) -> list[Execution]:
        self.entered.release()
        assert self.release.wait(60)
        return [Execution({}, 0.0, len(frames), 0) for _ in frames]


async def test_a_run_that_cannot_be_stopped_counts_as_hung_until_it_is_back(
    model: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load(model)
    stuck = Stuck(monkeypatch)
    run = asyncio.ensure_future(engine.run([frame(1)], []))
    await asyncio.to_thread(stuck.entered.acquire)
    assert not engine.hung
    engine.abandon(run)
    assert engine.hung
    stuck.release.set()
    assert len(await run) == 1
    assert not engine.hung


async def test_close_waits_for_runs_but_not_for_ever(
    model: Path, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load(model)
    stuck = Stuck(monkeypatch)
    inside, waiting = (asyncio.ensure_future(engine.run([frame(1)], [])) for _ in range(2))
    await asyncio.to_thread(stuck.entered.acquire)
    monkeypatch.setattr("voxgate_server.engine._STOP_SECONDS", 0.01)
    assert not await asyncio.to_thread(engine.close, 0.01)
    with pytest.raises(InternalError, match="unloaded"):
        await waiting
    with pytest.raises(InternalError, match="unloaded"):
        await engine.run([frame(1)], [])
    assert engine.hung
    stuck.release.set()
    assert len(await inside) == 1
    assert await asyncio.to_thread(engine.close)
    assert engine.memory_bytes == 0


async def test_close_lets_what_was_asked_for_end(model: Path, load: Load) -> None:
    engine = load(model, instances=2)
    runs = [asyncio.ensure_future(engine.run([frame(989)], engine.select(()))) for _ in range(20)]
    await asyncio.sleep(0)  # each has entered the queue
    assert await asyncio.to_thread(engine.close)
    assert all(len(part) == 1 for part in await asyncio.gather(*runs))


async def test_memory_is_flat_over_frames_of_every_size(model: Path, load: Load) -> None:
    engine = load(model)
    outputs = engine.select(())
    random = np.random.default_rng(0)
    frames = [frame(int(count), seed) for seed, count in enumerate(random.integers(0, 1500, 64))]
    await engine.run([frame(2048)] * 32, outputs)
    resident = []
    for _ in range(1500):
        picked = random.integers(0, len(frames), random.integers(1, 4))
        await engine.run([frames[index] for index in picked], outputs)
        resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
    early, late = np.median(resident[300:600]), np.median(resident[1200:])
    assert late - early <= max(0.03 * early, 16 << 20)
