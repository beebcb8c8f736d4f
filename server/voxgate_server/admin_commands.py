# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""`voxgate models`: what an operator does with the models of a running server."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import grpc
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from voxgate_protos import admin_pb2 as pb
from voxgate_protos import admin_pb2_grpc as pb_grpc
from voxgate_server.security import is_loopback

_MAX_TOKEN_BYTES = 4096
_CONNECT_SECONDS = 5.0

models = typer.Typer(
    name="models",
    no_args_is_help=True,
    help="List, load, unload and reload the models of a running server.\n\n"
    "Needs the server's admin service, which is off by default and listens on 127.0.0.1 only:\n\n"
    "    voxgate token > admin.token && chmod 600 admin.token\n\n"
    "    voxgate serve --admin-port 8003 --admin-token-file admin.token\n\n"
    "    voxgate models list --admin localhost:8003 --admin-token-file admin.token",
)

Stub: TypeAlias = "pb_grpc.ModelAdminStub"
Call: TypeAlias = Callable[..., Sequence[pb.ModelVersion]]
Name: TypeAlias = Annotated[str, typer.Argument(metavar="NAME", help="The model's folder.")]
Target: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--admin",
        metavar="HOST:PORT",
        help="The admin service. [default: 127.0.0.1 and the port of VOXGATE_ADMIN_PORT]",
    ),
]
TokenFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--admin-token-file",
        envvar="VOXGATE_ADMIN_TOKEN_FILE",
        metavar="FILE",
        help="Its first line is the token. [default: VOXGATE_ADMIN_TOKEN]",
    ),
]
Timeout: TypeAlias = Annotated[
    float,
    typer.Option(
        min=0.1, help="Seconds to wait for the answer; what the server has begun goes on."
    ),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class _CommandError(Exception):
    """What a person must be told before the command exits with 1."""


@models.command("list")
def list_models(
    admin: Target = None,
    token_file: TokenFile = None,
    timeout: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """List every version with its state, and why one failed."""

    def call(stub: Stub, **options: Any) -> Sequence[pb.ModelVersion]:
        return stub.ListModels(pb.ListModelsRequest(), **options).models

    _run(call, admin, token_file, timeout, as_json)


@models.command()
def load(
    name: Name,
    version: Annotated[
        str, typer.Argument(metavar="VERSION", help="[default: the newest in the folder]")
    ] = "",
    admin: Target = None,
    token_file: TokenFile = None,
    timeout: Timeout = 600.0,
    as_json: Json = False,
) -> None:
    """Load a version, or take its changed files over."""

    def call(stub: Stub, **options: Any) -> Sequence[pb.ModelVersion]:
        request = pb.LoadModelRequest(name=name, version=version)
        return [stub.LoadModel(request, **options).model]

    _run(call, admin, token_file, timeout, as_json)


@models.command()
def unload(
    name: Name,
    version: Annotated[
        str, typer.Argument(metavar="VERSION", help="[default: every version]")
    ] = "",
    admin: Target = None,
    token_file: TokenFile = None,
    timeout: Timeout = 600.0,
    as_json: Json = False,
) -> None:
    """Unload a version once its frames are answered, until it is loaded or its files change."""

    def call(stub: Stub, **options: Any) -> Sequence[pb.ModelVersion]:
        request = pb.UnloadModelRequest(name=name, version=version)
        return stub.UnloadModel(request, **options).models

    _run(call, admin, token_file, timeout, as_json)


@models.command()
def reload(
    name: Name,
    version: Annotated[
        str, typer.Argument(metavar="VERSION", help="[default: every one that is not unloaded]")
    ] = "",
    admin: Target = None,
    token_file: TokenFile = None,
    timeout: Timeout = 600.0,
    as_json: Json = False,
) -> None:
    """Load a version anew; the old one answers until the new one does."""

    def call(stub: Stub, **options: Any) -> Sequence[pb.ModelVersion]:
        request = pb.ReloadModelRequest(name=name, version=version)
        return stub.ReloadModel(request, **options).models

    _run(call, admin, token_file, timeout, as_json)


def _run(
    call: Call, admin: str | None, token_file: Path | None, timeout: float, as_json: bool
) -> None:
    try:
        target = _target(admin)
        token = _token(token_file)
        listed = _ask(call, target, token, timeout)
    except _CommandError as error:
        Console(stderr=True).print(Text.assemble(("error: ", "red"), str(error)), soft_wrap=True)
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(json.dumps([_as_dict(model) for model in listed], indent=2))
    else:
        _print(listed)


def _ask(call: Call, target: str, token: str, timeout: float) -> Sequence[pb.ModelVersion]:
    # A proxy that the environment names must not get the token.
    with grpc.insecure_channel(target, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(min(timeout, _CONNECT_SECONDS))
        except grpc.FutureTimeoutError as error:
            raise _CommandError(
                f"no admin service at {target}: is the server running with --admin-port?"
            ) from error
        metadata = (("authorization", f"Bearer {token}"),)
        try:
            return call(pb_grpc.ModelAdminStub(channel), timeout=timeout, metadata=metadata)
        except grpc.RpcError as error:
            details = error.details() if isinstance(error, grpc.Call) else str(error)
            code = error.code().name if isinstance(error, grpc.Call) else "UNKNOWN"
            raise _CommandError(f"{code}: {details}") from error


def _target(admin: str | None) -> str:
    if admin is None:
        port = os.environ.get("VOXGATE_ADMIN_PORT", "")
        if not port:
            raise _CommandError("which server? Give --admin localhost:PORT or VOXGATE_ADMIN_PORT")
        admin = f"127.0.0.1:{port}"
    host, _, port = admin.rpartition(":")
    if not host or not port.isdecimal():
        raise _CommandError(f"--admin is {admin!r}, expected HOST:PORT")
    if not is_loopback(host):
        raise _CommandError(
            f"--admin is {admin!r}: the admin service is reached from its own machine only, and "
            "the token would cross the network readable. Use a tunnel: ssh -L 8003:localhost:PORT "
            f"{host}"
        )
    return admin


def _token(path: Path | None) -> str:
    if path is None:
        token = os.environ.get("VOXGATE_ADMIN_TOKEN", "")
        if not token:
            raise _CommandError("no credential: give --admin-token-file or VOXGATE_ADMIN_TOKEN")
        return _printable(token, "VOXGATE_ADMIN_TOKEN")
    try:
        with path.open("rb") as file:
            first_line = file.read(_MAX_TOKEN_BYTES).partition(b"\n")[0]
    except OSError as error:
        raise _CommandError(f"{path}: {error.strerror}") from error
    return _printable(first_line.decode("utf-8", "replace").strip(), str(path))


def _printable(token: str, source: str) -> str:
    # gRPC refuses other metadata, and would quote it in the refusal.
    if not token or not token.isascii() or not token.isprintable():
        raise _CommandError(f"{source} holds no token: expected a line of printable ASCII")
    return token


def _as_dict(model: pb.ModelVersion) -> dict[str, str | int]:
    return {
        "name": model.name,
        "version": model.version,
        "state": pb.ModelVersion.State.Name(model.state),
        "state_reason": model.state_reason,
        "device": model.device,
        "instances": model.instances,
        "memory_bytes": model.memory_bytes,
    }


def _print(listed: Sequence[pb.ModelVersion]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("model", "version", "state", "device", "instances", "MiB", "reason"):
        table.add_column(column, justify="right" if column in ("instances", "MiB") else "left")
    for model in listed:
        loaded = bool(model.instances)
        table.add_row(
            Text(model.name),
            model.version,
            pb.ModelVersion.State.Name(model.state),
            Text(model.device),
            str(model.instances) if loaded else "",
            f"{model.memory_bytes / (1 << 20):.1f}" if loaded else "",
            Text(model.state_reason),
        )
    Console().print(table if listed else "no models")
