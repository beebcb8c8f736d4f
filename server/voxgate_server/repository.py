# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The models in a folder: `DIR/<name>/<version>/model.onnx`, loaded once at start."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

from voxgate_ops.errors import VoxgateError
from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_server.engine import Engine, input_infos, output_infos
from voxgate_server.errors import ModelNotFound, StartupError
from voxgate_server.settings import Settings

MODEL_FILE = "model.onnx"
_VERSION = re.compile(r"[1-9][0-9]{0,17}")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Model:
    """One version of a model: READY with an engine, or FAILED with a reason."""

    name: str
    version: int
    engine: Engine | None
    reason: str = ""

    def info(self) -> pb.ModelInfo:
        info = pb.ModelInfo(name=self.name, version=str(self.version), state_reason=self.reason)
        if self.engine is None:
            info.state = pb.ModelInfo.FAILED
            return info
        spec = self.engine.frame_spec
        info.state = pb.ModelInfo.READY
        info.input_kind = spec.input_kind
        info.feature_names.extend(self.engine.metadata.feature_names)
        info.spatial_shape.extend(spec.spatial_shape)
        info.inputs.extend(input_infos(spec))
        info.outputs.extend(output_infos(list(self.engine.outputs.values())))
        info.max_frame_sites = spec.max_sites
        info.max_frame_bytes = spec.max_bytes
        info.coords_encodings.append(pb.PLAIN)
        info.metadata_json = self.engine.metadata.model_dump_json(exclude_none=True)
        return info


def find_model_files(folder: Path) -> list[tuple[str, int, Path]]:
    """The models below `folder` as (name, version, file), sorted.

    Raises:
        StartupError: no such folder, or no model in it.
    """
    if not folder.is_dir():
        raise StartupError(f"{folder} is not a folder: --models names one with your models in it")
    found = [
        (path.parent.parent.name, int(path.parent.name), path)
        for path in folder.glob(f"*/*/{MODEL_FILE}")
        if _VERSION.fullmatch(path.parent.name) and not path.parent.parent.name.startswith(".")
    ]
    if not found:
        raise StartupError(
            f"{folder} has no models: expected {folder}/NAME/VERSION/{MODEL_FILE} with a whole "
            f"number from 1 as VERSION. `voxgate export NAME {folder}/NAME/1/{MODEL_FILE}` "
            "writes one"
        )
    return sorted(found)


class Repository:
    """The loaded models."""

    def __init__(self, models: list[Model]) -> None:
        self._models = {(model.name, model.version): model for model in models}

    @classmethod
    def load(cls, settings: Settings) -> Repository:
        """Load every model of `settings.models`; a broken one is kept as FAILED.

        Raises:
            StartupError: there is none at all.
        """
        files = find_model_files(settings.models)
        return cls([_load(name, version, path, settings) for name, version, path in files])

    def all(self) -> list[Model]:
        return list(self._models.values())

    def get(self, name: str, version: str) -> Model:
        """A model in whatever state; an empty version means the newest, a ready one if any.

        Raises:
            ModelNotFound: none of that name or version.
        """
        versions = [model for model in self._models.values() if model.name == name]
        if not versions:
            known = ", ".join(sorted({model.name for model in self._models.values()}))
            raise ModelNotFound(f"model: {_cut(name)!r} is unknown, this server has {known}")
        if not version:
            return max(versions, key=lambda model: (model.engine is not None, model.version))
        if _VERSION.fullmatch(version):
            for model in versions:
                if model.version == int(version):
                    return model
        known = ", ".join(str(model.version) for model in versions)
        raise ModelNotFound(f"model {name!r}: version {_cut(version)!r} is unknown, it has {known}")

    def ready(self, name: str, version: str) -> tuple[Model, Engine]:
        """A model that can run.

        Raises:
            ModelNotFound: none of that name or version, or it failed to load.
        """
        model = self.get(name, version)
        if model.engine is None:
            raise ModelNotFound(
                f"model {name!r} version {model.version} failed to load: {model.reason}"
            )
        return model, model.engine

    def close(self) -> None:
        for model in self._models.values():
            if model.engine is not None:
                model.engine.close()


def _load(name: str, version: int, path: Path, settings: Settings) -> Model:
    try:
        engine = Engine.load(path, settings)
    except VoxgateError as error:
        reason = str(error)
        log.error("model %s version %d failed to load: %s", name, version, reason)
        return Model(name, version, None, reason)
    except Exception as error:  # a broken model, whatever it breaks, must not stop the others
        log.exception("model %s version %d failed to load", name, version)
        return Model(name, version, None, f"{type(error).__name__}: {error}")
    log.info("model %s version %d is ready", name, version)
    return Model(name, version, engine)


def _cut(text: str, limit: int = 128) -> str:
    return text if len(text) <= limit else text[:limit] + "…"
