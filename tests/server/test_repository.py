# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Models come, change and go while the server runs, and none serves that is not whole."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.server.model_folders import Bench, MakeBench, onnx_bytes, put, started

from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_server.errors import ModelNotFound, StartupError
from voxgate_server.repository import Model

# At the start -------------------------------------------------------------------------------------


async def test_versions_are_numbers_and_the_newest_ready_one_answers(bench: Bench) -> None:
    for version in (1, 9, 10):
        put(bench.root, "unet", version, f"v{version}")
    put(bench.root, "unet", 11, "broken")
    await started(bench)
    assert [bench.serving("unet", v) for v in ("", "1", "9", "10")] == ["v10", "v1", "v9", "v10"]
    assert bench.told == [("ready", "unet", 1), ("ready", "unet", 9), ("ready", "unet", 10)]
    assert bench.states()[-1] == ("unet", 11, "FAILED")
    assert bench.loads("unet") == (3, 1)
    assert bench.repository.get("unet").version == 10
    assert bench.repository.get("unet", "11").info().state == pb.ModelInfo.FAILED
    assert "is broken" in bench.repository.get("unet", "11").info().state_reason


async def test_what_is_not_there_is_named(bench: Bench) -> None:
    put(bench.root, "unet", 2)
    put(bench.root, "other", 1, "crashing")
    await started(bench)
    for name, version, told in [
        ("nope", "", "'nope' is unknown, this server has other, unet"),
        ("unet", "3", "version '3' is unknown, it has 2"),
        ("unet", "02", "'02' is unknown"),
        ("unet", "latest", "'latest' is unknown"),
        ("unet", "9" * 500, "9…"),
        ("other", "", "failed to load: RuntimeError: it crashed"),
    ]:
        with pytest.raises(ModelNotFound, match=told):
            bench.repository.ready(name, version)
    with pytest.raises(ModelNotFound, match="has unet$"):
        bench.repository.ready("nope", "", may_know=lambda name: name == "unet")


@pytest.mark.parametrize("settings", [{"poll_interval": 0.01}, {"admin_port": 0}])
async def test_an_empty_folder_waits_for_its_first_model(
    make_bench: MakeBench, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    bench = await started(make_bench(**({"poll_interval": 0} | settings)))
    assert "has no models" in caplog.text and "waiting" in caplog.text
    put(bench.root, "unet", 1)
    if "admin_port" in settings:
        await bench.repository.load("unet")
    else:
        await bench.poll(2)
    assert bench.serving("unet") == "a"


async def test_an_empty_folder_that_nothing_could_fill_is_no_start(make_bench: MakeBench) -> None:
    bench = make_bench(poll_interval=0)
    with pytest.raises(StartupError, match="has no models: expected .*/NAME/VERSION/model.onnx"):
        await bench.repository.start()


async def test_a_folder_that_is_none_is_no_start(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "gone")
    with pytest.raises(StartupError, match="gone is not a folder"):
        await bench.repository.start()
    await bench.repository.close()


def forbid(monkeypatch: pytest.MonkeyPatch, call: str, place: Path) -> None:
    """Let `os.call` fail at `place` and below as it does for who has no right (root has them)."""
    real = getattr(os, call)

    def refusing(path: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(path, (str, Path)) and Path(path).is_relative_to(place):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, call, refusing)


async def test_a_folder_that_may_not_be_read_is_no_start(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bench.root, "unet", 1)
    forbid(monkeypatch, "scandir", bench.root)
    with pytest.raises(StartupError, match="models cannot be read: Permission denied"):
        await bench.repository.start()


async def test_a_version_that_may_not_be_read_is_listed_with_the_reason(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put(bench.root, "unet", 1)
    put(bench.root, "unet", 2)
    (bench.root / "unet" / "file").write_text("no folder")
    with monkeypatch.context() as patch:
        forbid(patch, "lstat", bench.root / "unet" / "2" / "model.onnx")
        await started(bench)
    assert bench.states() == [("unet", 1, "READY"), ("unet", 2, "FAILED")]
    assert (
        "unet/2 cannot be looked at: Permission denied" in bench.repository.get("unet", "2").reason
    )
    await bench.poll(2)
    assert bench.states() == [("unet", 1, "READY"), ("unet", 2, "READY")]
    assert "has no models" not in caplog.text


async def test_a_model_that_may_not_be_read_is_not_called_absent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put(bench.root, "unet", 1)
    forbid(monkeypatch, "scandir", bench.root / "unet")
    await started(bench)
    assert "no model can be read: unet; waiting" in caplog.text
    assert "has no models" not in caplog.text


async def test_odd_names_are_logged_once_and_skipped(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    put(bench.root, "unet", 1)
    for name, version in [
        ("-x", 1),
        ("ünet", 1),
        ("a b", 1),
        ("n" * 129, 1),
        ("unet", "01"),
        ("unet", "latest"),
        ("unet", "1.5"),
        ("unet", "9" * 19),
        (".staging", 1),
        ("unet", ".tmp"),
    ]:
        put(bench.root, name, version)
    (bench.root / "README.md").write_text("not a model")
    (bench.root / "unet" / "0").mkdir()  # without a model in it
    await started(bench)
    await bench.poll(3)
    assert bench.states() == [("unet", 1, "READY")]
    skipped = [r.getMessage() for r in caplog.records if "is skipped" in r.getMessage()]
    assert len(skipped) == 8
    assert sum("whole number from 1" in message for message in skipped) == 4


async def test_a_version_that_is_being_written_at_the_start_waits(bench: Bench) -> None:
    """The loader sees it grow between its two looks."""
    folder = put(bench.root, "unet", 1)
    bench.loader.meanwhile = lambda: (folder / "model.onnx").write_bytes(onnx_bytes("whole"))
    await started(bench)
    assert bench.states() == []
    assert bench.loads("unet") == (0, 0)
    bench.loader.meanwhile = None
    await bench.poll(1)
    assert bench.serving("unet") == "whole"
    assert [engine.closed for engine in bench.loader.engines] == [True, False]


async def test_without_polling_a_version_being_written_is_said_to_have_failed(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(poll_interval=0)
    folder = put(bench.root, "unet", 1)
    bench.loader.meanwhile = lambda: (folder / "model.onnx").write_bytes(onnx_bytes("whole"))
    await started(bench)
    assert bench.states() == [("unet", 1, "FAILED")]
    assert "being written" in bench.repository.get("unet").reason


# config.yaml --------------------------------------------------------------------------------------


async def test_configs_reach_the_engine_and_the_model(make_bench: MakeBench) -> None:
    bench = make_bench(threads=8, max_batch_frames=3)
    folder = put(bench.root, "unet", 1)
    put(bench.root, "unet", 2)
    (bench.root / "unet" / "config.yaml").write_text("threads: 2\nmax_batch_sites: 77")
    (folder / "config.yaml").write_text("threads: 3\nwarm_up: false")
    await started(bench)
    options = [engine.options for engine in bench.loader.engines]
    assert [o.threads for o in options] == [3, 2]
    assert [o.warm_up for o in options] == [False, True]
    assert {o.name for o in options} == {"unet"}
    config = bench.repository.get("unet", "1").config
    assert (config.max_batch_sites, config.max_batch_frames) == (77, 3)


async def test_a_wrong_config_is_the_reason_and_a_new_one_is_taken(bench: Bench) -> None:
    folder = put(bench.root, "unet", 1)
    await started(bench)
    (folder / "config.yaml").write_text("thread: 1")
    await bench.poll(2)
    assert bench.states() == [("unet", 1, "READY"), ("unet", 1, "FAILED")]
    reason = bench.repository.all()[1].reason
    assert "unet/1/config.yaml, line 1: key 'thread' is unknown" in reason
    (folder / "config.yaml").write_text("threads: 1")
    await bench.poll(2)
    await bench.retired()
    assert bench.states() == [("unet", 1, "READY")]
    assert bench.repository.ready("unet").config.threads == 1


# Polling ------------------------------------------------------------------------------------------


async def test_a_new_version_is_taken_when_two_looks_find_the_same(bench: Bench) -> None:
    put(bench.root, "unet", 1, "old")
    await started(bench)
    put(bench.root, "unet", 2, "new")
    await bench.poll()
    assert bench.serving("unet") == "old"
    await bench.poll()
    assert bench.serving("unet") == "new"
    assert bench.serving("unet", "1") == "old"
    await bench.poll(3)
    assert bench.loads("unet") == (2, 0)


async def test_a_file_that_grows_is_never_opened(bench: Bench) -> None:
    put(bench.root, "unet", 1, "old")
    await started(bench)
    whole = onnx_bytes("new" * 100)
    folder = put(bench.root, "unet", 2)
    for end in range(0, len(whole), 40):
        (folder / "model.onnx").write_bytes(whole[:end])
        await bench.poll()
    assert bench.loads("unet") == (1, 0)
    (folder / "model.onnx").write_bytes(whole)
    await bench.poll(2)
    assert bench.serving("unet") == "new" * 100
    assert bench.loads("unet") == (2, 0)


async def test_a_broken_file_leaves_the_old_one_serving(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    put(bench.root, "unet", 1, "old")
    await started(bench)
    put(bench.root, "unet", 1, "broken")
    await bench.poll(5)
    assert bench.serving("unet", "1") == "old"
    assert bench.states() == [("unet", 1, "READY"), ("unet", 1, "FAILED")]
    assert bench.loads("unet") == (1, 1)
    assert "model.onnx is broken; the one loaded before goes on" in caplog.text
    put(bench.root, "unet", 1, "new")
    await bench.poll(2)
    await bench.retired()
    assert bench.serving("unet") == "new"
    assert bench.states() == [("unet", 1, "READY")]


async def test_a_half_written_file_that_rests_fails_and_its_rest_is_taken(bench: Bench) -> None:
    put(bench.root, "unet", 1, "old")
    await started(bench)
    whole = onnx_bytes("new" * 100)
    (bench.root / "unet" / "1" / "model.onnx").write_bytes(whole[:150])
    await bench.poll(3)
    assert bench.serving("unet") == "old"
    assert "is not an ONNX model" in bench.repository.all()[1].reason
    (bench.root / "unet" / "1" / "model.onnx").write_bytes(whole)
    await bench.poll(2)
    assert bench.serving("unet") == "new" * 100


async def test_files_that_change_while_they_are_loaded_are_loaded_again(bench: Bench) -> None:
    put(bench.root, "unet", 1, "old")
    await started(bench)
    folder = put(bench.root, "unet", 1, "half")
    bench.loader.meanwhile = lambda: (folder / "model.onnx").write_bytes(onnx_bytes("whole"))
    await bench.poll(2)
    assert bench.serving("unet") == "old"
    bench.loader.meanwhile = None
    await bench.poll(1)
    assert bench.serving("unet") == "whole"
    assert ("retire", "unet", 1) in bench.told


async def test_data_beside_the_model_is_watched_too(bench: Bench) -> None:
    put(bench.root, "unet", 1, "old")
    await started(bench)
    folder = put(bench.root, "unet", 2, "new", external="data/weights.bin")
    await bench.poll(3)
    assert bench.loads("unet") == (2, 0)  # the stand-in engine does not miss its data
    (folder / "data").mkdir()
    (folder / "data" / "weights.bin").write_bytes(b"half")
    await bench.poll()
    (folder / "data" / "weights.bin").write_bytes(b"nearly")
    await bench.poll()
    assert bench.loads("unet") == (2, 0)
    await bench.poll(3)
    assert bench.loads("unet") == (3, 0)
    (folder / "notes.txt").write_text("none of its files")
    await bench.poll(3)
    assert bench.loads("unet") == (3, 0)


async def test_a_removed_version_answers_its_frames_and_is_gone(bench: Bench) -> None:
    put(bench.root, "unet", 1, "old")
    put(bench.root, "unet", 2, "new")
    await started(bench)
    frames_done = asyncio.Event()
    bench.on_retire = lambda model: frames_done.wait()
    leaving = bench.repository.ready("unet", "2")
    shutil.rmtree(bench.root / "unet" / "2")
    await bench.poll()
    assert bench.serving("unet") == "new"
    await bench.poll()
    assert bench.serving("unet") == "old"
    assert bench.states() == [("unet", 1, "READY"), ("unet", 2, "UNLOADING")]
    with pytest.raises(ModelNotFound, match="is being unloaded"):
        bench.repository.ready("unet", "2")
    engine: Any = leaving.engine
    assert not engine.closed
    frames_done.set()
    await bench.retired()
    assert engine.closed
    with pytest.raises(ModelNotFound, match="version '2' is unknown, it has 1"):
        bench.repository.ready("unet", "2")


async def test_a_file_that_is_replaced_by_way_of_nothing_is_not_removed(bench: Bench) -> None:
    put(bench.root, "unet", 1, "old")
    await started(bench)
    (bench.root / "unet" / "1" / "model.onnx").unlink()
    await bench.poll()
    put(bench.root, "unet", 1, "new")
    await bench.poll()
    assert bench.serving("unet") == "old"
    await bench.poll()
    assert bench.serving("unet") == "new"


async def test_a_folder_that_cannot_be_read_retires_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    put(bench.root, "unet", 1)
    await started(bench)
    away = bench.root.with_name("away")
    bench.root.rename(away)
    await bench.poll(4)
    assert bench.states() == [("unet", 1, "READY")]
    assert caplog.text.count("cannot be read, its models stay") == 1
    away.rename(bench.root)
    (bench.root / "unet").rename(bench.root / ".unet")
    (bench.root / "unet").symlink_to("/")
    await bench.poll(4)
    assert bench.states() == [("unet", 1, "READY")]
    assert bench.loads("unet") == (1, 0)


async def test_watching_polls_until_closed(bench: Bench) -> None:
    await started(bench)
    ready = asyncio.Event()

    async def on_ready(_: Model) -> None:
        ready.set()

    bench.on_ready = on_ready
    watching = asyncio.create_task(bench.repository.watch())
    put(bench.root, "unet", 1)
    await asyncio.wait_for(ready.wait(), 20)
    await bench.repository.close()
    await asyncio.wait_for(watching, 20)


async def test_without_an_interval_there_is_nothing_to_watch(make_bench: MakeBench) -> None:
    await asyncio.wait_for(make_bench(poll_interval=0).repository.watch(), 20)
