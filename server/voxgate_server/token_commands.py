# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""`voxgate token`."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

import typer
import yaml
from pydantic import ValidationError

from voxgate_server.tokens import TokenEntry, hash_token, new_token


def token(
    name: Annotated[
        str | None,
        typer.Option(
            help="Whose it is: shown in logs, its own in the file. [default: a random one]"
        ),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(
            help="Models that it may use, with commas between; * and ? match as in file names. "
            "[default: all]",
            metavar="A,B",
        ),
    ] = None,
    max_priority: Annotated[
        int | None,
        typer.Option(help="Highest priority that its streams may ask for. [default: the server's]"),
    ] = None,
    max_streams: Annotated[
        int | None,
        typer.Option(help="Streams that it may have open at once. [default: the server's]"),
    ] = None,
    max_in_flight_bytes: Annotated[
        str | None,
        typer.Option(
            help="Bytes that it may have in flight at once, as 67108864 or 64MiB. "
            "[default: the server's]",
            metavar="SIZE",
        ),
    ] = None,
) -> None:
    """Make a bearer token for a client of `voxgate serve --tokens FILE`.

    Prints the token to standard output, once: it is stored nowhere. Prints to standard error the
    entry for FILE, which holds the token's hash and what it may use. A running server takes a
    changed FILE over within seconds; to revoke a token, delete its entry.

    Clients send the token with every call as the metadata `authorization: Bearer TOKEN`.

    Try it:

        voxgate token --name robot-7 --models "kitti-*" > robot-7.token 2>> tokens.yaml

        chmod 600 tokens.yaml robot-7.token

        voxgate serve --tokens tokens.yaml --tls-certificate server.pem --tls-key server.key
    """
    secret = new_token()
    fields: dict[str, Any] = {
        "name": f"client-{secrets.token_hex(4)}" if name is None else name,
        "sha256": hash_token(secret),
        "models": None if models is None else [model.strip() for model in models.split(",")],
        "max_priority": max_priority,
        "max_streams": max_streams,
        "max_in_flight_bytes": max_in_flight_bytes,
    }
    entry = {key: value for key, value in fields.items() if value is not None}
    try:
        TokenEntry.model_validate(entry)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        flag = str(first["loc"][0])
        typer.echo(
            f"error: --{flag.replace('_', '-')}: {first['msg']}, got {entry[flag]!r}", err=True
        )
        raise typer.Exit(2) from None
    typer.echo(
        "# One entry of the file that --tokens names; the token itself is not in it.", err=True
    )
    typer.echo(yaml.safe_dump([entry], sort_keys=False, allow_unicode=True), err=True, nl=False)
    typer.echo(secret)
