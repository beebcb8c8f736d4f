# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Versions are swapped, and operators load, unload and reload them, with nothing lost between."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from pathlib import Path

import onnx
import pytest
from onnx.external_data_helper import set_external_data
from tests.server.model_folders import Bench, put, started
from tests.server.models import voxel_model

from voxgate_ops.errors import ModelError
from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_server.engine import Engine
from voxgate_server.errors import Draining, InvalidRequest, ModelNotFound
from voxgate_server.metrics import Metrics
from voxgate_server.repository import Model, Repository, State
from voxgate_server.settings import Settings


async def entered(bench: Bench) -> None:
    assert await asyncio.to_thread(bench.loader.entered.wait, 20)


# Swapping -----------------------------------------------------------------------------------------


async def test_the_new_one_is_ready_before_the_old_one_leaves(bench: Bench) -> None:
    put(bench.root, "unet", 1, "old")
    await started(bench)
    seen: list[tuple[str, str]] = []

    async def look(model: Model) -> None:
        seen.append((model.state.value, bench.serving("unet")))

    bench.on_ready = bench.on_retire = look
    bench.loader.hold = True
    bench.loader.entered.clear()
    reloading = asyncio.create_task(bench.repository.reload("unet"))
    await entered(bench)
    put(bench.root, "unet", 1, "new")
    assert bench.states() == [("unet", 1, "READY"), ("unet", 1, "LOADING")]
    assert bench.serving("unet") == "old"
    bench.loader.go_on.set()
    with pytest.raises(ModelError, match="being written"):
        await reloading
    assert bench.serving("unet") == "old"
    await bench.repository.reload("unet")
    await bench.poll()
    assert seen == [("READY", "new"), ("UNLOADING", "new")]


async def test_a_model_that_nobody_can_serve_has_failed(bench: Bench) -> None:
    put(bench.root, "unet", 1, "old")
    await started(bench)

    async def refuse(_: Model) -> None:
        raise RuntimeError("no room")

    bench.on_ready = refuse
    with pytest.raises(ModelError, match="RuntimeError: no room"):
        await bench.repository.reload("unet")
    assert bench.serving("unet") == "old"
    assert bench.states()[0] == ("unet", 1, "READY")
    await bench.retired()
    assert bench.loader.engines[1].closed
    assert not bench.loader.engines[0].closed


async def test_an_end_that_goes_wrong_closes_the_engine_all_the_same(bench: Bench) -> None:
    put(bench.root, "unet", 1)
    await started(bench)

    async def refuse(_: Model) -> None:
        raise RuntimeError("lost")

    bench.on_retire = refuse
    await bench.repository.unload("unet")
    assert bench.loader.engines[0].closed


# Operators ----------------------------------------------------------------------------------------


async def test_unloaded_stays_unloaded_until_loaded(bench: Bench) -> None:
    put(bench.root, "unet", 1)
    put(bench.root, "unet", 2)
    await started(bench)
    assert await bench.repository.unload("unet", "2") == [("unet", 2)]
    await bench.poll(3)
    assert bench.states() == [("unet", 1, "READY")]
    assert bench.repository.unloaded() == [("unet", 2)]
    assert bench.loader.engines[1].closed
    assert (await bench.repository.load("unet")).version == 2
    assert bench.repository.unloaded() == []
    assert await bench.repository.unload("unet") == [("unet", 1), ("unet", 2)]
    assert await bench.repository.unload("unet") == [("unet", 1), ("unet", 2)]
    with pytest.raises(ModelNotFound, match="every version is unloaded"):
        await bench.repository.reload("unet")
    assert (await bench.repository.reload("unet", "1"))[0].state is State.READY


async def test_unloaded_ends_when_the_files_change(bench: Bench) -> None:
    put(bench.root, "unet", 1, "old")
    await started(bench)
    await bench.repository.unload("unet")
    put(bench.root, "unet", 1, "new")
    await bench.poll(2)
    assert bench.serving("unet") == "new"
    await bench.repository.unload("unet")
    put(bench.root, "unet", 2, "newest")
    await bench.poll(2)
    assert bench.states() == [("unet", 2, "READY")]
    shutil.rmtree(bench.root / "unet" / "1")
    await bench.poll(2)
    assert bench.repository.unloaded() == []


async def test_loading_what_is_loaded_does_nothing_and_reloading_does(bench: Bench) -> None:
    put(bench.root, "unet", 1)
    put(bench.root, "unet", 2)
    await started(bench)
    first = bench.repository.ready("unet", "2")
    assert await bench.repository.load("unet") is first
    reloaded = await bench.repository.reload("unet")
    assert [model.version for model in reloaded] == [1, 2]
    assert reloaded[1] is bench.repository.ready("unet") is not first
    assert bench.loads("unet") == (4, 0)


async def test_loading_takes_changed_files_over_at_once(bench: Bench) -> None:
    put(bench.root, "unet", 1, "old")
    await started(bench)
    put(bench.root, "unet", 1, "new")
    await bench.repository.load("unet")
    assert bench.serving("unet") == "new"
    put(bench.root, "unet", 1, "broken")
    with pytest.raises(ModelError, match="model 'unet' version 1 failed to load: .* is broken"):
        await bench.repository.load("unet")
    assert bench.serving("unet") == "new"


async def test_what_an_operator_asks_for_must_be_there(bench: Bench) -> None:
    put(bench.root, "unet", 1)
    await started(bench)
    repository = bench.repository
    for operation in (repository.load, repository.unload, repository.reload):
        with pytest.raises(ModelNotFound):
            await operation("other")
        with pytest.raises(ModelNotFound):
            await operation("unet", "7")
        for name in ("", "..", "a/b", "/etc", "unet\0", "-", "x" * 129, "unet\n"):
            with pytest.raises(InvalidRequest, match="no name that a model can have"):
                await operation(name)
        for version in ("0", "-1", "01", "1.0", "latest", "../1", "1\n", "¹"):
            with pytest.raises(InvalidRequest, match="no whole number from 1"):
                await operation("unet", version)
    assert bench.states() == [("unet", 1, "READY")]


async def test_operations_come_one_after_the_other_and_off_the_event_loop(bench: Bench) -> None:
    for name in ("a", "b", "c"):
        put(bench.root, name, 1)
    await started(bench)
    bench.loader.hold = True
    bench.loader.entered.clear()
    names = ["a", "b", "c", "a"]
    work = [asyncio.create_task(bench.repository.reload(name)) for name in names]
    await entered(bench)  # the event loop turns while a load goes on
    bench.loader.go_on.set()
    await asyncio.gather(*work, bench.repository.unload("b"), bench.poll())
    assert bench.loader.most_running == 1
    assert len(bench.loader.threads) == 1
    assert bench.states() == [("a", 1, "READY"), ("c", 1, "READY")]


async def test_a_load_whose_caller_has_gone_is_finished(bench: Bench) -> None:
    put(bench.root, "unet", 1, "old")
    await started(bench)
    put(bench.root, "unet", 1, "new")
    bench.loader.hold = True
    bench.loader.entered.clear()
    loading = asyncio.create_task(bench.repository.load("unet"))
    await entered(bench)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    bench.loader.go_on.set()
    await bench.poll()
    assert bench.serving("unet") == "new"


async def test_closing_in_the_middle_of_a_load_keeps_no_engine(bench: Bench) -> None:
    put(bench.root, "unet", 1)
    await started(bench)
    bench.loader.hold = True
    bench.loader.entered.clear()
    loading = asyncio.create_task(bench.repository.reload("unet"))
    waiting = asyncio.create_task(bench.repository.unload("unet"))
    await entered(bench)
    closing = asyncio.create_task(bench.repository.close())
    while not bench.repository._closing.is_set():
        await asyncio.sleep(0)
    bench.loader.go_on.set()
    await closing
    assert [engine.closed for engine in bench.loader.engines] == [True, True]
    for task in (loading, waiting):
        with pytest.raises((Draining, ModelError)):
            await task
    with pytest.raises(Draining):
        await bench.repository.load("unet")
    assert bench.told[0] == ("ready", "unet", 1) and len(bench.told) <= 2


async def test_closing_does_not_wait_for_frames_for_ever(bench: Bench) -> None:
    put(bench.root, "unet", 1)
    await started(bench)
    bench.on_retire = lambda model: asyncio.Event().wait()
    unloading = asyncio.create_task(bench.repository.unload("unet"))
    while bench.states() != [("unet", 1, "UNLOADING")]:
        await asyncio.sleep(0)
    await bench.repository.close()
    await unloading
    assert bench.loader.engines[0].closed


# Real models --------------------------------------------------------------------------------------


async def test_real_models_are_loaded_swapped_and_refused(tmp_path: Path) -> None:
    root = tmp_path / "models"
    path = voxel_model(root / "unet" / "1" / "model.onnx")
    truncated = voxel_model(root / "cut" / "1" / "model.onnx")
    os.truncate(truncated, truncated.stat().st_size // 2)
    no_metadata = onnx.load(path)
    del no_metadata.metadata_props[:]
    (root / "plain" / "1").mkdir(parents=True)
    onnx.save(no_metadata, root / "plain" / "1" / "model.onnx")

    async def nothing(_: Model) -> None:
        pass

    settings = Settings(models=root, poll_interval=0.01, threads=1)
    repository = Repository(settings, Metrics(), nothing, nothing)
    await repository.start()
    try:
        first = repository.ready("unet")
        info = first.info()
        assert info.state == pb.ModelInfo.READY and info.feature_names == ["intensity", "height"]
        assert isinstance(first.engine, Engine)
        for name, told in (("cut", "not an ONNX model"), ("plain", "metadata")):
            with pytest.raises(ModelNotFound, match=told):
                repository.ready(name)
        staged = voxel_model(tmp_path / "staged.onnx", scale=3.0)
        staged.rename(path)
        await repository.poll()
        await repository.poll()
        assert repository.ready("unet") is not first
    finally:
        await repository.close()


async def test_a_real_model_with_its_weights_beside_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    root = tmp_path / "models"
    model = onnx.load(voxel_model(tmp_path / "whole.onnx"))
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == "scale")
    set_external_data(scale, "weights.bin")
    folder = root / "unet" / "1"
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    assert (folder / "weights.bin").stat().st_size == 4

    async def nothing(_: Model) -> None:
        pass

    settings = Settings(models=root, poll_interval=0.01, threads=1)
    repository = Repository(settings, Metrics(), nothing, nothing)
    await repository.start()
    try:
        first = repository.ready("unet")
        (folder / "weights.bin").rename(folder / "gone.bin")
        await repository.poll()
        await repository.poll()
        assert repository.ready("unet") is first
        assert "missing" in repository.all()[1].reason
        (folder / "gone.bin").rename(folder / "weights.bin")
        await repository.poll()
        await repository.poll()
        assert repository.ready("unet") is not first
    finally:
        await repository.close()
