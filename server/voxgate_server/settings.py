# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What an operator can set: `VOXGATE_…` in the environment, overridden by command-line flags."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1 << 20


class Settings(BaseSettings):
    """Times are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(env_prefix="VOXGATE_", frozen=True, extra="forbid")

    models: Path = Path("models")
    host: str = "0.0.0.0"
    port: int = Field(default=8001, ge=0, le=65535, description="0 takes a free port")
    metrics_port: int = Field(default=8002, ge=0, le=65535, description="0 takes a free port")
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    threads: int | None = Field(default=None, ge=1, description="intra-op threads of a model")

    max_frame_bytes: int = Field(default=64 * MIB, ge=1)
    max_frame_sites: int = Field(default=2_000_000, ge=1)
    queued_frames: int = Field(default=8, ge=1, description="of a stream that names no number")
    max_queued_frames: int = Field(default=64, ge=1, description="the most a stream may ask for")
    max_model_queued_frames: int = Field(default=256, ge=1, description="over all its streams")

    chunk_timeout: float = Field(default=2.0, gt=0)
    drain_timeout: float = Field(default=20.0, ge=0)
    overload_pause: float = Field(default=0.02, ge=0)

    @property
    def grpc_receive_limit(self) -> int:
        """gRPC's own limit on a message; beyond it gRPC ends the stream itself."""
        return 2 * self.max_frame_bytes + MIB
