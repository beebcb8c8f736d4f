# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""`config.yaml`: what one model, or one version of it, has different from the server's settings.

# models/unet/config.yaml: for all versions of `unet`
max_batch_sites: 32768
max_queue_delay: 0.002

# models/unet/3/config.yaml: for version 3; its keys win over those above
instances: 2
device: cpu
"""

from __future__ import annotations

import reprlib
from collections.abc import Hashable
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from voxgate_ops.errors import ModelError
from voxgate_server.settings import Settings

CONFIG_FILE = "config.yaml"
MAX_CONFIG_BYTES = 16 << 10


class ModelConfig(BaseModel):
    """A key that is not given, or null, leaves the server's setting of that name."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    device: str | None = Field(default=None, pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    threads: int | None = Field(default=None, ge=1, le=1024)
    instances: int | None = Field(default=None, ge=1, le=64)
    use_tf32: bool | None = None
    warm_up: bool | None = None
    max_batch_sites: int | None = Field(default=None, ge=1, le=1 << 31)
    max_batch_frames: int | None = Field(default=None, ge=1, le=4096)
    max_queue_delay: float | None = Field(default=None, ge=0, le=10, description="seconds")
    max_frame_sites: int | None = Field(default=None, ge=1, le=(1 << 31) - 1)
    max_frame_bytes: int | None = Field(default=None, ge=1)

    def over(self, general: ModelConfig) -> ModelConfig:
        """This config, with `general` where it is silent."""
        given = self.model_dump(exclude_none=True)
        return general.model_copy(update=given)

    def settings(self, server: Settings) -> Settings:
        """The server's settings as they are for this model.

        Raises:
            ModelError: frames larger than what the server receives.
        """
        limit = server.max_frame_bytes
        if self.max_frame_bytes is not None and self.max_frame_bytes > limit:
            raise ModelError(
                f"{CONFIG_FILE}: max_frame_bytes is {self.max_frame_bytes}, the server receives at "
                f"most {limit}: lower it or raise the server's max_frame_bytes"
            )
        return server.model_copy(update=self.model_dump(exclude_none=True))


def parse_config(raw: bytes, place: str) -> ModelConfig:
    """Parse a config; `place` names its file in messages.

    Raises:
        ModelError: too large, no YAML, or a key or value that is none of a config.
    """
    if len(raw) > MAX_CONFIG_BYTES:
        raise ModelError(f"{place}: {len(raw)} bytes, a config has at most {MAX_CONFIG_BYTES}")
    data, lines = _read(raw, place)
    if data is None:
        return ModelConfig()
    if not isinstance(data, dict):
        raise ModelError(f"{place}: expected lines of `key: value`, got {reprlib.repr(data)}")
    known = ", ".join(ModelConfig.model_fields)
    for key in data:
        if key not in ModelConfig.model_fields:
            where = f"{place}, line {lines[key]}"
            raise ModelError(f"{where}: key {reprlib.repr(key)} is unknown, known are {known}")
    try:
        return ModelConfig.model_validate(data)
    except ValidationError as error:
        raise ModelError("; ".join(_reasons(error, place, lines))) from error


def _read(raw: bytes, place: str) -> tuple[Any, dict[Hashable, int]]:
    """What the YAML says, and on which line each key stands."""
    try:
        loader = _PlainLoader(raw)
        return loader.get_single_data(), loader.lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = place if mark is None else f"{place}, line {mark.line + 1}"
        raise ModelError(f"{where}: {error.problem or 'not YAML'}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ModelError(f"{place}: not YAML: {reprlib.repr(str(error))}") from error


def _reasons(error: ValidationError, place: str, lines: dict[Hashable, int]) -> list[str]:
    return [
        f"{place}, line {lines[item['loc'][0]]}: {item['loc'][0]}: {item['msg']}, "
        f"got {reprlib.repr(item['input'])}"
        for item in error.errors()
    ]


class _PlainLoader(yaml.SafeLoader):
    """YAML without references, which can make a small file a large value, and repeated keys."""

    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        self.lines: dict[Hashable, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, "references (&name, *name) are not supported", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {reprlib.repr(key)} is given twice", key_node.start_mark
                )
            if isinstance(key, Hashable):
                seen.add(key)
                self.lines.setdefault(key, key_node.start_mark.line + 1)
        return super().construct_mapping(node, deep)
