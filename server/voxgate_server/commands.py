# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""`voxgate serve`."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from voxgate_server import app
from voxgate_server.app import Addresses
from voxgate_server.errors import StartupError
from voxgate_server.repository import Model
from voxgate_server.settings import Settings


def serve(
    models: Annotated[
        Path | None,
        typer.Option(
            help="Folder with the models: DIR/NAME/VERSION/model.onnx, VERSION a whole number "
            "from 1. A broken model is listed as FAILED and stops no other. [default: models]",
            metavar="DIR",
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on; 127.0.0.1 for this machine only. [default: 0.0.0.0]"
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            help="gRPC: inference, grpc.health.v1 and reflection. 0: any free one. [default: 8001]"
        ),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            help="HTTP: /metrics (Prometheus), /livez and /readyz. 0: any free one. [default: 8002]"
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(help="Threads that one run of a model uses. [default: one per core]"),
    ] = None,
) -> None:
    """Serve models over gRPC.

    Loads every model below --models, listens, and answers frames until it is stopped. On SIGTERM
    or Ctrl-C it refuses new frames, answers the ones it has admitted and exits; a second Ctrl-C
    exits at once. Every flag has a variable, which the flag overrides: VOXGATE_PORT and so on.

    Try it:

        voxgate export sparse_unet models/sparse_unet/1/model.onnx

        voxgate serve --models models

        voxgate stream sweep.bin    (in a second terminal)
    """
    console = Console(stderr=True)
    given: dict[str, Any] = {
        "models": models,
        "host": host,
        "port": port,
        "metrics_port": metrics_port,
        "threads": threads,
    }
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})
        _run(settings)
    except ValidationError as error:
        for item in error.errors():
            where = ".".join(str(part) for part in item["loc"])
            _complain(console, f"{where}: {item['msg']}, got {item['input']!r}")
        raise typer.Exit(2) from error
    except StartupError as error:
        _complain(console, str(error))
        raise typer.Exit(1) from error


def _complain(console: Console, message: str) -> None:
    console.print(Text.assemble(("error: ", "red"), message), soft_wrap=True)


def _run(settings: Settings) -> None:
    asyncio.run(app.serve(settings, _announce))


def _announce(addresses: Addresses, models: list[Model]) -> None:
    # Plain lines, flushed: whatever starts the server can wait for the last one.
    for model in models:
        state = "ready" if model.engine is not None else f"FAILED: {model.reason}"
        print(f"model {model.name} version {model.version}: {state}")
    host = f"[{addresses.host}]" if ":" in addresses.host else addresses.host
    print(f"metrics: http://{host}:{addresses.metrics_port}/metrics")
    print(f"serving: {host}:{addresses.port}", flush=True)
