# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The admin service on its port, and `voxgate models` as an operator types it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.server.model_folders import Bench, put
from typer.testing import CliRunner

from voxgate_protos import admin_pb2 as pb
from voxgate_protos import admin_pb2_grpc as pb_grpc
from voxgate_server.admin_commands import models as models_command
from voxgate_server.admin_service import SERVICE_NAME, AdminServer
from voxgate_server.errors import StartupError
from voxgate_server.security import AdminCredential
from voxgate_server.settings import Settings

TOKEN = "correct-horse-battery-staple"
Credential = tuple[tuple[str, str], ...]
GOOD: Credential = (("authorization", f"Bearer {TOKEN}"),)


class Operator:
    """A server's admin port and a client of it."""

    def __init__(self, bench: Bench, port: int, stub: Any, refused: list[None]) -> None:
        self.bench = bench
        self.port = port
        self.stub = stub
        self.refused = refused

    async def call(self, method: str, request: Any, credential: Credential = GOOD) -> Any:
        return await getattr(self.stub, method)(request, metadata=credential, timeout=30)

    async def states(self) -> list[tuple[str, str, str]]:
        listed = (await self.call("ListModels", pb.ListModelsRequest())).models
        return [(m.name, m.version, pb.ModelVersion.State.Name(m.state)) for m in listed]

    async def type(self, *words: str, **environment: str | None) -> tuple[int, str, str]:
        """The exit code and what `voxgate models WORDS` prints, run beside the server's loop."""
        clean = {"VOXGATE_ADMIN_PORT": None, "VOXGATE_ADMIN_TOKEN": None, "COLUMNS": "300"}
        ran = await asyncio.to_thread(
            CliRunner().invoke, models_command, list(words), env=clean | environment
        )
        return ran.exit_code, ran.stdout, ran.stderr


@pytest.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    root = tmp_path / "models"
    for version in (1, 2, 10):
        put(root, "unet", version)
    put(root, "other", 1, "broken")
    bench = Bench(root)
    await bench.repository.start()
    refused: list[None] = []
    check = AdminCredential(Settings(admin_port=0, admin_token=TOKEN)).check  # type: ignore[arg-type]
    server = AdminServer(bench.repository, check, lambda: refused.append(None))
    port = await server.start(0)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Operator(bench, port, pb_grpc.ModelAdminStub(channel), refused)  # type: ignore[no-untyped-call]
    bench.loader.go_on.set()
    await server.stop()
    await bench.repository.close()


LOADED = [
    ("other", "1", "FAILED"),
    ("unet", "1", "READY"),
    ("unet", "2", "READY"),
    ("unet", "10", "READY"),
]


async def test_every_state_is_listed(operator: Operator) -> None:
    assert await operator.states() == LOADED
    listed = (await operator.call("ListModels", pb.ListModelsRequest())).models
    assert listed[0].state_reason == "model.onnx is broken" and not listed[0].instances
    assert (listed[1].device, listed[1].instances, listed[1].memory_bytes) == ("cpu", 1, 7)
    leave = asyncio.Event()
    operator.bench.on_retire = lambda model: leave.wait()
    unloading = asyncio.create_task(
        operator.call("UnloadModel", pb.UnloadModelRequest(name="unet", version="10"))
    )
    while ("unet", "10", "UNLOADING") not in await operator.states():
        pass
    leave.set()
    (unloaded,) = (await unloading).models
    assert (unloaded.name, unloaded.version) == ("unet", "10")
    assert await operator.states() == [*LOADED[:-1], ("unet", "10", "UNLOADED")]
    operator.bench.loader.hold = True
    operator.bench.loader.entered.clear()
    loading = asyncio.create_task(operator.call("LoadModel", pb.LoadModelRequest(name="unet")))
    assert await asyncio.to_thread(operator.bench.loader.entered.wait, 20)
    assert ("unet", "10", "LOADING") in await operator.states()
    operator.bench.loader.go_on.set()
    assert (await loading).model.state == pb.ModelVersion.READY
    assert await operator.states() == LOADED


async def test_models_are_unloaded_loaded_and_reloaded(operator: Operator) -> None:
    answer = await operator.call("UnloadModel", pb.UnloadModelRequest(name="unet"))
    assert [m.version for m in answer.models] == ["1", "2", "10"]
    answer = await operator.call("LoadModel", pb.LoadModelRequest(name="unet", version="2"))
    assert answer.model.version == "2"
    answer = await operator.call("ReloadModel", pb.ReloadModelRequest(name="unet"))
    assert [m.version for m in answer.models] == ["2"]
    put(operator.bench.root, "other", 1, "repaired")
    await operator.call("LoadModel", pb.LoadModelRequest(name="other"))
    assert operator.bench.serving("other") == "repaired"


@pytest.mark.parametrize(
    ("name", "version", "code", "told"),
    [
        ("nope", "", grpc.StatusCode.NOT_FOUND, "'nope'"),
        ("unet", "3", grpc.StatusCode.NOT_FOUND, "3"),
        ("../etc", "", grpc.StatusCode.INVALID_ARGUMENT, "'../etc'"),
        ("unet", "latest", grpc.StatusCode.INVALID_ARGUMENT, "'latest'"),
        ("other", "", grpc.StatusCode.FAILED_PRECONDITION, "model.onnx is broken"),
        ("n" * 10_000, "", grpc.StatusCode.INVALID_ARGUMENT, "nnn…"),
        ("n" * 20_000, "", grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max"),
    ],
)
async def test_errors_are_statuses_with_their_values(
    operator: Operator, name: str, version: str, code: grpc.StatusCode, told: str
) -> None:
    for method in ("LoadModel", "ReloadModel"):
        request = getattr(pb, f"{method}Request")(name=name, version=version)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await operator.call(method, request)
        assert caught.value.code() == code
        assert told in (caught.value.details() or "")
    assert await operator.states() == LOADED


async def test_a_server_that_stops_says_so(operator: Operator) -> None:
    await operator.bench.repository.close()
    with pytest.raises(grpc.aio.AioRpcError, match="the server is stopping") as caught:
        await operator.call("LoadModel", pb.LoadModelRequest(name="unet"))
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    "credential",
    [
        (),
        (("authorization", TOKEN),),
        (("authorization", f"Bearer {TOKEN[:-1]}"),),
        (("authorization", f"Bearer {TOKEN}x"),),
        (("authorization", "Bearer "),),
        (("authorization", f"Basic {TOKEN}"),),
        (("x-authorization", f"Bearer {TOKEN}"),),
        (("authorization-bin", b"Bearer " + TOKEN.encode()),),
    ],
)
async def test_every_call_needs_the_credential(
    operator: Operator, credential: Credential, caplog: pytest.LogCaptureFixture
) -> None:
    calls = [
        ("ListModels", pb.ListModelsRequest()),
        ("LoadModel", pb.LoadModelRequest(name="unet")),
        ("UnloadModel", pb.UnloadModelRequest(name="unet")),
        ("ReloadModel", pb.ReloadModelRequest(name="unet")),
    ]
    for method, request in calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await operator.call(method, request, credential)
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert TOKEN[:-1] not in (caught.value.details() or "")
    assert len(operator.refused) == len(calls)
    assert TOKEN[:-1] not in caplog.text and "LoadModel refused" in caplog.text
    assert await operator.states() == LOADED
    assert operator.bench.loads("unet") == (3, 0)


async def test_nothing_is_parsed_and_no_method_told_without_the_credential(
    operator: Operator,
) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{operator.port}") as channel:
        for method in ("LoadModel", "NoSuchMethod"):
            call = channel.unary_unary(f"/{SERVICE_NAME}/{method}")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(b"\xff\xff no message", timeout=30)
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_only_this_machine_reaches_it(operator: Operator) -> None:
    with socket.create_connection(("127.0.0.1", operator.port), timeout=10):
        pass
    for address in {"127.0.0.2", socket.gethostbyname(socket.gethostname())} - {"127.0.0.1"}:
        with pytest.raises(OSError, match="refused|timed out|unreachable"):
            socket.create_connection((address, operator.port), timeout=10)


async def test_a_port_in_use_is_named(operator: Operator) -> None:
    with pytest.raises(StartupError, match=f"127.0.0.1:{operator.port}.*--admin-port"):
        await AdminServer(operator.bench.repository, lambda _: None).start(operator.port)


# voxgate models -----------------------------------------------------------------------------------


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    path = tmp_path / "admin.token"
    path.write_text(f"{TOKEN}\nnot this line\n")
    return str(path)


async def test_the_command_does_what_the_service_does(operator: Operator, token_file: str) -> None:
    where = ("--admin", f"localhost:{operator.port}", "--admin-token-file", token_file)
    code, out, _ = await operator.type("list", *where)
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["model", "version", "state", "device", "instances", "MiB", "reason"]
    assert rows[1] == ["other", "1", "FAILED", "model.onnx", "is", "broken"]
    assert rows[4] == ["unet", "10", "READY", "cpu", "1", "0.0"]
    code, out, _ = await operator.type("unload", "unet", "10", *where)
    assert code == 0 and "UNLOADED" in out
    code, out, _ = await operator.type("load", "unet", "--json", *where)
    assert code == 0
    assert json.loads(out)[0] == {
        "name": "unet",
        "version": "10",
        "state": "READY",
        "state_reason": "",
        "device": "cpu",
        "instances": 1,
        "memory_bytes": 7,
    }
    code, out, _ = await operator.type("reload", "unet", *where)
    assert code == 0 and out.count("READY") == 3
    code, _, err = await operator.type("load", "other", *where)
    assert code == 1 and "FAILED_PRECONDITION" in err and "model.onnx is broken" in err


async def test_the_environment_names_the_server(operator: Operator) -> None:
    port = str(operator.port)
    code, out, _ = await operator.type(
        "list", VOXGATE_ADMIN_PORT=port, VOXGATE_ADMIN_TOKEN=TOKEN, http_proxy="http://127.0.0.1:1"
    )
    assert code == 0 and "unet" in out
    code, _, err = await operator.type(
        "list", VOXGATE_ADMIN_PORT=port, VOXGATE_ADMIN_TOKEN="a-wrong-token-of-some-length"
    )
    assert code == 1 and "UNAUTHENTICATED" in err and "a-wrong-token" not in err


async def test_mistakes_are_explained(operator: Operator, token_file: str, tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\x00\n")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nobody = f"127.0.0.1:{silent.getsockname()[1]}"
        for words, told in [
            ([], "--admin"),
            (["--admin", "localhost"], "expected HOST:PORT"),
            (["--admin", "robot.example:8003", "--admin-token-file", token_file], "ssh -L"),
            (["--admin", nobody], "VOXGATE_ADMIN_TOKEN"),
            (["--admin", nobody, "--admin-token-file", str(tmp_path / "gone")], "No such file"),
            (["--admin", nobody, "--admin-token-file", str(binary)], "holds no token"),
            (
                ["--admin", nobody, "--admin-token-file", token_file, "--timeout", "0.2"],
                f"no admin service at {nobody}",
            ),
        ]:
            code, _, err = await operator.type("list", *words)
            assert code == 1 and told in err
