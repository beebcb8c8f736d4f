# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Real handshakes on loopback: who gets in, and what a running server shows after a change."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.server.certificates import Authority, Pair

from voxgate_server.errors import StartupError
from voxgate_server.security import Authenticator
from voxgate_server.settings import Settings
from voxgate_server.tls import ServerCertificates

TIMEOUT = 20


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("fleet")


@pytest.fixture
def files(tmp_path: Path, authority: Authority) -> tuple[Path, Path]:
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"
    authority.issue("first").write(certificate, key)
    return certificate, key


@asynccontextmanager
async def serving(certificates: ServerCertificates) -> AsyncIterator[int]:
    """A server that answers `/t.T/Who` with the key of its client; gives the port."""
    authenticator = Authenticator(Settings())

    async def who(_: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        client = authenticator.identify(
            context.invocation_metadata() or (), context.peer(), context.auth_context()
        )
        return client.key.encode()

    server = grpc.aio.server()
    handlers = {"Who": grpc.unary_unary_rpc_method_handler(who)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", handlers),))
    port = server.add_secure_port("127.0.0.1:0", certificates.credentials())
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def who(port: int, authority: Authority, client: Pair | None = None) -> str:
    pair = (None, None) if client is None else (client.key, client.certificate)
    credentials = grpc.ssl_channel_credentials(authority.pem, *pair)
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
        answer: bytes = await channel.unary_unary("/t.T/Who")(b"", timeout=TIMEOUT)
        return answer.decode()


async def shown_name(port: int) -> str:
    """The name in the certificate that a new connection is shown."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    async with asyncio.timeout(TIMEOUT):
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        raw = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
    certificate = x509.load_pem_x509_certificate(ssl.DER_cert_to_PEM_cert(raw).encode())
    assert certificate.public_bytes(Encoding.DER) == raw
    return certificate.subject.rfc4514_string()


def poll_twice(certificates: ServerCertificates) -> bool:
    return [certificates.poll(), certificates.poll()] == [False, True]


async def test_a_client_that_trusts_the_authority_gets_in(
    files: tuple[Path, Path], authority: Authority
) -> None:
    async with serving(ServerCertificates(*files)) as port:
        assert await who(port, authority) == "address:127.0.0.1"
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await who(port, Authority("someone else"))
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_the_certificate_rotates_while_the_server_runs(
    files: tuple[Path, Path], authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    certificates = ServerCertificates(*files)
    async with serving(certificates) as port:
        credentials = grpc.ssl_channel_credentials(authority.pem)
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials) as old_channel:
            call = old_channel.unary_unary("/t.T/Who")
            await call(b"", timeout=TIMEOUT)
            assert await shown_name(port) == "CN=first"

            authority.issue("second").write(*files)
            assert await shown_name(port) == "CN=first"
            assert poll_twice(certificates)
            assert await shown_name(port) == "CN=second"
            assert await shown_name(port) == "CN=second"
            assert await who(port, authority) == "address:127.0.0.1"
            assert await call(b"", timeout=TIMEOUT) == b"address:127.0.0.1"
    assert f"TLS certificate reloaded from {files[0]}" in caplog.text


async def test_every_port_follows_the_files(files: tuple[Path, Path], authority: Authority) -> None:
    certificates = ServerCertificates(*files)
    async with serving(certificates) as one, serving(certificates) as other:
        authority.issue("second").write(*files)
        assert poll_twice(certificates)
        assert [await shown_name(port) for port in (one, other)] == ["CN=second"] * 2


@pytest.mark.parametrize(
    "broken", ["half", "empty", "gone", "garbage", "other key", "locked", "world-writable"]
)
async def test_a_broken_change_keeps_the_pair_in_use_and_says_why_once(
    files: tuple[Path, Path],
    authority: Authority,
    broken: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    certificates = ServerCertificates(*files)
    certificate, key = files
    newer = authority.issue("second")
    newer.write(*files)
    if broken == "half":
        certificate.write_bytes(newer.certificate[: len(newer.certificate) // 2])
    elif broken == "empty":
        key.write_bytes(b"")
    elif broken == "gone":
        key.unlink()
    elif broken == "garbage":
        certificate.write_bytes(b"\0\xff" * 500)
    elif broken == "other key":
        key.write_bytes(authority.issue("third").key)
    elif broken == "locked":
        key.write_bytes(authority.issue("second", password=b"hunter2").key)
    else:
        certificate.chmod(0o646)

    assert [certificates.poll() for _ in range(5)] == [False] * 5
    (record,) = caplog.records
    message = record.getMessage()
    assert record.levelno == logging.ERROR
    assert "TLS certificate changed but stays as it was" in message
    assert str(key) in message or str(certificate) in message
    assert "PRIVATE KEY" not in message
    expected = {
        "gone": "No such file",
        "other key": "not the private key of",
        "locked": "store it without a password",
        "world-writable": "chmod o-w",
    }
    assert expected.get(broken, "no PEM certificate with its private key") in message

    async with serving(certificates) as port:
        assert await shown_name(port) == "CN=first"
        certificate.chmod(0o644)
        newer.write(*files)
        assert poll_twice(certificates)
        assert await shown_name(port) == "CN=second"


def test_a_file_still_being_written_is_not_taken(
    files: tuple[Path, Path], authority: Authority
) -> None:
    certificates = ServerCertificates(*files)
    for name in ("second", "third", "fourth"):
        authority.issue(name).write(*files)
        assert not certificates.poll()
    assert certificates.poll()
    assert not certificates.poll()


def test_a_change_that_is_taken_back_is_none(
    files: tuple[Path, Path], authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    certificates = ServerCertificates(*files)
    old = Pair(files[0].read_bytes(), files[1].read_bytes())
    authority.issue("second").write(*files)
    assert not certificates.poll()
    old.write(*files)
    assert not any(certificates.poll() for _ in range(3))
    assert not caplog.records


async def test_mutual_tls_asks_for_a_certificate_of_the_right_authority(
    files: tuple[Path, Path], authority: Authority, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.pem)
    async with serving(ServerCertificates(*files, ca)) as port:
        robot = authority.issue("robot-7", organization="Fleet, Inc.")
        assert await who(port, authority, robot) == r"certificate:CN=robot-7,O=Fleet\, Inc."
        stranger = Authority("fleet").issue("robot-7", organization="Fleet, Inc.")
        for refused_client in (None, stranger):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await who(port, authority, refused_client)
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_the_clients_authority_rotates_too(
    files: tuple[Path, Path], authority: Authority, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.pem)
    certificates = ServerCertificates(*files, ca)
    async with serving(certificates) as port:
        newer = Authority("new fleet")
        robot = newer.issue("robot-8")
        with pytest.raises(grpc.aio.AioRpcError):
            await who(port, authority, robot)
        ca.write_bytes(authority.pem + newer.pem)
        assert poll_twice(certificates)
        assert await who(port, authority, robot) == "certificate:CN=robot-8"
        ca.write_bytes(newer.pem)
        assert poll_twice(certificates)
        with pytest.raises(grpc.aio.AioRpcError):
            await who(port, authority, authority.issue("robot-7"))


async def test_a_renewed_certificate_is_the_same_client(
    files: tuple[Path, Path], authority: Authority, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.pem)
    spiffe = (x509.UniformResourceIdentifier("spiffe://fleet/robot-7"), x509.DNSName("r7.fleet"))
    async with serving(ServerCertificates(*files, ca)) as port:
        for name, alternatives, key in (
            ("robot-7", (), "certificate:CN=robot-7"),
            (None, spiffe, "certificate:names:r7.fleet,spiffe://fleet/robot-7"),
        ):
            keys = {
                await who(port, authority, authority.issue(name, alternatives)) for _ in range(2)
            }
            assert keys == {key}
        nameless = {await who(port, authority, authority.issue(None, ())) for _ in range(2)}
        assert len(nameless) == 2
        assert all(key.startswith("certificate:sha256:") for key in nameless)


def test_what_stops_a_server_from_starting(
    files: tuple[Path, Path], authority: Authority, tmp_path: Path
) -> None:
    certificate, key = files
    no_ca = tmp_path / "ca.pem"
    no_ca.write_text("no authority")
    gone = tmp_path / "gone.pem"
    for arguments, message in (
        ((gone, key), f"{gone}: No such file"),
        ((key, certificate), "no PEM certificate with its private key"),
        ((certificate, key, no_ca), f"{no_ca}: no PEM certificates"),
        ((certificate, key, gone), f"{gone}: No such file"),
        ((certificate, tmp_path), f"{tmp_path}: Is a directory"),
    ):
        with pytest.raises(StartupError, match="TLS certificate") as stopped:
            ServerCertificates(*arguments)
        assert message in str(stopped.value)


def test_without_settings_there_is_no_tls(files: tuple[Path, Path]) -> None:
    certificate, key = files
    assert ServerCertificates.of(Settings()) is None
    assert ServerCertificates.of(Settings(tls_certificate=certificate, tls_key=key)) is not None


def test_a_key_that_everyone_may_read_is_warned_of(
    files: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    ServerCertificates(*files)
    assert not caplog.records
    files[1].chmod(0o644)
    ServerCertificates(*files)
    assert f"chmod o-r {files[1]}" in caplog.text
