# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The server's certificate and the authorities of its clients', replaced without a restart."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

import grpc

from voxgate_server.reloaded_files import ReloadedFiles
from voxgate_server.settings import Settings


class ServerCertificates:
    """TLS from `tls_certificate` and `tls_key`; mutual TLS where there is a `tls_client_ca`.

    Connections that exist keep the certificate they began with, new ones get the newest.

    Raises:
        StartupError: a file is missing or broken, or the key is not the certificate's.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None = None) -> None:
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        paths = [certificate, key] if client_ca is None else [certificate, key, client_ca]
        self._files = ReloadedFiles("TLS certificate", paths, self._parse, private=[key])

    @classmethod
    def of(cls, settings: Settings) -> ServerCertificates | None:
        """Those of `settings`; None for a server without TLS."""
        certificate, key = settings.tls_certificate, settings.tls_key
        if certificate is None or key is None:
            return None
        return cls(certificate, key, settings.tls_client_ca)

    def poll(self) -> bool:
        """Look for changed files; true if new connections now get another certificate."""
        return self._files.poll()

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials for one port: another port needs its own, or it would miss changes."""
        served = self._files.value

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            # gRPC calls this on its own threads before every handshake; None: no change.
            nonlocal served
            newest = self._files.value
            if newest is served:
                return None
            served = newest
            return newest

        return grpc.dynamic_ssl_server_credentials(
            served,
            fetch,  # type: ignore[arg-type]  # the stub knows no None
            require_client_authentication=self._client_ca is not None,
        )

    def _parse(self, contents: Sequence[bytes]) -> grpc.ServerCertificateConfiguration:
        """Check with OpenSSL first: gRPC finds out in a handshake, and tells only the client."""

        def refuse_password() -> str:
            # Without this OpenSSL asks for it on the terminal.
            raise ValueError(f"{self._key}: the key is encrypted: store it without a password")

        chain, key = contents[:2]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # From the paths, as OpenSSL takes no bytes here; the caller sees to their being equal.
            context.load_cert_chain(self._certificate, self._key, password=refuse_password)
        except (ssl.SSLError, OSError) as error:
            reason = _reason(error)
            if "MISMATCH" in reason:
                raise ValueError(
                    f"{self._key}: not the private key of {self._certificate}"
                ) from None
            raise ValueError(
                f"{self._certificate} and {self._key}: no PEM certificate with its private key: "
                f"{reason}"
            ) from None
        authorities = contents[2] if self._client_ca is not None else None
        if authorities is not None:
            try:
                context.load_verify_locations(cadata=authorities.decode("ascii", "replace"))
            except (ssl.SSLError, ValueError) as error:
                reason = _reason(error)
                raise ValueError(f"{self._client_ca}: no PEM certificates: {reason}") from None
        return grpc.ssl_server_certificate_configuration([(key, chain)], authorities)


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
