# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The `voxgate` command: each package adds its own through the entry-point group below."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Annotated, Any

import typer

GROUP = "voxgate.commands"

_HELP = """
Serve sparse-convolution networks to robots and vehicles.

A network built from sparse convolutions is exported to ONNX, a gRPC server runs it, and robots
stream point clouds or sparse voxels and get answers with the latency of every stage.

Two minutes, from nothing to labelled sweeps:

    voxgate export sparse_unet models/sparse_unet/1/model.onnx

    voxgate serve --models models

    voxgate stream --simulate 20        (in a second terminal)

`voxgate COMMAND --help` explains each of them.
"""
_EPILOG = (
    "Your own scans: voxgate stream sweeps/*.bin --rate 10   (also .pcd, .ply, .npy, .npz)\n\n"
    "How much it takes: voxgate bench sweeps/*.bin --streams 8"
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; exits the process."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app = build_app(words)
    except KeyboardInterrupt:  # the command itself is still being loaded
        sys.exit(130)
    app(args=words, prog_name="voxgate")


def build_app(words: Sequence[str]) -> typer.Typer:
    """The application for these arguments.

    Only the command that is called is loaded: `voxgate stream` must not wait for the export
    command's torch.
    """
    app = typer.Typer(
        name="voxgate",
        help=_HELP,
        epilog=_EPILOG,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
    )
    app.callback()(_global_options)
    found = {point.name: point for point in sorted(entry_points(group=GROUP))}
    called = next((word for word in words if not word.startswith("-")), "")
    wanted = [found[called]] if called in found else list(found.values())
    for point in wanted:
        _add_command(app, point)
    return app


def _show_version(show: bool) -> None:
    if not show:
        return
    try:
        typer.echo(f"voxgate {version('voxgate')}")
    except PackageNotFoundError:
        typer.echo("voxgate (not installed, running from its sources)")
    raise typer.Exit


def _global_options(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


def _add_command(app: typer.Typer, point: EntryPoint) -> None:
    try:
        loaded: Any = point.load()
    except ImportError as error:
        _add_stub(app, point, error)
        return
    if isinstance(loaded, typer.Typer):
        app.add_typer(loaded, name=point.name)
    else:
        app.command(point.name)(loaded)


def _add_stub(app: typer.Typer, point: EntryPoint, error: ImportError) -> None:
    extras = ",".join(point.extras)
    package = f"voxgate[{extras}]" if extras else "voxgate"

    # Any arguments must reach the explanation, `--help` included.
    @app.command(
        point.name,
        help=f'Not installed: pip install "{package}"',
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def missing(context: typer.Context) -> None:
        typer.echo(
            f"voxgate {point.name} needs packages that are not installed ({error}).\n"
            f'Install them with:  pip install "{package}"',
            err=True,
        )
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
