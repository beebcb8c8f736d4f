# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The versions that take frames, who may use them, and the streams that follow their reloads."""

from __future__ import annotations

import contextlib
from concurrent.futures import Executor
from typing import Protocol

from voxgate_server.errors import ModelNotFound
from voxgate_server.metrics import Metrics, Watch
from voxgate_server.repository import Model, Repository
from voxgate_server.scheduler import BatchLimits, Scheduler
from voxgate_server.security import Client
from voxgate_server.serving import ServedModel
from voxgate_server.settings import Settings

_MAX_SHOWN = 128


class Session(Protocol):
    """An open stream, which may follow its model's reloads."""

    @property
    def served(self) -> ServedModel:
        """What answers its next frame."""

    @property
    def pinned(self) -> bool:
        """It asked for one version and no other."""

    def follow(self, served: ServedModel) -> None:
        """Another version answers from now on."""


class ServedModels:
    """Every ready version with its scheduler. The repository calls `on_ready` and `on_retire`."""

    def __init__(self, settings: Settings, metrics: Metrics, workers: Executor) -> None:
        self._settings = settings
        self._metrics = metrics
        self._workers = workers
        self._served: dict[Model, tuple[ServedModel, Watch]] = {}
        self._sessions: set[Session] = set()
        self._repository: Repository | None = None

    def attach(self, repository: Repository) -> None:
        """Where names and versions are looked up."""
        self._repository = repository

    @property
    def any_ready(self) -> bool:
        return any(not served.retired for served, _ in self._served.values())

    def trouble(self) -> str | None:
        """Why the server should be restarted: a run that does not come back, a GPU that is lost.

        None while all is well.
        """
        for served, _ in self._served.values():
            name = f"model {served.model.name} version {served.model.version}"
            if served.scheduler.hung:
                return f"{name}: a run has taken over {self._settings.max_execute:g} s"
            if served.engine.lost:
                return f"{name}: {served.engine.lost}"
        return None

    # Looking up ----------------------------------------------------------------------------------

    def visible(self, client: Client) -> list[Model]:
        """The models that `client` may use, in whatever state."""
        return [model for model in self._models.all() if client.may_use(model.name)]

    def get(self, name: str, version: str, client: Client) -> Model:
        """A model in whatever state.

        Raises:
            ModelNotFound: none of that name or version, or not for this client.
        """
        self.check_visible(name, client)
        return self._models.get(name, version, client.may_use)

    def find(self, name: str, version: str, client: Client) -> ServedModel:
        """The version that answers `client`.

        Raises:
            ModelNotFound: none of that name or version, none that is ready, or not for this client.
        """
        self.check_visible(name, client)
        model = self._models.ready(name, version, client.may_use)
        if model not in self._served:
            raise ModelNotFound(f"model {name!r} version {model.version} is not ready yet")
        return self._served[model][0]

    @property
    def _models(self) -> Repository:
        assert self._repository is not None
        return self._repository

    def check_visible(self, name: str, client: Client) -> None:
        """Raise ModelNotFound unless `client` may use models of this name, existing or not."""
        if client.may_use(name):
            return
        # What a client may not use it may not find out about either: the answer is the same for
        # a model that exists and for one that does not.
        known = ", ".join(sorted({model.name for model in self.visible(client)})) or "none"
        shown = name if len(name) <= _MAX_SHOWN else name[:_MAX_SHOWN] + "…"
        raise ModelNotFound(f"model: {shown!r} is unknown to this client, it may use {known}")

    # Streams -------------------------------------------------------------------------------------

    def add_session(self, session: Session) -> None:
        self._sessions.add(session)

    def remove_session(self, session: Session) -> None:
        self._sessions.discard(session)

    def _move_sessions(self, name: str) -> None:
        """Let the streams of a model follow the newest version, pinned ones only their own's."""
        for session in list(self._sessions):
            current = session.served
            if current.model.name != name:
                continue
            version = str(current.model.version) if session.pinned else ""
            with contextlib.suppress(ModelNotFound):
                model = self._models.ready(name, version)
                if model is not current.model and model in self._served:
                    session.follow(self._served[model][0])

    # What the repository calls -------------------------------------------------------------------

    async def on_ready(self, model: Model) -> None:
        """Let a loaded version take frames, and the streams that follow its name go to it."""
        engine = model.engine
        assert engine is not None
        config = model.config
        limits = BatchLimits(
            config.max_batch_sites or engine.default_max_batch_sites,
            config.max_batch_frames,
            config.max_queue_delay,
        )
        metrics = self._metrics.model(model.name, str(model.version))
        waiting = self._settings.max_model_queued_frames
        scheduler = Scheduler(
            engine, limits, waiting, max_execute=self._settings.max_execute, metrics=metrics
        )
        served = ServedModel(model, engine, scheduler, metrics, self._workers, waiting)
        watch = metrics.watch(
            queued=lambda: scheduler.queued_frames,
            ready=lambda: not served.retired,
            memory=lambda: engine.memory_bytes,
            instances=engine.instances,
            device=engine.device,
        )
        # The operators have counted the warm-up, so what is left of busy time must hold it too.
        metrics.add_busy(engine.warm_up_seconds, engine.device, engine.warm_up_runs)
        scheduler.start()
        self._served[model] = served, watch
        self._move_sessions(model.name)

    async def on_retire(self, model: Model) -> None:
        """Let a version answer what it has and forget it."""
        if model not in self._served:
            return
        served, watch = self._served[model]
        served.retired = True
        self._move_sessions(model.name)
        await served.wait_until_unused()
        await self._stop(model)

    async def close(self) -> None:
        """Stop every scheduler; whatever still waits is answered as the server stopping."""
        for model in list(self._served):
            await self._stop(model)

    async def _stop(self, model: Model) -> None:
        """Forget a version and stop its scheduler, unless that has been done meanwhile."""
        if model not in self._served:
            return
        served, watch = self._served.pop(model)
        served.retired = True
        await served.scheduler.close()
        watch.close()
