# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""`voxgate serve`: its flags are the fields of `Settings`."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from pydantic import ByteSize, SecretStr
from pydantic.fields import FieldInfo
from rich.console import Console
from rich.text import Text

from voxgate_server import logs
from voxgate_server.errors import StartupError
from voxgate_server.settings import Settings
from voxgate_server.settings_layers import (
    SettingsError,
    as_yaml,
    fields,
    load_settings,
    panel_of,
    plain,
)

if TYPE_CHECKING:
    from voxgate_server.app import Addresses
    from voxgate_server.repository import Model

_METAVARS: dict[object, str] = {
    int: "N",
    float: "SECONDS",
    ByteSize: "SIZE",
    Path: "PATH",
    SecretStr: "SECRET",
}


def serve(
    config: Path | None = None, print_config: bool = False, **flags: str | bool | None
) -> None:
    """Serve models over gRPC.

    Loads every model below --models, listens, and answers frames until it is stopped. On SIGTERM
    or Ctrl-C it refuses new frames, answers the ones it has admitted and exits; a second Ctrl-C
    exits at once.

    Every flag is also a variable, VOXGATE_PORT for --port, and a line of a YAML file, port: 8001.
    Flags override variables, and those the file. A SIZE is a number of bytes or 64MiB; null unsets
    what may be unset.

    Try it:

        voxgate export sparse_unet models/sparse_unet/1/model.onnx

        voxgate serve --models models

        voxgate stream sweep.bin    (in a second terminal)

    Keep your settings:

        voxgate serve --models models --threads 4 --print-config > voxgate.yaml

        voxgate serve --config voxgate.yaml
    """
    console = Console(stderr=True)
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        effective = load_settings(given, config)
        if print_config:
            print(as_yaml(effective), end="")
            return
        logs.configure_logging(effective.settings)
        _run(effective.settings)
    except SettingsError as error:
        _complain(console, error)
        raise typer.Exit(2) from error
    except StartupError as error:
        _complain(console, error)
        raise typer.Exit(1) from error


def _flags() -> inspect.Signature:
    """What typer is to make flags of."""
    config = typer.Option(
        metavar="FILE",
        help="YAML file with settings, a `name: value` a line. Default: $VOXGATE_CONFIG, if set",
        show_default=False,
    )
    print_config = typer.Option(
        "--print-config",
        help="Print the settings that hold, each with what it is for and where its value came "
        "from, as a file for --config; do not serve",
    )
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter(
            "config", keyword, default=None, annotation=Annotated[Path | None, config]
        ),
        inspect.Parameter(
            "print_config", keyword, default=False, annotation=Annotated[bool, print_config]
        ),
    ]
    for name, field in fields().items():
        # Strings, whatever the setting's type: only pydantic judges values, whatever their source.
        kind: Any = bool if field.annotation is bool else str
        annotation = Annotated[kind | None, _option(field)]
        parameters.append(inspect.Parameter(name, keyword, default=None, annotation=annotation))
    return inspect.Signature(parameters)


def _option(field: FieldInfo) -> Any:
    description = str(field.description)
    default = plain(field.default)
    if default is not None:
        shown = str(default).lower() if isinstance(default, bool) else default
        description = f"{description}. Default: {shown}"
    return typer.Option(
        help=description,
        metavar=_metavar(field),
        rich_help_panel=panel_of(field),
        show_default=False,
    )


def _metavar(field: FieldInfo) -> str | None:
    if field.annotation is bool:
        return None
    types = get_args(field.annotation) or (field.annotation,)
    if all(isinstance(one, str) for one in types):
        return "|".join(types)
    return _METAVARS.get(types[0], "TEXT")


# typer reads the signature, and so does `help(serve)`.
serve.__signature__ = _flags()  # type: ignore[attr-defined]


def _complain(console: Console, error: StartupError) -> None:
    for line in str(error).splitlines():
        console.print(Text.assemble(("error: ", "red"), line), soft_wrap=True)


def _run(settings: Settings) -> None:
    # Not needed for the help, and slow to load: ONNX Runtime and gRPC.
    from voxgate_server import app

    asyncio.run(app.serve(settings, _announce))


def _announce(addresses: Addresses, models: list[Model]) -> None:
    # Plain lines, flushed: whatever starts the server can wait for the last one.
    for model in models:
        engine = model.engine
        state = f"FAILED: {model.reason}" if engine is None else f"ready on {engine.device}"
        print(f"model {model.name} version {model.version}: {state}")
    host = f"[{addresses.host}]" if ":" in addresses.host else addresses.host
    print(f"metrics: http://{host}:{addresses.metrics_port}/metrics")
    print(f"serving: {host}:{addresses.port}", flush=True)
