# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Which client a call is from, what it may do, and which settings are refused."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

import pytest
import typer
import yaml
from pydantic import SecretStr, ValidationError
from tests.server.certificates import Authority
from typer.testing import CliRunner

from voxgate_server.commands import serve
from voxgate_server.errors import StartupError, Unauthenticated
from voxgate_server.security import (
    AdminCredential,
    Authenticator,
    Client,
    Security,
    check_startup,
    is_loopback,
    peer_address,
)
from voxgate_server.settings import Settings
from voxgate_server.tokens import hash_token, new_token

SECRETS = [new_token() for _ in range(3)]
PEER = "ipv4:10.1.2.3:50123"
CERTIFIED: Mapping[str, list[bytes]] = {
    "x509_pem_cert": [b"-----BEGIN CERTIFICATE-----"],
    "x509_subject": [b"CN=robot-7,O=Fleet"],
    "x509_common_name": [b"robot-7"],
}


def bearing(token: str) -> list[tuple[str, str]]:
    return [("user-agent", "x"), ("authorization", f"Bearer {token}")]


def write(path: Path, *entries: dict[str, object]) -> Path:
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(list(entries)))
    return path


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    return write(
        tmp_path / "tokens.yaml",
        {"name": "plain", "sha256": hash_token(SECRETS[0])},
        {
            "name": "rich",
            "sha256": hash_token(SECRETS[1]),
            "models": ["kitti-*", "one"],
            "max_priority": 5,
            "max_streams": 2,
            "max_in_flight_bytes": "1MiB",
        },
    )


# Who ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:1.2.3.4:555", "1.2.3.4"),
        ("ipv6:[::1]:555", "::1"),
        ("ipv6:%5B::1%5D:555", "::1"),
        ("ipv6:%5B2001:DB8:0:0::7%5D:555", "2001:db8::7"),
        ("ipv6:%5B::ffff:1.2.3.4%5D:555", "1.2.3.4"),
        ("ipv6:%5Bfe80::1%25eth0%5D:555", "fe80::1%eth0"),
        ("unix:", "unix"),
        ("unix:/run/voxgate.sock", "unix"),
        ("unix-abstract:voxgate", "unix-abstract"),
        ("vsock:3:555", "vsock:3:555"),
    ],
)
def test_an_address_is_its_peer_without_the_port(peer: str, address: str) -> None:
    assert peer_address(peer) == address


def test_a_client_is_its_address_where_there_is_nothing_else() -> None:
    settings = Settings(max_priority=4, max_client_streams=9, max_client_in_flight_bytes="300MiB")
    authenticator = Authenticator(settings)
    client = authenticator.identify([], PEER, {})
    assert client == Client("address:10.1.2.3", "10.1.2.3", None, 4, 9, 300 << 20)
    assert authenticator.identify([], "ipv4:10.1.2.3:1", {}) == client
    assert authenticator.identify([], "ipv4:10.1.2.4:50123", {}) != client
    # A token says nothing to a server that lists none.
    assert authenticator.identify(bearing(SECRETS[0]), PEER, {}) == client


def test_a_client_is_its_certificates_subject() -> None:
    client = Authenticator(Settings()).identify([], PEER, CERTIFIED)
    assert (client.key, client.name) == ("certificate:CN=robot-7,O=Fleet", "robot-7")
    assert client.max_priority == 0 and client.models is None


def test_a_subject_without_a_certificate_is_nobodys() -> None:
    """What gRPC says of a connection without a verified certificate is never taken for one."""
    claimed = {"x509_subject": [b"CN=robot-7"], "transport_security_type": [b"insecure"]}
    assert Authenticator(Settings()).identify([], PEER, claimed).key == "address:10.1.2.3"


def test_a_subject_cannot_break_a_log_line() -> None:
    evil = {**CERTIFIED, "x509_common_name": [b"a\n2026 ERROR \x1b[31m" + b"x" * 500 + b"\xff"]}
    name = Authenticator(Settings()).identify([], PEER, evil).name
    assert name.startswith("a?2026 ERROR ?[31mxxx") and len(name) == 128


def test_a_client_is_its_token_whatever_else_it_has(tokens: Path) -> None:
    authenticator = Authenticator(Settings(tokens=tokens, max_priority=1))
    for auth_context in ({}, CERTIFIED):
        plain = authenticator.identify(bearing(SECRETS[0]), PEER, auth_context)
        assert (plain.key, plain.name, plain.models) == ("token:plain", "plain", None)
        assert (plain.max_priority, plain.max_streams) == (1, 1024)
        assert plain.max_in_flight_bytes == 256 << 20
        rich = authenticator.identify(bearing(SECRETS[1]), PEER, auth_context)
        assert (rich.key, rich.models) == ("token:rich", frozenset({"kitti-*", "one"}))
        assert (rich.max_priority, rich.max_streams) == (5, 2)
        assert rich.max_in_flight_bytes == 1 << 20


@pytest.mark.parametrize("metadata", [[], bearing(SECRETS[2]), bearing(hash_token(SECRETS[0]))])
def test_where_tokens_are_listed_nobody_else_gets_in(
    tokens: Path, metadata: list[tuple[str, str]]
) -> None:
    authenticator = Authenticator(Settings(tokens=tokens))
    for auth_context in ({}, CERTIFIED):
        with pytest.raises(Unauthenticated) as refused:
            authenticator.identify(metadata, PEER, auth_context)
        assert "`authorization: Bearer TOKEN`" in str(refused.value)
        assert "vxg_" not in str(refused.value)


# What -----------------------------------------------------------------------------------------


def client(*models: str, max_priority: int = 0) -> Client:
    return Client("token:a", "a", frozenset(models) or None, max_priority, 1, 1)


def test_models_match_as_file_names_do() -> None:
    assert client().may_use("anything")
    limited = client("one", "kitti-*")
    assert [limited.may_use(name) for name in ("one", "kitti-", "kitti-3", "One", "one1", "")] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]


def test_priorities_are_clipped() -> None:
    assert [client().clip_priority(p) for p in (-7, 0, 1, 99)] == [-7, 0, 0, 0]
    assert [client(max_priority=3).clip_priority(p) for p in (-7, 3, 4)] == [-7, 3, 3]
    assert client(max_priority=-1).clip_priority(0) == -1


# Changes while streams are open ----------------------------------------------------------------


def test_an_open_streams_client_is_checked_again_when_tokens_change(tokens: Path) -> None:
    authenticator = Authenticator(Settings(tokens=tokens))
    plain = authenticator.identify(bearing(SECRETS[0]), PEER, {})
    rich = authenticator.identify(bearing(SECRETS[1]), PEER, {})
    assert authenticator.recheck(plain) == plain
    write(tokens, {"name": "rich", "sha256": hash_token(SECRETS[1]), "models": ["one"]})
    assert [authenticator.poll(), authenticator.poll()] == [False, True]
    newest = authenticator.recheck(rich)
    assert newest.models == frozenset({"one"}) and newest.key == rich.key
    with pytest.raises(Unauthenticated, match="no longer"):
        authenticator.recheck(plain)
    # The same name with a new token: who holds the old one is out.
    write(tokens, {"name": "rich", "sha256": hash_token(SECRETS[2])})
    assert [authenticator.poll(), authenticator.poll()] == [False, True]
    with pytest.raises(Unauthenticated):
        authenticator.recheck(rich)


def test_without_tokens_a_client_stays_who_it_is() -> None:
    authenticator = Authenticator(Settings())
    client = authenticator.identify([], PEER, {})
    assert not authenticator.poll()
    assert authenticator.recheck(client) is client


async def test_the_watch_calls_when_tokens_have_changed(tokens: Path, tmp_path: Path) -> None:
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"
    Authority("a").issue("first").write(certificate, key)
    settings = Settings(
        tokens=tokens, tls_certificate=certificate, tls_key=key, credentials_interval=0.001
    )
    security = Security(settings)
    assert security.server_credentials() is not None
    changed = asyncio.Event()
    watch = asyncio.create_task(security.watch(changed.set))
    write(tokens, {"name": "new", "sha256": hash_token(SECRETS[2])})
    async with asyncio.timeout(20):
        await changed.wait()
    assert security.authenticator.identify(bearing(SECRETS[2]), PEER, {}).name == "new"
    watch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watch


async def test_no_interval_no_watch(tokens: Path) -> None:
    settings = Settings(tokens=tokens, host="127.0.0.1", credentials_interval=0)
    async with asyncio.timeout(20):
        await Security(settings).watch(lambda: pytest.fail("nothing was watched"))


# Settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("unix:/run/voxgate.sock", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("127.0.0.1.example.org", False),
        ("localhost.example.org", False),
        ("robot-gateway", False),
    ],
)
def test_tokens_without_tls_need_a_loopback_host(host: str, loopback: bool, tokens: Path) -> None:
    assert is_loopback(host) == loopback
    settings = Settings(host=host, tokens=tokens)
    if loopback:
        check_startup(settings)
    else:
        with pytest.raises(StartupError) as refused:
            check_startup(settings)
        for text in (host, "tls_certificate", "127.0.0.1", "insecure_tokens"):
            assert text in str(refused.value)
        with pytest.raises(StartupError):
            Security(settings)
    check_startup(Settings(host=host, tokens=tokens, insecure_tokens=True))
    check_startup(Settings(host=host, tokens=tokens, tls_certificate="a.pem", tls_key="a.key"))
    check_startup(Settings(host=host))


def test_without_tls_and_tokens_nothing_is_asked_for() -> None:
    security = Security(Settings())
    assert security.server_credentials() is None
    assert security.admin is None
    assert not security.poll()


# The admin service ----------------------------------------------------------------------------


@pytest.mark.parametrize("from_file", [False, True])
def test_the_admin_service_takes_its_own_token_only(
    tokens: Path, tmp_path: Path, from_file: bool
) -> None:
    path = tmp_path / "admin.token"
    path.touch(mode=0o600)
    path.write_text(f"{SECRETS[2]}\nanother line\n")
    given = {"admin_token_file": path} if from_file else {"admin_token": SecretStr(SECRETS[2])}
    settings = Settings(host="127.0.0.1", tokens=tokens, admin_port=0, **given)
    admin = Security(settings).admin
    assert admin is not None
    admin.check(bearing(SECRETS[2]))
    for metadata in ([], bearing(SECRETS[0]), bearing("another line")):
        with pytest.raises(Unauthenticated) as refused:
            admin.check(metadata)
        assert "`authorization: Bearer TOKEN`" in str(refused.value)
        assert "vxg_" not in str(refused.value)
    path.write_text(SECRETS[1])
    assert [admin.poll(), admin.poll()] == [False, from_file]
    admin.check(bearing(SECRETS[1] if from_file else SECRETS[2]))


def test_the_admin_service_does_not_start_without_a_token(tmp_path: Path) -> None:
    short, gone = tmp_path / "short", tmp_path / "gone"
    short.write_text("hunter2\n")
    for given, message in (
        ({}, "needs admin_token or admin_token_file"),
        ({"admin_token": SecretStr("hunter2")}, "admin_token: 7 characters are too few"),
        ({"admin_token_file": short}, f"{short}: 7 characters are too few"),
        ({"admin_token_file": gone}, f"{gone}: No such file"),
    ):
        with pytest.raises(StartupError) as refused:
            AdminCredential(Settings(admin_port=0, **given))
        assert message in str(refused.value)
        assert "hunter2" not in str(refused.value)


# Secrets --------------------------------------------------------------------------------------


def test_no_secret_is_in_any_repr_or_log(
    tokens: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    settings = Settings(
        host="127.0.0.1", tokens=tokens, admin_port=0, admin_token=SecretStr(SECRETS[2])
    )
    security = Security(settings)
    authenticator, admin = security.authenticator, security.admin
    client = authenticator.identify(bearing(SECRETS[0]), PEER, {})
    write(tokens, {"name": "new", "sha256": SECRETS[0]})
    assert not any(security.poll() for _ in range(3))
    write(tokens, {"name": "new", "sha256": hash_token(SECRETS[0])})
    assert [security.poll() for _ in range(2)] == [False, True]
    said = [caplog.text, *map(repr, (settings, security, authenticator, admin, client))]
    said += [str(settings), str(client), settings.model_dump_json(), str(settings.model_dump())]
    assert "list of tokens reloaded" in caplog.text
    for secret in (*SECRETS, *map(hash_token, SECRETS)):
        assert not any(secret in text for text in said)


def test_no_secret_is_in_what_is_said_of_bad_settings(tmp_path: Path) -> None:
    given = {"admin_token": SECRETS[0], "tls_certificate": tmp_path}, {"admin_token": [SECRETS[0]]}
    for bad in given:
        with pytest.raises(ValidationError) as refused:
            Settings(**bad)  # type: ignore[arg-type]
        assert SECRETS[0] not in str(refused.value) + repr(refused.value)


def test_the_printed_settings_have_no_secret(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(serve)
    environment = {"VOXGATE_ADMIN_TOKEN": SECRETS[0]}
    printed = CliRunner().invoke(app, ["--print-config"], env=environment)
    refused = CliRunner().invoke(app, ["--tls-key", "a"], env=environment)
    assert (printed.exit_code, refused.exit_code) == (0, 2)
    assert "admin_token: **********" in printed.output and "tls_key" in refused.output
    assert SECRETS[0] not in printed.output + refused.output
