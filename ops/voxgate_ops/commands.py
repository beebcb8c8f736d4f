# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""`voxgate export` and `voxgate inspect`. torch is imported only when a network is exported."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from voxgate_ops.errors import VoxgateError
from voxgate_ops.inspection import ModelSummary, summarize
from voxgate_ops.metadata import Precision

if TYPE_CHECKING:
    from voxgate_ops.export import ExportReport
    from voxgate_ops.export.by_name import ExportOptions

_EXPORT_EXTRA = ("torch", "onnxscript", "onnx_ir")
_errors = Console(stderr=True)


def _fail(message: str) -> NoReturn:
    _errors.print(f"[bold red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    raise typer.Exit(1)


def export(
    model: Annotated[
        str,
        typer.Argument(
            help="A network by name (voxel_backbone8x, voxel_res_backbone8x, sparse_unet) or as "
            "package.module:factory, where factory is a torch module or returns one; the package "
            "may lie in the working folder."
        ),
    ],
    output: Annotated[
        Path, typer.Argument(help="The file to write, e.g. models/NAME/1/model.onnx.")
    ],
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Weights: a state_dict saved by torch. Seeded weights without it."),
    ] = None,
    prefix: Annotated[
        str,
        typer.Option(
            help="Take the checkpoint's keys that start with this, e.g. 'backbone_3d.' from an "
            "OpenPCDet checkpoint."
        ),
    ] = "",
    points: Annotated[
        bool,
        typer.Option("--points", help="The model takes raw points and voxelizes them itself."),
    ] = False,
    num_features: Annotated[
        int | None, typer.Option(min=1, help="Columns of features, or of points.")
    ] = None,
    feature_names: Annotated[
        str | None, typer.Option(help="Their names, e.g. x,y,z,intensity.")
    ] = None,
    point_range: Annotated[
        str | None, typer.Option(help="x0,y0,z0,x1,y1,z1 in metres, e.g. 0,-40,-3,70.4,40,1.")
    ] = None,
    voxel_size: Annotated[
        str | None, typer.Option(help="x,y,z in metres, e.g. 0.05,0.05,0.1.")
    ] = None,
    spatial_shape: Annotated[
        str | None,
        typer.Option(
            help="The grid as z,y,x, e.g. 41,1600,1408, no smaller than range / size. Follows from "
            "them if absent."
        ),
    ] = None,
    class_names: Annotated[
        str | None, typer.Option(help="Names of the labels, e.g. ground,building.")
    ] = None,
    precision: Annotated[
        Precision,
        typer.Option(
            help="What features and weights are inside the model: fp16 and bf16 halve the file and "
            "run on a GPU's tensor cores. Inputs and outputs stay float32."
        ),
    ] = "fp32",
    batchable: Annotated[
        bool,
        typer.Option(
            "--batchable/--no-batchable",
            help="Whether a server may run several frames at once. With it, a network whose answer "
            "to a frame depends on the others is refused.",
        ),
    ] = True,
    seed: Annotated[int, typer.Option(help="Of the weights where no checkpoint is given.")] = 0,
) -> None:
    """Write a torch network as an ONNX model of voxgate operators.

    The model is compared with the torch network on a generated batch before the file is written.

    Examples:

        voxgate export sparse_unet models/sparse_unet/1/model.onnx --points

        voxgate export voxel_backbone8x bev.onnx --checkpoint second.pth --precision fp16

        voxgate export nets:build my.onnx --spatial-shape 9,64,64 --num-features 4
    """
    try:
        from voxgate_ops.export.by_name import ExportOptions
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in _EXPORT_EXTRA:
            _fail(f'exporting needs {error.name}: pip install "voxgate[export]"')
        raise
    # A console script does not look there, as `python -m` would.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        options = ExportOptions(
            model=model,
            output=output,
            checkpoint=checkpoint,
            prefix=prefix,
            points=points,
            num_features=num_features,
            feature_names=_list(feature_names, str, "feature-names"),
            point_range=_list(point_range, float, "point-range"),
            voxel_size=_list(voxel_size, float, "voxel-size"),
            spatial_shape=_list(spatial_shape, int, "spatial-shape"),
            class_names=_list(class_names, str, "class-names"),
            precision=precision,
            batchable=batchable,
            seed=seed,
        )
        report = _export_with_progress(options)
    except (VoxgateError, OSError) as error:
        _fail(str(error))
    _print_report(report)


def _list(text: str | None, kind: type[Any], name: str) -> list[Any] | None:
    if text is None:
        return None
    try:
        return [kind(part.strip()) for part in text.split(",")]
    except ValueError:
        _fail(f"--{name} is {text!r}, expected {kind.__name__} values separated by commas")


def _export_with_progress(options: ExportOptions) -> ExportReport:
    from voxgate_ops.export import STEPS
    from voxgate_ops.export.by_name import run_export

    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=Console(file=sys.stderr),  # the one there is now: tracing puts another in its place
        transient=True,
        disable=not _errors.is_terminal,
    )
    with bar:
        task = bar.add_task("reading the network", total=len(STEPS))

        def step(name: str) -> None:
            bar.update(task, description=name, completed=STEPS.index(name))

        return run_export(options, step)


def _print_report(report: ExportReport) -> None:
    console = Console()
    console.print(f"wrote {escape(str(report.path))}", highlight=False, soft_wrap=True)
    for name, difference in report.differences.items():
        meaning = report.metadata.outputs[name].meaning
        console.print(
            f"  {name} ({meaning}): largest difference from eager torch {difference:.3g}",
            highlight=False,
        )
    look = f"look at it with: voxgate inspect {escape(shlex.quote(str(report.path)))}"
    console.print(look, highlight=False, soft_wrap=True)


def inspect(
    model: Annotated[Path, typer.Argument(help="An ONNX file written by voxgate export.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show what a model takes and gives, its operators and its metadata.

    Reads the file only: neither torch nor the operators' library is needed.

    Example:

        voxgate inspect models/sparse_unet/1/model.onnx
    """
    try:
        summary = summarize(model)
    except VoxgateError as error:
        _fail(str(error))
    if as_json:
        typer.echo(summary.model_dump_json(indent=2))
    else:
        _print_summary(summary)


def _print_summary(summary: ModelSummary) -> None:
    from voxgate_ops.inspection import tables

    console = Console()
    for table in tables(summary):
        console.print(table)
