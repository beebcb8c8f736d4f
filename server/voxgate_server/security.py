# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Who calls, and what they may do: the client behind a call's token, certificate or address."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from urllib.parse import unquote

import grpc

from voxgate_server.errors import StartupError, Unauthenticated
from voxgate_server.reloaded_files import ReloadedFiles
from voxgate_server.settings import Settings
from voxgate_server.tls import ServerCertificates
from voxgate_server.tokens import (
    EXPECTED,
    Metadata,
    TokenEntry,
    TokenFile,
    bearer_token,
    hash_token,
)

AuthContext = Mapping[str, Iterable[bytes]]

_MIN_ADMIN_TOKEN = 16
_MAX_NAME = 128


@dataclass(frozen=True, slots=True)
class Client:
    """Who calls. `key` tells clients apart, `name` is for logs; neither is secret.

    `models` are names, in which `*`, `?` and `[…]` match as in file names; None: all models.
    """

    key: str
    name: str
    models: frozenset[str] | None
    max_priority: int
    max_streams: int
    max_in_flight_bytes: int
    token_sha256: str | None = field(default=None, repr=False)

    def may_use(self, model: str) -> bool:
        return self.models is None or any(fnmatchcase(model, name) for name in self.models)

    def clip_priority(self, priority: int) -> int:
        """`priority`, or the highest that this client may use."""
        return min(priority, self.max_priority)


class Authenticator:
    """Finds the client of a call: its token where tokens are listed, else its certificate's
    subject, else its address without the port.

    Raises:
        StartupError: the file of tokens is missing or broken.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        path = settings.tokens
        self._tokens = TokenFile(path, self._owner) if path is not None else None

    def identify(self, metadata: Metadata, peer: str, auth_context: AuthContext) -> Client:
        """The client of a call, from what its gRPC context says.

        Raises:
            Unauthenticated: there is a file of tokens, and the call has none of them.
        """
        if self._tokens is not None:
            client = self._tokens.find(bearer_token(metadata))
            if client is None:
                raise Unauthenticated(f"{EXPECTED} with a token of this server, got an unknown one")
            return client
        subject, name = _subject(auth_context)
        if subject:
            return self._anyone(f"certificate:{subject}", name)
        address = peer_address(peer)
        return self._anyone(f"address:{address}", address)

    def recheck(self, client: Client) -> Client:
        """`client` with what its token grants by now.

        Raises:
            Unauthenticated: the token was taken off the list since.
        """
        if self._tokens is None or client.token_sha256 is None:
            return client
        newest = self._tokens.find_hash(client.token_sha256)
        if newest is None:
            raise Unauthenticated("the token of this stream is no longer one of this server")
        return newest

    def poll(self) -> bool:
        """Look for a changed file of tokens; true if `recheck` may now answer otherwise."""
        return self._tokens is not None and self._tokens.poll()

    def _anyone(self, key: str, name: str) -> Client:
        """A client of which no token says what it may do."""
        settings = self._settings
        return Client(
            key,
            _printable(name),
            None,
            settings.max_priority,
            settings.max_client_streams,
            settings.max_client_in_flight_bytes,
        )

    def _owner(self, entry: TokenEntry) -> Client:
        granted = {
            name: getattr(entry, name)
            for name in ("max_priority", "max_streams", "max_in_flight_bytes")
            if getattr(entry, name) is not None
        }
        return replace(
            self._anyone(f"token:{entry.name}", entry.name),
            models=None if entry.models is None else frozenset(entry.models),
            token_sha256=entry.sha256,
            **granted,
        )


class AdminCredential:
    """The one token of the admin service, from `admin_token` or the file `admin_token_file`.

    Raises:
        StartupError: neither is set, the file cannot be read, or the token is too short to be one.
    """

    def __init__(self, settings: Settings) -> None:
        given, path = settings.admin_token, settings.admin_token_file
        if given is None and path is None:
            raise StartupError(
                "admin_port: the admin service needs admin_token or admin_token_file. "
                "`voxgate token` makes a token"
            )
        self._file: ReloadedFiles[str] | None = None
        self._fixed = ""
        if path is not None:

            def parse(contents: Sequence[bytes]) -> str:
                first_line = contents[0].partition(b"\n")[0]
                return _admin_hash(first_line.decode("utf-8", "surrogateescape"), str(path))

            self._file = ReloadedFiles("admin token", [path], parse, private=[path])
        elif given is not None:
            try:
                self._fixed = _admin_hash(given.get_secret_value(), "admin_token")
            except ValueError as error:
                raise StartupError(str(error)) from None

    def check(self, metadata: Metadata) -> None:
        """Raise Unauthenticated unless a call's metadata carries the token."""
        expected = self._file.value if self._file is not None else self._fixed
        if not hmac.compare_digest(hash_token(bearer_token(metadata)), expected):
            raise Unauthenticated(f"{EXPECTED} with the admin service's token, got another")

    def poll(self) -> bool:
        """Look for a changed file; true if its token is now the one."""
        return self._file is not None and self._file.poll()


class Security:
    """What a server's settings say about TLS and tokens, and the watch over their files.

    Raises:
        StartupError: the settings are unsafe or incomplete, or a file is missing or broken.
    """

    def __init__(self, settings: Settings) -> None:
        check_startup(settings)
        self._interval = settings.credentials_interval
        self._certificates = ServerCertificates.of(settings)
        self.authenticator = Authenticator(settings)
        self.admin = AdminCredential(settings) if settings.admin_port is not None else None

    def server_credentials(self) -> grpc.ServerCredentials | None:
        """Credentials for one port, which follow the files; None: this server has no TLS."""
        return None if self._certificates is None else self._certificates.credentials()

    def poll(self) -> bool:
        """Look for changed files; true if tokens changed, which open streams may depend on."""
        if self._certificates is not None:
            self._certificates.poll()
        if self.admin is not None:
            self.admin.poll()
        return self.authenticator.poll()

    async def watch(self, on_tokens_changed: Callable[[], None]) -> None:
        """Poll every `credentials_interval` until cancelled; returns at once where that is 0."""
        while self._interval > 0:
            await asyncio.sleep(self._interval)
            # Off the event loop, which a file system that hangs must not hold up.
            if await asyncio.to_thread(self.poll):
                on_tokens_changed()


def check_startup(settings: Settings) -> None:
    """Raise StartupError if anyone on the network could read the tokens that clients send."""
    if settings.tokens is None or settings.tls_certificate is not None:
        return
    if not settings.insecure_tokens and not is_loopback(settings.host):
        raise StartupError(
            f"tokens: would cross the network readable, as host {settings.host} is not loopback "
            "and there is no TLS. Set tls_certificate and tls_key; or host to 127.0.0.1; or, "
            "behind a proxy that ends TLS, insecure_tokens"
        )


def is_loopback(host: str) -> bool:
    """True if only this machine reaches a server that listens on `host`."""
    if host.startswith(("unix:", "unix-abstract:")) or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def peer_address(peer: str) -> str:
    """The address of a gRPC peer without its port: `ipv6:%5B::1%5D:50051` gives `::1`.

    An IPv4 address is the same whether it came over an IPv4 or an IPv6 socket.
    """
    scheme, _, rest = unquote(peer).partition(":")
    if scheme not in ("ipv4", "ipv6"):
        return scheme if scheme.startswith("unix") else peer
    host = rest.rpartition(":")[0].strip("[]")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _subject(auth_context: AuthContext) -> tuple[str, str]:
    """What a verified client certificate is told apart by, and its short name; "" without one.

    The subject outlives the certificate's renewal. Where it is empty, as in SPIFFE, the
    alternative names take its place, and where there are none the certificate itself.
    """

    def first(name: str) -> bytes:
        return next(iter(auth_context.get(name, ())), b"")

    certificate = first("x509_pem_cert")
    if not certificate:
        return "", ""
    subject = first("x509_subject").decode("utf-8", "replace")
    if subject:
        return subject, first("x509_common_name").decode("utf-8", "replace") or subject
    names = sorted(
        name.decode("utf-8", "replace")
        for name in auth_context.get("x509_subject_alternative_name", ())
    )
    if names:
        return f"names:{','.join(names)}", names[0]
    fingerprint = hashlib.sha256(certificate).hexdigest()
    return f"sha256:{fingerprint}", f"certificate {fingerprint[:16]}"


def _admin_hash(token: str, source: str) -> str:
    token = token.strip()
    if len(token) < _MIN_ADMIN_TOKEN:
        raise ValueError(
            f"{source}: {len(token)} characters are too few for a token, "
            f"{_MIN_ADMIN_TOKEN} are the least. `voxgate token` makes one"
        )
    return hash_token(token)


def _printable(name: str) -> str:
    """`name` fit for a log line, whatever a certificate says."""
    return "".join(c if c.isprintable() else "?" for c in name[:_MAX_NAME])
