# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Folders of models that no engine is needed for, and a repository over one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
from onnx import TensorProto

from voxgate_ops.errors import ModelError
from voxgate_server.engine import EngineOptions
from voxgate_server.metrics import Metrics
from voxgate_server.repository import Model, Repository
from voxgate_server.settings import Settings


def onnx_bytes(label: str = "a", external: str = "", metadata: str = "") -> bytes:
    """An ONNX file that says `label`; "broken" is one that the stand-in engine refuses."""
    model = onnx.ModelProto(producer_name=label)
    if external:
        tensor = TensorProto(name="weights", data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=external)
        model.graph.initializer.append(tensor)
    if metadata:
        model.metadata_props.add(key="voxgate", value=metadata)
    return model.SerializeToString()


def put(root: Path, name: str, version: object, label: str = "a", **details: str) -> Path:
    """Write ROOT/name/version/model.onnx, over what is there, and return its folder."""
    folder = root / name / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(onnx_bytes(label, **details))
    return folder


class StandInEngine:
    """Knows the label of the file that it was loaded from."""

    device, instances, memory_bytes = "cpu", 1, 7
    frame_spec = SimpleNamespace(
        input_kind="voxels", spatial_shape=(1,), max_sites=1, max_bytes=1, features_dtype="<f4"
    )

    def __init__(self, label: str, path: Path, options: EngineOptions) -> None:
        self.label = label
        self.path = path
        self.options = options
        self.closed = False

    def close(self) -> bool:
        self.closed = True
        return True


class Loader:
    """Loads StandInEngines on the loader's thread; with `hold` set it waits in the middle."""

    def __init__(self) -> None:
        self.engines: list[StandInEngine] = []
        self.running = 0
        self.most_running = 0
        self.threads: set[int] = set()
        self.entered = threading.Event()
        self.go_on = threading.Event()
        self.hold = False
        self.meanwhile: Any = None

    def __call__(self, path: Path, options: EngineOptions) -> Any:
        self.threads.add(threading.get_ident())
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            self.entered.set()
            if self.hold:
                assert self.go_on.wait(20)
            label = onnx.ModelProto.FromString(path.read_bytes()).producer_name
            if label == "broken":
                raise ModelError(f"{path.name} is broken")
            if label == "crashing":
                raise RuntimeError("it crashed")
            engine = StandInEngine(label, path, options)
            self.engines.append(engine)
            if self.meanwhile is not None:
                self.meanwhile()
            return engine
        finally:
            self.running -= 1


class Bench:
    """A repository over a folder, and what it told of its models."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.root = root
        self.loader = Loader()
        self.told: list[tuple[str, str, int]] = []
        self.on_ready: Any = None
        self.on_retire: Any = None
        self.metrics = Metrics()
        values: dict[str, Any] = {"models": root, "poll_interval": 0.01}
        self.repository = Repository(
            Settings(**(values | settings)),
            self.metrics,
            self._ready,
            self._retire,
            self.loader,
        )

    async def _ready(self, model: Model) -> None:
        self.told.append(("ready", model.name, model.version))
        if self.on_ready is not None:
            await self.on_ready(model)

    async def _retire(self, model: Model) -> None:
        self.told.append(("retire", model.name, model.version))
        if self.on_retire is not None:
            await self.on_retire(model)

    async def poll(self, times: int = 1) -> None:
        for _ in range(times):
            await self.repository.poll()

    async def retired(self) -> None:
        """Wait until every model that is unloading is gone."""
        await asyncio.gather(*self.repository._retiring.values())

    def states(self) -> list[tuple[str, int, str]]:
        return [(m.name, m.version, m.state.value) for m in self.repository.all()]

    def serving(self, name: str, version: str = "") -> str:
        """The label of what serves."""
        engine: Any = self.repository.ready(name, version).engine
        label: str = engine.label
        return label

    def loads(self, name: str) -> tuple[int, int]:
        """How often a version of `name` was loaded, and how often it failed."""
        sample = self.metrics.registry.get_sample_value
        ok, failed = (
            sample("voxgate_model_loads_total", {"model": name, "outcome": outcome}) or 0
            for outcome in ("ok", "failed")
        )
        return int(ok), int(failed)


MakeBench = Callable[..., Bench]


async def started(bench: Bench) -> Bench:
    await bench.repository.start()
    return bench


@asynccontextmanager
async def benches(root: Path) -> AsyncIterator[MakeBench]:
    """Makes benches over `root`; closes them and looks whether every engine was closed."""
    root.mkdir()
    made: list[Bench] = []

    def make(**settings: Any) -> Bench:
        made.append(Bench(root, **settings))
        return made[-1]

    yield make
    for bench in made:
        bench.loader.go_on.set()
        await bench.repository.close()
        assert all(engine.closed for engine in bench.loader.engines)
