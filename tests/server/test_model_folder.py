# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""When a version is complete, and that nothing outside the folder of models is ever opened."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.model_folders import Bench, onnx_bytes, put

from voxgate_ops.errors import ModelError
from voxgate_ops.metadata import MAX_METADATA_BYTES
from voxgate_server import model_folder
from voxgate_server.model_folder import (
    Found,
    Look,
    Mark,
    ModelFolder,
    at_rest,
    complete,
)

KEY = ("unet", 1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the root with a good model in it, and a secret."""
    put(tmp_path, "outside", 1, "secret")
    (tmp_path / "outside" / "secret.yaml").write_text("threads: 1")
    (tmp_path / "outside" / "secret.bin").write_bytes(b"secret")
    return tmp_path / "outside"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The path of every file that is opened through os.open, whatever it was asked as."""
    paths: list[str] = []
    real = os.open

    def spy(*args: Any, **kwargs: Any) -> int:
        descriptor = real(*args, **kwargs)
        paths.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        return descriptor

    monkeypatch.setattr(os, "open", spy)
    yield paths


# Complete -----------------------------------------------------------------------------------------

SECOND = 1_000_000_000
LAST = 100 * SECOND


def found(changed_s: float, appeared_s: float = 0.0, *, size: int = 1, problem: str = "") -> Found:
    changed = int(changed_s * SECOND)
    mark = Mark("/models/unet/1/model.onnx", (1, 2), size, changed, changed, changed)
    marks: dict[str, Mark | None] = {} if problem else {"unet/1/model.onnx": mark}
    return Found("unet", 1, Path("/models/unet/1"), marks, int(appeared_s * SECOND), problem)


def last(*versions: Found, **hidden: Any) -> Look:
    return Look(LAST, {item.key: item for item in versions}, **hidden)


def test_two_looks_that_find_the_same() -> None:
    assert complete(found(99.99), last(found(99.99)))
    assert not complete(found(99.99, size=2), last(found(99.99)))
    assert not complete(found(100.5), last(found(99.99)))
    assert not complete(found(99.99), last())
    assert complete(found(0, problem="a link"), last(found(0, problem="a link")))
    assert not complete(found(0, problem="a link"), last(found(0)))


def test_renamed_in() -> None:
    """The directory came after the last look, what is in it was last changed before."""
    assert complete(found(50, appeared_s=100.5), last())
    # Being copied in: its file changed after the last look, or too close to it to tell.
    assert not complete(found(100.6, appeared_s=100.5), last())
    assert not complete(found(99.99, appeared_s=100.5), last())
    # A clock that is not ours: nothing that came after the last look can be older than it.
    assert not complete(found(50, appeared_s=99), last())
    # It was there before, or nobody could see whether it was.
    assert not complete(found(50, appeared_s=100.5), last(found(40)))
    assert not complete(found(50, appeared_s=100.5), last(root_problem="away"))
    assert not complete(found(50, appeared_s=100.5), last(unreadable=frozenset({"unet"})))
    assert not complete(found(0, appeared_s=100.5, problem="a link"), last())


@pytest.mark.parametrize("times", ["mtime", "ctime", "link"])
def test_every_time_of_change_counts(times: str) -> None:
    stamps = [50 * SECOND if name != times else 101 * SECOND for name in ("mtime", "ctime", "link")]
    mark = Mark("/m", (1, 2), 1, *stamps)
    item = Found("unet", 1, Path("/m"), {"unet/1/model.onnx": mark}, int(100.5 * SECOND))
    assert not complete(item, last())
    assert not at_rest(item, 102 * SECOND, 1.0)


def test_at_rest() -> None:
    now = 100 * SECOND
    assert at_rest(found(97.9), now, 1.0)
    assert not at_rest(found(98.1), now, 1.0)  # clocks of two machines may differ
    assert not at_rest(found(95), now, 10.0)
    assert not at_rest(found(105), now, 1.0)


def advance(until_ns: int) -> None:
    while time.time_ns() <= until_ns:
        pass


def newest(folder: Path) -> int:
    return max(path.stat().st_ctime_ns for path in folder.rglob("*"))


async def test_a_directory_that_is_renamed_in_is_taken_at_the_first_look(root: Path) -> None:
    put(root, "unet", 1, "old")
    staged = put(root.parent, "staged", 2, "new", external="weights.bin")
    (staged / "weights.bin").write_bytes(b"weights")
    bench = Bench(root)
    await bench.repository.start()
    try:
        advance(newest(staged) + 60_000_000)
        await bench.poll()
        staged.rename(root / "unet" / "2")
        await bench.poll()
        assert bench.serving("unet") == "new"
    finally:
        await bench.repository.close()


async def test_a_directory_that_is_copied_in_is_not(root: Path) -> None:
    """Times of modification that were set back do not help."""
    put(root, "unet", 1, "old")
    bench = Bench(root)
    await bench.repository.start()
    try:
        await bench.poll()
        folder = put(root, "unet", 2, "half")
        os.utime(folder / "model.onnx", (1, 1))
        os.utime(folder, (1, 1))
        await bench.poll()
        assert bench.serving("unet") == "old"
        await bench.poll()
        assert bench.serving("unet") == "half"
    finally:
        await bench.repository.close()


# Links --------------------------------------------------------------------------------------------


def link_name(root: Path, outside: Path) -> None:
    (root / "unet").symlink_to(outside)


def link_version(root: Path, outside: Path) -> None:
    (root / "unet").mkdir()
    (root / "unet" / "1").symlink_to(outside / "1")


def link_model(root: Path, outside: Path) -> None:
    (root / "unet" / "1").mkdir(parents=True)
    (root / "unet" / "1" / "model.onnx").symlink_to(outside / "1" / "model.onnx")


def link_model_relatively(root: Path, outside: Path) -> None:
    (root / "unet" / "1").mkdir(parents=True)
    (root / "unet" / "1" / "model.onnx").symlink_to("../../../outside/1/model.onnx")


def link_twice(root: Path, outside: Path) -> None:
    (root / ".hop").symlink_to(outside / "1" / "model.onnx")
    (root / "unet" / "1").mkdir(parents=True)
    (root / "unet" / "1" / "model.onnx").symlink_to("../../.hop")


def link_config(root: Path, outside: Path) -> None:
    (put(root, "unet", 1) / "config.yaml").symlink_to(outside / "secret.yaml")


def link_config_of_all(root: Path, outside: Path) -> None:
    put(root, "unet", 1)
    (root / "unet" / "config.yaml").symlink_to(outside / "secret.yaml")


def link_data(root: Path, outside: Path) -> None:
    folder = put(root, "unet", 1, external="weights.bin")
    (folder / "weights.bin").symlink_to(outside / "secret.bin")


def link_folder_of_data(root: Path, outside: Path) -> None:
    (put(root, "unet", 1, external="data/secret.bin") / "data").symlink_to(outside)


def data_by_dots(root: Path, outside: Path) -> None:
    put(root, "unet", 1, external="../../../outside/secret.bin")


def data_by_full_path(root: Path, outside: Path) -> None:
    put(root, "unet", 1, external=str(outside / "secret.bin"))


def link_to_nothing_outside(root: Path, outside: Path) -> None:
    (put(root, "unet", 1) / "config.yaml").symlink_to(outside / "nothing.yaml")


ESCAPES: list[Callable[[Path, Path], None]] = [
    link_version,
    link_model,
    link_model_relatively,
    link_twice,
    link_config,
    link_config_of_all,
    link_data,
    link_folder_of_data,
    data_by_dots,
    data_by_full_path,
    link_to_nothing_outside,
]


@pytest.mark.parametrize("escape", ESCAPES, ids=lambda escape: escape.__name__)
async def test_no_way_leads_out(
    root: Path, outside: Path, escape: Callable[[Path, Path], None], opened: list[str]
) -> None:
    escape(root, outside)
    bench = Bench(root)
    await bench.repository.start()
    try:
        await bench.poll(4)
        assert bench.states() == [("unet", 1, "FAILED")]
        reason = bench.repository.all()[0].reason
        assert "unet/" in reason
        assert "leads out of the folder" in reason or "no relative path" in reason
        assert bench.loader.engines == []
        assert bench.loads("unet") == (0, 1)
        assert [path for path in opened if not Path(path).is_relative_to(root)] == []
    finally:
        await bench.repository.close()


async def test_a_name_that_leads_out_is_not_even_listed(
    root: Path, outside: Path, opened: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    link_name(root, outside)
    bench = Bench(root)
    await bench.repository.start()
    try:
        await bench.poll(3)
        assert bench.states() == []
        assert caplog.text.count("unet leads out of the folder of models") == 1
        with pytest.raises(ModelError, match="cannot be read"):
            await bench.repository.load("unet")
        assert [path for path in opened if not Path(path).is_relative_to(root)] == []
    finally:
        await bench.repository.close()


async def test_links_that_stay_inside_are_followed(root: Path) -> None:
    store = put(root, ".store", "abc", "stored", external="weights.bin")
    (store / "weights.bin").write_bytes(b"weights")
    (store / "settings").write_text("threads: 5")
    (root / "unet").mkdir()
    (root / "unet" / "1").symlink_to("../.store/abc")
    (root / "unet" / "2").mkdir()
    (root / "unet" / "2" / "model.onnx").symlink_to(store / "model.onnx")
    (root / "unet" / "2" / "weights.bin").symlink_to(store / "weights.bin")
    (root / "unet" / "config.yaml").symlink_to(store / "settings")
    (root / "alias").symlink_to("unet")
    link = root.with_name("link")
    link.symlink_to(root)
    bench = Bench(link)
    await bench.repository.start()
    try:
        ready = [(name, version, "READY") for name in ("alias", "unet") for version in (1, 2)]
        assert bench.states() == ready
        assert {engine.options.threads for engine in bench.loader.engines} == {5}
        assert bench.loader.engines[-2].path == store / "model.onnx"
        (root / "unet" / "1").unlink()
        put(root, ".store", "def", "turned")
        (root / "unet" / "1").symlink_to("../.store/def")
        await bench.poll(2)
        assert bench.serving("unet", "1") == "turned"
    finally:
        await bench.repository.close()


def race(monkeypatch: pytest.MonkeyPatch, path: Path, swap: Callable[[], None]) -> None:
    """Call `swap` right after `path` was found to lie inside, before it is opened."""
    real = model_folder._open_inside

    def late(root: Path, target: Path) -> int:
        if target == path:
            swap()
        return real(root, target)

    monkeypatch.setattr(model_folder, "_open_inside", late)


@pytest.mark.parametrize("component", ["model.onnx", "1", "unet"])
def test_a_link_that_is_turned_after_the_check_is_not_followed(
    root: Path,
    outside: Path,
    component: str,
    monkeypatch: pytest.MonkeyPatch,
    opened: list[str],
) -> None:
    path = put(root, "unet", 1) / "model.onnx"
    (outside / "unet").symlink_to(outside)  # so that every way out ends at a good model

    def swap() -> None:
        victim = {"model.onnx": path, "1": path.parent, "unet": path.parent.parent}[component]
        target = {"model.onnx": outside / "1" / "model.onnx", "1": outside / "1", "unet": outside}
        victim.rename(root / ".away")
        victim.symlink_to(target[component])

    folder = ModelFolder(root)
    version = folder.look().versions[KEY]
    race(monkeypatch, path, swap)
    with pytest.raises(ModelError, match="unet/1/model.onnx cannot be read"):
        folder.inspect(version)
    assert [path for path in opened if not Path(path).is_relative_to(root)] == []


async def test_links_in_a_circle_and_links_to_nothing(root: Path) -> None:
    (root / "a" / "1").mkdir(parents=True)
    (root / "a" / "1" / "model.onnx").symlink_to("model.onnx")
    (root / "b" / "1").mkdir(parents=True)
    (root / "b" / "1" / "model.onnx").symlink_to("nothing.onnx")
    (root / "c").symlink_to("c")
    (root / "d").symlink_to("nothing")
    bench = Bench(root)
    await bench.repository.start()
    try:
        assert [state[0] for state in bench.states()] == ["a", "b"]
        assert "symbolic links" in bench.repository.get("a").reason
        assert "b/1/model.onnx" in bench.repository.get("b").reason
    finally:
        await bench.repository.close()


# Files that are none ------------------------------------------------------------------------------


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [make_pipe, make_folder])
@pytest.mark.parametrize("place", ["unet/1/model.onnx", "unet/1/config.yaml", "unet/config.yaml"])
async def test_what_is_no_file_is_not_opened(
    root: Path, place: str, make: Callable[[Path], None]
) -> None:
    (put(root, "unet", 1) / "model.onnx").rename(root / "kept")
    if not place.endswith("model.onnx"):
        (root / "kept").rename(root / "unet" / "1" / "model.onnx")
    make(root / place)
    bench = Bench(root)
    await bench.repository.start()
    try:
        assert bench.states() == [("unet", 1, "FAILED")]
        assert bench.repository.all()[0].reason == f"{place} is no regular file"
    finally:
        await bench.repository.close()


def test_a_pipe_that_takes_the_files_place_holds_nobody_up(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(root, "unet", 1) / "model.onnx"

    def swap() -> None:
        path.unlink()
        os.mkfifo(path)

    folder = ModelFolder(root)
    version = folder.look().versions[KEY]
    race(monkeypatch, path, swap)
    with pytest.raises(ModelError, match="is no regular file"):
        folder.inspect(version)


def test_metadata_has_a_limit(root: Path) -> None:
    put(root, "unet", 1, metadata="x" * MAX_METADATA_BYTES)
    put(root, "unet", 2, metadata="x" * (MAX_METADATA_BYTES + 1))
    folder = ModelFolder(root)
    versions = folder.look().versions
    folder.inspect(versions["unet", 1])
    with pytest.raises(ModelError, match=f"{MAX_METADATA_BYTES + 1} bytes, the limit is"):
        folder.inspect(versions["unet", 2])


def test_a_config_has_a_limit_before_it_is_read(root: Path) -> None:
    with (put(root, "unet", 1) / "config.yaml").open("wb") as file:
        file.truncate(1 << 40)
    folder = ModelFolder(root)
    with pytest.raises(ModelError, match=f"config.yaml: {1 << 40} bytes, the limit is"):
        folder.inspect(folder.look().versions[KEY])


@pytest.mark.parametrize("location", ["", "a\0b", "/", ".", "x" * 5000, "1/" * 3000])
def test_names_of_data_that_name_nothing(root: Path, location: str) -> None:
    put(root, "unet", 1, external=location or ".")
    folder = ModelFolder(root)
    version = folder.look().versions[KEY]
    try:
        assert folder.inspect(version).found.problem
    except ModelError as error:
        assert "unet/1" in str(error)


def test_every_cut_of_a_model_is_refused_or_a_model(root: Path) -> None:
    whole = onnx_bytes("a" * 50, external="w", metadata="x" * 50)
    path = put(root, "unet", 1) / "model.onnx"
    folder = ModelFolder(root)
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        try:
            folder.inspect(folder.look().versions[KEY])
        except ModelError as error:
            assert "not an ONNX model" in str(error)
