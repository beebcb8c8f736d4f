# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What the commands that talk to a server share: its options, its model, their errors."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypedDict

import grpc
import typer
from rich.console import Console
from rich.text import Text

from voxgate_client.client import VoxgateClient
from voxgate_client.messages import ModelDescription, QueuePolicy, VoxgateRpcError

TOKEN_VARIABLE = "VOXGATE_TOKEN"
_CONNECT_TIMEOUT_S = 10.0
_SERVER = "The server"
_QUEUE = "What the server does with frames"


class CommandError(Exception):
    """What a person must be told before the command exits with 1."""


class Policy(StrEnum):
    """QueuePolicy as an option's values."""

    fifo = "fifo"
    latest = "latest"

    @property
    def queue_policy(self) -> QueuePolicy:
        return QueuePolicy[self.value.upper()]


FilesArgument = Annotated[
    list[Path] | None,
    typer.Argument(metavar="FILE…", help="Scans: .bin, .npy, .npz, .pcd or .ply."),
]
ModelOption = Annotated[
    str | None, typer.Option(help="Which model answers. [default: the server's only one]")
]
ColumnsOption = Annotated[
    int | None,
    typer.Option(
        help="float32 per point of a .bin file, if it is neither 4 (KITTI) nor 5 (nuScenes)."
    ),
]
FillOption = Annotated[
    float | None, typer.Option(help="Value for a feature that a file does not have.")
]
SimulateOption = Annotated[int, typer.Option(min=0, help="Send so many simulated sweeps.")]
BeamsOption = Annotated[int, typer.Option(help="Beams of the simulated sensor: 32 or 64.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Of the simulated street.")]

PolicyOption = Annotated[
    Policy,
    typer.Option(
        help="When frames come faster than answers: fifo keeps them in a queue, latest drops "
        "all but the newest.",
        rich_help_panel=_QUEUE,
    ),
]
DeadlineOption = Annotated[
    float | None,
    typer.Option(
        min=0.001,
        metavar="SECONDS",
        help="A frame that waited longer is not run.",
        rich_help_panel=_QUEUE,
    ),
]
PriorityOption = Annotated[
    int,
    typer.Option(help="Higher goes first, as far as the server lets you.", rich_help_panel=_QUEUE),
]

TargetOption = Annotated[str, typer.Option(help="host:port", rich_help_panel=_SERVER)]
TlsOption = Annotated[
    bool,
    typer.Option("--tls", help="Use TLS with the system's authorities.", rich_help_panel=_SERVER),
]
TlsCaOption = Annotated[
    Path | None,
    typer.Option(help="Use TLS and trust this PEM file.", rich_help_panel=_SERVER),
]
TlsCertificateOption = Annotated[
    Path | None,
    typer.Option(help="PEM file that identifies this client.", rich_help_panel=_SERVER),
]
TlsKeyOption = Annotated[Path | None, typer.Option(help="Its key.", rich_help_panel=_SERVER)]
TokenFileOption = Annotated[
    Path | None,
    typer.Option(
        help=f"File with the bearer token. [default: the environment's {TOKEN_VARIABLE}]",
        rich_help_panel=_SERVER,
    ),
]
InsecureTokenOption = Annotated[
    bool,
    typer.Option(
        "--insecure-token",
        help="Send the token without TLS, readable on the way.",
        rich_help_panel=_SERVER,
    ),
]


class Connection(TypedDict):
    """Arguments of both clients."""

    target: str
    tls: bool
    tls_ca: Path | None
    tls_certificate: Path | None
    tls_key: Path | None
    token: str | None
    insecure_token: bool


def connection(
    target: str,
    tls: bool,
    tls_ca: Path | None,
    tls_certificate: Path | None,
    tls_key: Path | None,
    token_file: Path | None,
    insecure_token: bool,
) -> Connection:
    """The clients' arguments; the token comes from its file or the environment.

    Raises:
        OSError: the token's file cannot be read.
        CommandError: it is empty.
    """
    token = os.environ.get(TOKEN_VARIABLE) or None
    if token_file is not None:
        token = token_file.read_text().strip()
        if not token:
            raise CommandError(f"{token_file} is empty, expected a token")
    return Connection(
        target=target,
        tls=tls,
        tls_ca=tls_ca,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        token=token,
        insecure_token=insecure_token,
    )


def choose_model(client: VoxgateClient, name: str | None) -> ModelDescription:
    """The named model, or the server's only one.

    Raises:
        CommandError: no server, no such model, or several to choose from.
    """
    try:
        models = client.list_models(_CONNECT_TIMEOUT_S)
    except VoxgateRpcError as error:
        if error.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            raise CommandError(
                f"no server at {client.target} ({error.message}).\n"
                "Start one with: voxgate serve --models models    (or name another with --target; "
                "one with TLS wants --tls-ca FILE, or --tls)"
            ) from error
        if error.code is grpc.StatusCode.UNAUTHENTICATED:
            raise CommandError(
                f"{client.target} wants to know who asks ({error.message}).\n"
                f"Put a token into the environment's {TOKEN_VARIABLE}, or name a --token-file"
            ) from error
        raise
    ready = [model for model in models if model.state == "READY"]
    fitting = [model for model in ready if name is None or model.name == name]
    if len({model.name for model in fitting}) == 1:
        return fitting[0]
    known = ", ".join(sorted({model.name for model in ready})) or "none"
    if name is None and fitting:
        raise CommandError(f"the server has several models, choose one with --model: {known}")
    failed = [f"{m.name} {m.version}: {m.state} {m.state_reason}".rstrip() for m in models]
    listed = [line for line, m in zip(failed, models, strict=True) if m not in ready]
    which = f"no model {name!r}" if name is not None else "no model"
    raise CommandError("\n".join([f"{which} is ready at {client.target}; ready: {known}", *listed]))


def print_error(console: Console, error: Any) -> None:
    """An error as the commands print them."""
    console.print(Text.assemble(("error: ", "red"), str(error)), soft_wrap=True)
