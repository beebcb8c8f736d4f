# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""From files to a warm engine: read, check, load, and check that nobody wrote meanwhile."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from voxgate_ops.errors import ModelError, VoxgateError
from voxgate_server.engine import Engine, EngineOptions
from voxgate_server.model_folder import Found, Look, ModelFolder, at_rest
from voxgate_server.settings import Settings

# Nobody who asked for a version waits longer than this to see whether its files are at rest.
_MAX_PATIENCE = 1.0

LoadEngine: TypeAlias = Callable[[Path, EngineOptions], Engine]
Settled: TypeAlias = Callable[[Found], bool]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """What became of opening a version: an engine, a reason, or neither: it is being written.

    `found` has all its files, `config` is the server's settings as they are for this version.
    """

    found: Found
    config: Settings
    engine: Engine | None = None
    reason: str = ""


class ModelLoader:
    """Opens versions, one at a time. All methods block; they are called on one thread."""

    def __init__(self, settings: Settings, load_engine: LoadEngine) -> None:
        self.folder = ModelFolder(settings.models)
        self._settings = settings
        self._load_engine = load_engine
        self._patience = min(settings.poll_interval or _MAX_PATIENCE, _MAX_PATIENCE)
        self._closed = threading.Event()

    def close(self) -> None:
        """Wait for nothing and keep no engine any more. Any thread may call."""
        self._closed.set()

    def open(self, found: Found, settled: Settled) -> Opened:
        """Load a version, whatever it breaks, unless `settled` says that it is being written."""
        config = self._settings
        try:
            contents = self.folder.inspect(found)
            found = contents.found
            if found.problem:
                raise ModelError(found.problem)
            if not settled(found):
                return Opened(found, config)
            config = contents.config.settings(config)
            engine = self._load_engine(found.path, _engine_options(found.name, config))
        except VoxgateError as error:
            return Opened(found, config, reason=str(error))
        except Exception as error:  # a broken model, whatever it breaks, must not stop the others
            log.exception("model %s version %d failed to load", *found.key)
            return Opened(found, config, reason=f"{type(error).__name__}: {error}")
        # What was opened is what was checked only if nobody touched it in between.
        after = self._look_again(found)
        if self._closed.is_set() or not found.same_files(after):
            engine.close()
            return Opened(after or found, config)
        return Opened(found, config, engine)

    def at_rest_since(self, seen: Look) -> Settled:
        """Whether files are at rest: by their times, or else by a second look after a while."""

        def settled(found: Found) -> bool:
            now_ns = time.time_ns()
            if at_rest(found, now_ns, self._patience):
                return True
            same = found.same_files(seen.versions.get(found.key))
            watched = (now_ns - seen.at_ns) / 1e9 if same else 0.0
            self._closed.wait(min(max(self._patience - watched, 0.0), self._patience))
            return found.same_files(self._look_again(found))

        return settled

    def _look_again(self, found: Found) -> Found | None:
        try:
            return self.folder.look_at(found.key)
        except OSError:
            return None


def _engine_options(name: str, config: Settings) -> EngineOptions:
    return EngineOptions(
        device=config.device,
        threads=config.threads,
        instances=config.instances,
        use_tf32=config.use_tf32,
        warm_up=config.warm_up,
        max_frame_sites=config.max_frame_sites,
        max_frame_bytes=config.max_frame_bytes,
        name=name,
    )
