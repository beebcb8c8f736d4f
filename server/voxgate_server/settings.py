# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What an operator can set, each with its default, its bounds and what it is for.

The names are those of the YAML file; `VOXGATE_MAX_FRAME_BYTES` in the environment and
`--max-frame-bytes` on the command line follow from them, and so does the help.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ByteSize, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

# Kubernetes and Docker describe a service called "voxgate" to its neighbours, and to its own pods,
# in variables like these; VOXGATE_PORT=tcp://10.0.0.7:8001 is one of them and no port of ours.
_FOREIGN_NAME = re.compile(r"_(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)$", re.I)
_FOREIGN_VALUE = re.compile(r"^(tcp|udp|sctp)://")


def is_foreign(name: str, value: str | None) -> bool:
    """Whether a variable called VOXGATE_… was set by an orchestrator for its own purposes."""
    return bool(_FOREIGN_NAME.search(name) or _FOREIGN_VALUE.match(value or ""))


def size_text(size: int) -> str:
    """`size` in bytes, exactly, with the largest unit that leaves a whole number: 64MiB."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size and size % unit == 0:
            return f"{size // unit}{name}"
    return str(size)


def _whole_size(value: object) -> object:
    """Pydantic reads a size's beginning only, and 1,5GiB as one byte."""
    if isinstance(value, str) and not re.fullmatch(r"\s*\d*\.?\d+\s*[a-z]*\s*", value, re.I):
        raise PydanticCustomError("byte_size", "expected bytes or a number with a unit: 64MiB")
    return value


Size = Annotated[ByteSize, BeforeValidator(_whole_size)]


def _setting(panel: str, description: str, default: Any, **bounds: Any) -> Any:
    """A field; `panel` is the heading under which the help and the printed settings show it."""
    return Field(default, description=description, json_schema_extra={"panel": panel}, **bounds)


_LISTEN = "Listening"
_MODELS = "Models: the repository"
_DEFAULTS = "Models: what each one's config.yaml can override"
_QUEUES = "Queues"
_LIMITS = "Limits that protect the server and its clients from each other"
_TIMES = "Times"
_SECURITY = "Security"
_LOGS = "Logs and traces"


class Settings(BaseSettings):
    """Times are in seconds; sizes in bytes, given as a number or with a unit (`64MiB`)."""

    model_config = SettingsConfigDict(
        env_prefix="VOXGATE_",
        env_ignore_empty=True,
        env_parse_none_str="null",
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,  # it may be the admin_token
    )

    host: str = _setting(
        _LISTEN, "Address to listen on; 127.0.0.1 for this machine only", "0.0.0.0", min_length=1
    )
    port: int = _setting(
        _LISTEN,
        "gRPC: inference, grpc.health.v1 and reflection; 0 takes a free port",
        8001,
        ge=0,
        le=65535,
    )
    metrics_port: int = _setting(
        _LISTEN,
        "HTTP: /metrics (Prometheus), /livez and /readyz; 0 takes a free port",
        8002,
        ge=0,
        le=65535,
    )
    admin_port: int | None = _setting(
        _LISTEN,
        "gRPC on 127.0.0.1: load, unload and reload models, with the credential of admin_token "
        "or admin_token_file; null: no admin service; 0 takes a free port",
        None,
        ge=0,
        le=65535,
    )

    models: Path = _setting(
        _MODELS,
        "Folder with the models: DIR/NAME/VERSION/model.onnx, VERSION a whole number from 1. "
        "A broken model is listed as FAILED and stops no other",
        Path("models"),
    )
    poll_interval: float = _setting(
        _MODELS,
        "Seconds between two looks for new, changed and removed versions; 0: the folder is read "
        "once, at the start",
        1.0,
        ge=0,
        le=3600,
    )

    device: str = _setting(
        _DEFAULTS,
        "Where models run: auto (the first GPU, if all is there that it needs), cpu, cuda or "
        "cuda:INDEX",
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
    )
    threads: int | None = _setting(
        _DEFAULTS,
        "Threads that one run of a model uses; null: one per core",
        None,
        ge=1,
        le=1024,
    )
    instances: int = _setting(
        _DEFAULTS, "Runs of one model at the same time, each with its own threads", 1, ge=1, le=64
    )
    use_tf32: bool = _setting(
        _DEFAULTS,
        "Let a GPU round the factors of float32 products to TF32's 10 bits of mantissa: faster, "
        "with its tensor cores. Without effect on a CPU",
        False,
    )
    warm_up: bool = _setting(_DEFAULTS, "Run a model once before it takes frames", True)
    max_batch_sites: int | None = _setting(
        _DEFAULTS,
        "Sites (of a points model: points) that one run takes from several frames; a larger "
        "frame runs alone; null: 16384 on the CPU, 400000 on CUDA",
        None,
        ge=1,
        le=1 << 31,
    )
    max_batch_frames: int = _setting(
        _DEFAULTS, "Frames that one run takes together; 1: no batches", 32, ge=1, le=4096
    )
    max_queue_delay: float = _setting(
        _DEFAULTS,
        "Seconds that the oldest frame may wait for a fuller batch while an engine is free",
        0.0,
        ge=0,
        le=10,
    )
    max_frame_sites: int = _setting(
        _DEFAULTS,
        "Sites (points) of the largest frame that is accepted",
        2_000_000,
        ge=1,
        le=(1 << 31) - 1,
    )
    max_frame_bytes: Size = _setting(
        _DEFAULTS,
        "Payload of the largest frame that is accepted; gRPC takes messages of up to "
        "2 × this + 1 MiB",
        ByteSize(64 * MIB),
        ge=1,
        le=(GIB - MIB // 2 - 1),
    )

    queued_frames: int = _setting(
        _QUEUES, "Waiting frames of a stream that names no number", 8, ge=1, le=1 << 20
    )
    max_queued_frames: int = _setting(
        _QUEUES, "Waiting frames that a stream may ask for", 64, ge=1, le=1 << 20
    )
    max_model_queued_frames: int = _setting(
        _QUEUES, "Waiting frames of a model over all its streams", 256, ge=1, le=1 << 20
    )

    max_in_flight_bytes: Size = _setting(
        _LIMITS,
        "Bytes of frames and answers that the server holds at once; at the limit nothing is read",
        ByteSize(GIB),
        ge=1,
    )
    max_client_in_flight_bytes: Size = _setting(
        _LIMITS,
        "The same for one client; at the limit its streams are not read",
        ByteSize(256 * MIB),
        ge=1,
    )
    max_client_streams: int = _setting(
        _LIMITS, "Open streams of one client", 1024, ge=1, le=1 << 20
    )

    max_priority: int = _setting(
        _LIMITS,
        "Highest priority that a stream may ask for; a token can name its own",
        0,
        ge=-(1 << 31),
        le=(1 << 31) - 1,
    )

    chunk_timeout: float = _setting(
        _TIMES,
        "Seconds until a frame that arrives in chunks is given up when no chunk comes",
        2.0,
        gt=0,
        le=3600,
    )
    overload_pause: float = _setting(
        _TIMES,
        "Seconds for which a stream is not read after a frame of it found a full queue",
        0.02,
        ge=0,
        le=60,
    )
    max_execute: float = _setting(
        _TIMES,
        "Seconds until a run of a model counts as hung: its frames fail and so does /livez",
        30.0,
        gt=0,
        le=86400,
    )
    drain_timeout: float = _setting(
        _TIMES,
        "Seconds after SIGTERM until the frames still unanswered get UNAVAILABLE",
        20.0,
        ge=0,
        le=86400,
    )

    tls_certificate: Path | None = _setting(
        _SECURITY, "PEM file with the server's certificate chain; needs tls_key", None
    )
    tls_key: Path | None = _setting(
        _SECURITY, "PEM file with the private key of tls_certificate", None
    )
    tls_client_ca: Path | None = _setting(
        _SECURITY,
        "PEM file with the authorities whose client certificates are accepted; set, every client "
        "must show one",
        None,
    )
    tokens: Path | None = _setting(
        _SECURITY,
        "File of hashed bearer tokens and what each may use (`voxgate token` makes lines); set, "
        "every call but health must carry one",
        None,
    )
    insecure_tokens: bool = _setting(
        _SECURITY, "Accept tokens without TLS on an address that is not loopback", False
    )
    credentials_interval: float = _setting(
        _SECURITY,
        "Seconds between two looks at the certificates and tokens, which are taken over when two "
        "looks find the same; 0: they are read once, at the start",
        1.0,
        ge=0,
        le=3600,
    )
    admin_token: SecretStr | None = _setting(
        _SECURITY,
        "Credential of the admin service; other users of the machine can read flags, so prefer "
        "admin_token_file or the environment",
        None,
        min_length=1,
    )
    admin_token_file: Path | None = _setting(
        _SECURITY, "File whose first line is the credential of the admin service", None
    )

    log_format: Literal["text", "json"] = _setting(
        _LOGS, "text for people, json for one JSON object per line", "text"
    )
    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        _LOGS, "Least serious message that is logged: debug, info, warning or error", "info"
    )
    otlp_endpoint: str | None = _setting(
        _LOGS,
        "OpenTelemetry collector for one trace span per frame, e.g. http://collector:4318 "
        "(needs the opentelemetry extra); null: OTEL_EXPORTER_OTLP_ENDPOINT, else no spans",
        None,
        pattern=r"^https?://",
    )

    @model_validator(mode="after")
    def _settings_agree(self) -> Self:
        self._ports_differ()
        self._limits_nest()
        self._credentials_are_complete()
        return self

    def _ports_differ(self) -> None:
        seen: dict[int, str] = {}
        for name in ("port", "metrics_port", "admin_port"):
            number = getattr(self, name)
            if number and number in seen:
                raise _disagree(f"{seen[number]} and {name} are both {number}", seen[number], name)
            seen[number] = name

    def _limits_nest(self) -> None:
        names = ("max_frame_bytes", "max_client_in_flight_bytes", "max_in_flight_bytes")
        for inner, outer in zip(names, names[1:], strict=False):
            small, large = getattr(self, inner), getattr(self, outer)
            if small > large:
                what = f"{inner} {size_text(small)} is more than {outer} {size_text(large)}"
                raise _disagree(f"{what}: lower the one or raise the other", inner, outer)

    def _credentials_are_complete(self) -> None:
        for name, needed in (
            ("tls_certificate", "tls_key"),
            ("tls_key", "tls_certificate"),
            ("tls_client_ca", "tls_certificate"),
        ):
            if getattr(self, name) is not None and getattr(self, needed) is None:
                raise _disagree(f"{name} needs {needed} too", name, needed)
        if self.admin_token is not None and self.admin_token_file is not None:
            names = ("admin_token", "admin_token_file")
            raise _disagree("admin_token and admin_token_file are both set: keep one", *names)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, environment(settings_cls)

    @property
    def grpc_receive_limit(self) -> int:
        """gRPC's own limit on a message; beyond it gRPC ends the stream itself."""
        return 2 * self.max_frame_bytes + MIB


def environment(settings_cls: type[BaseSettings] = Settings) -> EnvSettingsSource:
    """The settings that `VOXGATE_…` variables name."""
    source = EnvSettingsSource(settings_cls)
    source.env_vars = {
        name: value for name, value in source.env_vars.items() if not is_foreign(name, value)
    }
    return source


def _disagree(message: str, *names: str) -> PydanticCustomError:
    return PydanticCustomError("disagree", "{message}", {"message": message, "names": names})
