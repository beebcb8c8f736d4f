# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The models that the server has: loaded, swapped and retired as their folder and operators say.

Everything that changes a version holds one asyncio lock, and everything that touches the disk or
opens a model runs on one thread. What a version is doing is in its state:

- new or changed files, once complete (`model_folder`), are loaded and warmed as a LOADING model
  beside the one that serves. Then the new one takes its place, `on_ready(new)` is awaited, and
  `on_retire(old)` lets the old one finish (UNLOADING) before its engine is closed;
- broken files leave what serves as it is, and are listed as FAILED until they change;
- a version that two looks in a row do not find is retired. A folder that cannot be read at all
  retires nothing;
- ONNX Runtime maps data kept beside a model into memory: write new files and rename them over the
  old ones, or better add a version; writing into the old ones changes what is being served;
- a version that an operator unloaded stays out until it is loaded again or its files change. The
  server does not remember this over a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from voxgate_ops.errors import ModelError
from voxgate_server.engine import Engine
from voxgate_server.errors import Draining, InvalidRequest, ModelNotFound, StartupError
from voxgate_server.metrics import Metrics
from voxgate_server.model import Model, State
from voxgate_server.model_folder import Found, Key, Look, complete, parse_version, valid_name
from voxgate_server.model_loader import LoadEngine, ModelLoader, Opened, Settled
from voxgate_server.settings import Settings

__all__ = ["Model", "Repository", "State"]

T = TypeVar("T")

log = logging.getLogger(__name__)


Callback: TypeAlias = Callable[[Model], Awaitable[None]]
MayKnow: TypeAlias = Callable[[str], bool]


def _everyone(_: str) -> bool:
    return True


@dataclass(slots=True, eq=False)
class _Slot:
    """The place of one version.

    `candidate` is LOADING or FAILED. `tried` are the files that were last loaded, found broken or
    unloaded by an operator: a poll acts when they change.
    """

    serving: Model | None = None
    candidate: Model | None = None
    tried: Found | None = None
    unloaded: bool = False

    @property
    def empty(self) -> bool:
        return not (self.serving or self.candidate or self.tried)


class Repository:
    """All models. Lives on one event loop; `start`, then `close`.

    Args:
        on_ready: awaited with a loaded model as soon as `ready` hands it out; an exception makes
            it FAILED, and the one before goes on.
        on_retire: awaited with a model that `ready` no longer hands out, until its frames are
            done; also with one that `on_ready` refused. Cancelled when the repository is closed.
        load_engine: opens and warms the model at a path. Called on the loader's thread.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        on_ready: Callback,
        on_retire: Callback,
        load_engine: LoadEngine = Engine.load,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._on_ready = on_ready
        self._on_retire = on_retire
        self._opener = ModelLoader(settings, load_engine)
        self._folder = self._opener.folder
        self._slots: dict[Key, _Slot] = {}
        self._retiring: dict[Model, asyncio.Task[None]] = {}
        self._last = Look(0, {}, root_problem="never looked at")
        self._lock = asyncio.Lock()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader")
        self._closing = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Load every version.

        Raises:
            StartupError: the folder does not exist, or it is empty and nothing could change that.
        """
        await self._run(self._start())

    async def watch(self) -> None:
        """Poll the folder until cancelled or closed; return at once where the settings say so."""
        interval = self._settings.poll_interval
        while interval and not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await self._closing.wait()
                    return
            try:
                await self.poll()
            except Draining:
                return
            except Exception:  # whatever one look meets, the next one may not
                log.exception("the folder of models could not be polled")

    async def close(self) -> None:
        """End what is going on, a load included, and close every engine."""
        self._closing.set()
        self._opener.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for slot in self._slots.values():
            self._vacate(slot)
        await asyncio.gather(*self._retiring.values(), return_exceptions=True)
        self._slots.clear()
        self._thread.shutdown(wait=False)

    # Asking -------------------------------------------------------------------------------------

    def all(self) -> list[Model]:
        """Every model in whatever state; by name and version, what serves before the rest."""
        models = [m for slot in self._slots.values() for m in (slot.serving, slot.candidate) if m]
        return sorted([*models, *self._retiring], key=lambda model: (model.name, model.version))

    def unloaded(self) -> list[Key]:
        """Name and version of what operators have unloaded and the folder still has."""
        return sorted(key for key, slot in self._slots.items() if slot.unloaded)

    def get(self, name: str, version: str = "", may_know: MayKnow = _everyone) -> Model:
        """A model in whatever state; an empty version means the newest, a ready one if any.

        Args:
            may_know: which names an error may tell.

        Raises:
            ModelNotFound: none of that name or version.
        """
        models = [model for model in self.all() if model.name == name]
        if not models:
            names = {model.name for model in self.all()}
            known = ", ".join(sorted(filter(may_know, names))) or "none"
            raise ModelNotFound(f"model: {_cut(name)!r} is unknown, this server has {known}")
        if version:
            number = parse_version(version)
            known = ", ".join(dict.fromkeys(str(model.version) for model in models))
            models = [model for model in models if model.version == number]
            if not models:
                raise ModelNotFound(
                    f"model {name!r}: version {_cut(version)!r} is unknown, it has {known}"
                )
        return max(models, key=lambda model: (model.state is State.READY, model.version))

    def ready(self, name: str, version: str = "", may_know: MayKnow = _everyone) -> Model:
        """A model that can run; an empty version means the newest one.

        Raises:
            ModelNotFound: none of that name or version, or it is not ready.
        """
        model = self.get(name, version, may_know)
        if model.state is State.READY:
            return model
        what = {
            State.LOADING: "is still loading",
            State.UNLOADING: "is being unloaded",
            State.FAILED: f"failed to load: {model.reason}",
        }[model.state]
        raise ModelNotFound(f"model {name!r} version {model.version} {what}")

    # Changing: each runs to its end, whatever becomes of the caller -----------------------------

    async def poll(self) -> None:
        """Look at the folder once and act on what is complete."""
        await self._run(self._poll())

    async def load(self, name: str, version: str = "") -> Model:
        """Load a version, or take its changed files over; "" means the newest in the folder.

        Raises:
            ModelNotFound: the folder has none.
            ModelError: it is broken, or still being written. What served before does so still.
            InvalidRequest: a name or version that none can have.
            Draining: the server is stopping.
        """
        return await self._run(self._load(name, version))

    async def unload(self, name: str, version: str = "") -> list[Key]:
        """Unload a version, or all for "", and wait until its frames are done.

        Raises:
            ModelNotFound: there is none.
            InvalidRequest, Draining: as `load`.
        """
        return await self._run(self._unload(name, version))

    async def reload(self, name: str, version: str = "") -> list[Model]:
        """Load a version anew, changed or not; "" means each that no operator unloaded.

        Raises:
            ModelError: one is broken, or still being written; the others are reloaded all the same.
            ModelNotFound, InvalidRequest, Draining: as `load`.
        """
        return await self._run(self._reload(name, version))

    async def _start(self) -> None:
        folder = self._settings.models
        if not await self._on_thread(folder.is_dir):
            raise StartupError(f"{folder} is not a folder: --models names one with your models")
        async with self._lock:
            self._check_open()
            self._last = look = await self._on_thread(self._folder.look)
            if not look.versions:
                self._start_empty(look)
            settled = self._opener.at_rest_since(look)
            for found in list(look.versions.values()):
                model = await self._bring_in(found, settled)
                if model is None and not self._settings.poll_interval:
                    self._fail(found, "its files were being written when the server started")

    async def _poll(self) -> None:
        async with self._lock:
            self._check_open()
            look = await self._on_thread(self._folder.look)
            last, self._last = self._last, look
            for found in list(look.versions.values()):
                slot = self._slots.get(found.key)
                new = slot is None or not found.same_files(slot.tried)
                if new and complete(found, last):
                    await self._bring_in(found, lambda now: complete(now, last))
            for key in list(self._slots):
                seen = key in look.versions or look.hides(key)
                seen_before = key in last.versions or last.hides(key)
                if not seen and not seen_before:
                    log.info("model %s version %d is gone from the folder", *key)
                    self._vacate(self._slots.pop(key))

    async def _load(self, name: str, version: str) -> Model:
        async with self._lock:
            look = await self._look_for_operator(name, version)
            found = max(_chosen(look, name, version), key=lambda item: item.version)
            slot = self._slots.get(found.key)
            if slot and slot.serving and not slot.candidate and found.same_files(slot.tried):
                return slot.serving
            return _loaded(await self._bring_in(found, self._opener.at_rest_since(look)), found)

    async def _reload(self, name: str, version: str) -> list[Model]:
        async with self._lock:
            look = await self._look_for_operator(name, version)
            models, reasons = [], []
            for found in _chosen(look, name, version):
                slot = self._slots.get(found.key)
                if not version and slot and slot.unloaded:
                    continue
                try:
                    model = await self._bring_in(found, self._opener.at_rest_since(look))
                    models.append(_loaded(model, found))
                except ModelError as error:
                    reasons.append(str(error))
            if reasons:
                raise ModelError("; ".join(reasons))
            if not models:
                raise ModelNotFound(
                    f"model {name!r}: every version is unloaded, load one by number"
                )
            return models

    async def _unload(self, name: str, version: str) -> list[Key]:
        async with self._lock:
            look = await self._look_for_operator(name, version)
            number = parse_version(version)
            keys = [k for k in self._slots if k[0] == name and (not version or k[1] == number)]
            if not keys:
                which = f"version {version} of it" if version else "none of it"
                raise ModelNotFound(f"model {name!r}: {which} is loaded")
            for key in keys:
                slot = self._slots[key]
                log.info("model %s version %d is unloaded by an operator", *key)
                slot.unloaded = True
                slot.tried = look.versions.get(key, slot.tried)
                self._vacate(slot)
            waiting = [task for m, task in self._retiring.items() if (m.name, m.version) in keys]
        if waiting:
            await asyncio.wait(waiting)
        return sorted(keys)

    async def _look_for_operator(self, name: str, version: str) -> Look:
        self._check_open()
        if not valid_name(name):
            raise InvalidRequest(f"name: {_cut(name)!r} is no name that a model can have")
        if version and parse_version(version) is None:
            raise InvalidRequest(f"version: {_cut(version)!r} is no whole number from 1")
        return await self._on_thread(self._folder.look)

    # What changes share; the lock is held -------------------------------------------------------

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise Draining("the server is stopping")

    async def _bring_in(self, found: Found, settled: Settled) -> Model | None:
        """Open a version and let it serve; None if it turns out that it is being written."""
        self._check_open()
        slot = self._slots.setdefault(found.key, _Slot())
        before = slot.candidate
        slot.candidate = Model(found.name, found.version, self._settings)
        try:
            opened = await self._on_thread(self._opener.open, found, settled)
        finally:
            slot.candidate = before
            if slot.empty:
                del self._slots[found.key]
        found = opened.found
        if opened.engine is None and not opened.reason:
            # All its files are known by now: the next look can be compared with this.
            self._last.versions[found.key] = found
            return None
        reason = opened.reason or await self._swap_in(opened)
        if reason:
            return self._fail(found, reason)
        self._metrics.model_load(found.name, "ok")
        return self._slots[found.key].serving

    async def _swap_in(self, opened: Opened) -> str:
        """Let a loaded version serve; the reason if it cannot."""
        name, version = opened.found.key
        engine = opened.engine
        assert engine is not None
        model = Model(name, version, opened.config, State.READY, engine)
        slot = self._slots.setdefault(opened.found.key, _Slot())
        old, slot.serving = slot.serving, model
        try:
            await self._on_ready(model)
        except Exception as error:
            log.exception("model %s version %d could not be served", name, version)
            slot.serving = old
            self._retire(model)
            return f"{type(error).__name__}: {error}"
        slot.candidate, slot.tried, slot.unloaded = None, opened.found, False
        log.info("model %s version %d is ready on %s", name, version, engine.device)
        if old is not None:
            self._retire(old)
        return ""

    def _fail(self, found: Found, reason: str) -> Model:
        model = Model(found.name, found.version, self._settings, State.FAILED, reason=reason)
        slot = self._slots.setdefault(found.key, _Slot())
        slot.candidate, slot.tried, slot.unloaded = model, found, False
        self._metrics.model_load(found.name, "failed")
        still = "; the one loaded before goes on" if slot.serving is not None else ""
        log.error("model %s version %d failed to load: %s%s", *found.key, reason, still)
        return model

    def _vacate(self, slot: _Slot) -> None:
        slot.candidate = None
        if slot.serving is not None:
            self._retire(slot.serving)
            slot.serving = None

    def _retire(self, model: Model) -> None:
        model.state = State.UNLOADING
        task = asyncio.create_task(self._finish(model))
        self._retiring[model] = task
        task.add_done_callback(lambda _: self._retiring.pop(model, None))

    async def _finish(self, model: Model) -> None:
        """Wait for a model's frames, but not beyond `close`; then close its engine."""
        retired = asyncio.ensure_future(self._on_retire(model))
        closing = asyncio.create_task(self._closing.wait())
        await asyncio.wait({retired, closing}, return_when=asyncio.FIRST_COMPLETED)
        for waiting in (retired, closing):
            waiting.cancel()
        (error, _) = await asyncio.gather(retired, closing, return_exceptions=True)
        if isinstance(error, Exception):
            log.error(
                "model %s version %d: its end went wrong",
                model.name,
                model.version,
                exc_info=error,
            )
        assert model.engine is not None
        ended = await asyncio.to_thread(model.engine.close)
        log.log(
            logging.INFO if ended else logging.ERROR,
            "model %s version %d is retired%s",
            model.name,
            model.version,
            "" if ended else ", but a run of it hangs and keeps its memory",
        )

    def _start_empty(self, look: Look) -> None:
        folder = self._settings.models
        if look.root_problem:
            raise StartupError(f"{folder} cannot be read: {look.root_problem}")
        what = (
            f"{folder} has no models: expected {folder}/NAME/VERSION/model.onnx with a whole "
            f"number from 1 as VERSION. `voxgate export NAME {folder}/NAME/1/model.onnx` writes one"
        )
        if look.unreadable:
            what = f"{folder}: no model can be read: {', '.join(sorted(look.unreadable))}"
        if not self._settings.poll_interval and self._settings.admin_port is None:
            raise StartupError(what)
        log.warning("%s; waiting for the first", what)

    # Tasks and the thread -----------------------------------------------------------------------

    async def _run(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_look_at_result)
            raise

    async def _on_thread(self, work: Callable[..., T], *args: Any) -> T:
        future = asyncio.get_running_loop().run_in_executor(self._thread, work, *args)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(_discard)
            raise


def _chosen(look: Look, name: str, version: str) -> list[Found]:
    if look.hides((name, 0)):
        raise ModelError(f"the folder of model {name!r} cannot be read: see the server's log")
    there = [found for found in look.versions.values() if found.name == name]
    if not there:
        raise ModelNotFound(f"model: the folder has no {name!r}")
    chosen = [found for found in there if not version or found.version == int(version)]
    if not chosen:
        known = ", ".join(str(found.version) for found in there)
        raise ModelNotFound(f"model {name!r}: the folder has no version {version}, it has {known}")
    return chosen


def _loaded(model: Model | None, found: Found) -> Model:
    what = f"model {found.name!r} version {found.version}"
    if model is None:
        raise ModelError(f"{what}: its files are being written; try again when they are complete")
    if model.state is State.FAILED:
        raise ModelError(f"{what} failed to load: {model.reason}")
    return model


def _discard(future: asyncio.Future[Any]) -> None:
    """Close the engine that a load brings for which nobody waits any more."""
    if not future.cancelled() and future.exception() is None:
        result = future.result()
        if isinstance(result, Opened) and result.engine is not None:
            result.engine.close()


def _look_at_result(task: asyncio.Task[Any]) -> None:
    """Log the error of an operation whose caller has gone."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.error("an operation on models failed after its caller had gone: %s", error)


def _cut(text: str, limit: int = 128) -> str:
    return text if len(text) <= limit else text[:limit] + "…"
