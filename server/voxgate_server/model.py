# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A version of a model as the server holds it, and as clients are told of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_server.engine import Engine
from voxgate_server.model_signature import input_infos, output_infos
from voxgate_server.settings import Settings


class State(StrEnum):
    """Of a model; the names are those of `ModelInfo.State`."""

    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    FAILED = "FAILED"


@dataclass(slots=True, eq=False)
class Model:
    """One version of a model as it was loaded once: a reload makes another one.

    `config` is the server's settings as `config.yaml` has them for this version. There is an
    engine when the state is READY or UNLOADING.
    """

    name: str
    version: int
    config: Settings
    state: State = State.LOADING
    engine: Engine | None = None
    reason: str = ""

    def info(self) -> pb.ModelInfo:
        info = pb.ModelInfo(
            name=self.name,
            version=str(self.version),
            state=pb.ModelInfo.State.Value(self.state),
            state_reason=self.reason,
        )
        if self.engine is None:
            return info
        spec = self.engine.frame_spec
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
