# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Where the server is and how it is reached: gRPC options, TLS, credentials."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

DEFAULT_TARGET = "localhost:8001"
DEFAULT_TIMEOUT_S = 30.0
# An answer is as large as the network makes it; what bounds it is the caller's memory, not gRPC's
# default of 4 MiB, which one sweep's labels and scores may already pass.
DEFAULT_MAX_ANSWER_BYTES = 1 << 30


def channel_options(max_answer_bytes: int) -> list[tuple[str, int]]:
    """gRPC channel arguments for large frames at low latency.

    HTTP/2 frame size, look-ahead, write buffer and optimization target stay gRPC's: on frames of
    1.8 MB over loopback none of them changed the median by more than the noise between two runs.

    Sending is unlimited here: the server's own limit (`max_frame_bytes`) is checked before a frame
    is sent, with a message that names it.
    """
    return [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", max_answer_bytes),
        # A vehicle that changes networks loses its peer without a FIN: found within 30 s.
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 15_000),
        # What ends the wait in gRPC of today, whose default is a minute, whatever the line above.
        ("grpc.http2.ping_timeout_ms", 15_000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.keepalive_permit_without_calls", 0),
        # gRPC's own waits grow to two minutes, in which calls fail though the server is back.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 1_000),
        ("grpc.max_reconnect_backoff_ms", 5_000),
    ]


@dataclass(frozen=True)
class Endpoint:
    """A server and the way to it; makes channels, sync or asyncio.

    TLS is used when `tls` is set, a `tls_` file is named, or `credentials` are given. The files are
    read for every new connection, so that a renewed certificate is taken by the next one.

    Attributes:
        target: "host:port".
        credentials: ready-made gRPC credentials in place of the `tls_` files.
        tls: use TLS also where no file is named: the system's certificate authorities.
        tls_ca: PEM file of the authorities to trust; None: the system's.
        tls_certificate, tls_key: PEM files that identify this client (mutual TLS).
        token: sent with every call as `authorization: Bearer …`.
        insecure_token: send the token without TLS to hosts other than this one, too.
        max_answer_bytes: an answer above it fails with RESOURCE_EXHAUSTED.

    Raises:
        ValueError: options that contradict each other, or a token that would be readable by anyone
            on the way.
    """

    target: str = DEFAULT_TARGET
    credentials: grpc.ChannelCredentials | None = None
    tls: bool = False
    tls_ca: str | Path | None = None
    tls_certificate: str | Path | None = None
    tls_key: str | Path | None = None
    token: str | None = field(default=None, repr=False)
    insecure_token: bool = False
    max_answer_bytes: int = DEFAULT_MAX_ANSWER_BYTES

    def __post_init__(self) -> None:
        files = (self.tls_ca, self.tls_certificate, self.tls_key)
        if self.credentials is not None and any(file is not None for file in files):
            raise ValueError("credentials and tls_ files are both given: one of them says it all")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together, one of them is missing")
        if self.token is not None and not self.token.isascii():
            raise ValueError("the token has characters that are not ASCII")
        open_token = self.token is not None and not self.insecure_token
        if open_token and not self.secure and not _is_loopback(self.target):
            raise ValueError(
                f"the token for {self.target} would be sent without TLS: name tls_ca, or set tls, "
                "or allow it with insecure_token"
            )

    @property
    def secure(self) -> bool:
        """Whether connections use TLS."""
        files = (self.tls_ca, self.tls_certificate)
        return self.tls or self.credentials is not None or any(f is not None for f in files)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with every call."""
        return () if self.token is None else (("authorization", f"Bearer {self.token}"),)

    def channel(self, *, own_connection: bool = False) -> grpc.Channel:
        """A channel for threads.

        Args:
            own_connection: shares no connection and no waiting for one with other channels.

        Raises:
            OSError: a `tls_` file cannot be read.
        """
        credentials, options = self._parts(own_connection)
        if credentials is None:
            return grpc.insecure_channel(self.target, options)
        return grpc.secure_channel(self.target, credentials, options)

    def aio_channel(self, *, own_connection: bool = False) -> grpc.aio.Channel:
        """As `channel`, for the running event loop."""
        credentials, options = self._parts(own_connection)
        if credentials is None:
            return grpc.aio.insecure_channel(self.target, options)
        return grpc.aio.secure_channel(self.target, credentials, options)

    def _parts(
        self, own_connection: bool
    ) -> tuple[grpc.ChannelCredentials | None, list[tuple[str, Any]]]:
        options: list[tuple[str, Any]] = list(channel_options(self.max_answer_bytes))
        if own_connection:
            options.append(("grpc.use_local_subchannel_pool", 1))
        if not self.secure:
            return None, options
        if self.credentials is not None:
            return self.credentials, options
        credentials = grpc.ssl_channel_credentials(
            _read(self.tls_ca), _read(self.tls_key), _read(self.tls_certificate)
        )
        return credentials, options


def _read(file: str | Path | None) -> bytes | None:
    return None if file is None else Path(file).read_bytes()


def _is_loopback(target: str) -> bool:
    if target.startswith("unix:"):
        return True
    host = target.rpartition("/")[2]  # "dns:///localhost:8001"
    host = host.rpartition(":")[0].strip("[]") if ":" in host else host
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
