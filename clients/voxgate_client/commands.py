# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""`voxgate stream` and `voxgate simulate`."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import grpc
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from voxgate_client.channel import DEFAULT_TARGET
from voxgate_client.client import VoxgateClient
from voxgate_client.frame_source import Source, prepared_frames, sources
from voxgate_client.frame_stream import FrameStream
from voxgate_client.messages import Frame, ModelDescription, VoxgateRpcError
from voxgate_client.report import Report
from voxgate_client.simulator import SweepSimulator, write_sweep

_CONNECT_TIMEOUT_S = 10.0
_PROGRESS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())


class _CommandError(Exception):
    """What a person must be told before the command exits with 1."""


def stream(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE…", help="Scans: .bin, .npy, .npz, .pcd or .ply."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Which model answers. [default: the server's only one]")
    ] = None,
    target: Annotated[str, typer.Option(help="The server, host:port.")] = DEFAULT_TARGET,
    rate: Annotated[
        float | None,
        typer.Option(min=0.01, help="Frames per second. [default: each after the last answer]"),
    ] = None,
    loop: Annotated[int, typer.Option(min=1, help="Send everything so many times.")] = 1,
    simulate: Annotated[int, typer.Option(min=0, help="Send so many simulated sweeps.")] = 0,
    window: Annotated[
        int,
        typer.Option(
            min=0,
            show_default=False,
            help="Frames that may be unanswered at once. [default: 1, with --rate as many as the "
            "server queues]",
        ),
    ] = 0,
    chunk_rows: Annotated[
        int, typer.Option(min=0, help="Send each frame in pieces of so many rows; 0: whole.")
    ] = 0,
    columns: Annotated[
        int | None,
        typer.Option(
            help="float32 per point of a .bin file, if it is neither 4 (KITTI) nor 5 (nuScenes)."
        ),
    ] = None,
    fill: Annotated[
        float | None, typer.Option(help="Value for a feature that a file does not have.")
    ] = None,
    beams: Annotated[int, typer.Option(help="Beams of the simulated sensor: 32 or 64.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Of the simulated street.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Stream scans to a server and print its answers and every stage's latency.

    Exits with 1 when a frame failed.

    Try it (with `voxgate serve` running):

        voxgate stream --simulate 20

        voxgate stream scans/*.bin --rate 10 --loop 5
    """
    errors = Console(stderr=True)
    try:
        simulator = SweepSimulator(seed=seed, beams=beams)
        clouds = sources(files or [], columns, simulate, simulator)
        if not clouds:
            raise _CommandError("nothing to send: give a FILE, or --simulate 20")
        with VoxgateClient(target) as client:
            chosen = _choose_model(client, model)
            report = _run(client, chosen, clouds, loop, rate, window, chunk_rows, fill, errors)
    except (_CommandError, VoxgateRpcError, ValueError, OSError) as error:
        errors.print(Text.assemble(("error: ", "red"), str(error)), soft_wrap=True)
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(json.dumps(report.as_dict(), indent=2))
    else:
        report.print(Console())
    if report.errors or report.ok < report.sent:
        raise typer.Exit(1)


def _choose_model(client: VoxgateClient, name: str | None) -> ModelDescription:
    try:
        models = client.list_models(_CONNECT_TIMEOUT_S)
    except VoxgateRpcError as error:
        if error.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            raise _CommandError(
                f"no server at {client.target} ({error.message}).\n"
                "Start one with: voxgate serve --models models    (or name another with --target)"
            ) from error
        raise
    ready = [model for model in models if model.state == "READY"]
    fitting = [model for model in ready if name is None or model.name == name]
    if len({model.name for model in fitting}) == 1:
        return fitting[0]
    known = ", ".join(sorted({model.name for model in ready})) or "none"
    if name is None and fitting:
        raise _CommandError(f"the server has several models, choose one with --model: {known}")
    failed = [f"{m.name} {m.version}: {m.state} {m.state_reason}".rstrip() for m in models]
    listed = [line for line, m in zip(failed, models, strict=True) if m not in ready]
    which = f"no model {name!r}" if name is not None else "no model"
    raise _CommandError(
        "\n".join([f"{which} is ready at {client.target}; ready: {known}", *listed])
    )


def _run(
    client: VoxgateClient,
    model: ModelDescription,
    clouds: list[Source],
    loop: int,
    rate: float | None,
    window: int,
    chunk_rows: int,
    fill: float | None,
    errors: Console,
) -> Report:
    if not window and rate is None:
        window = 1
    total = len(clouds) * loop
    with (
        client.open_stream(model.name, max_in_flight=window) as frames,
        Progress(*_PROGRESS, TimeRemainingColumn(), console=errors, transient=True) as progress,
    ):
        report = Report(frames.model)
        task = progress.add_task(f"{model.name} at {client.target}", total=total)

        def collect() -> None:
            for answer in frames:
                report.add(answer)
                progress.advance(task)

        collector = threading.Thread(target=collect, name="voxgate-collect", daemon=True)
        collector.start()
        start = time.perf_counter()
        try:
            prepared = prepared_frames(clouds, loop, frames.model, fill)
            _send_all(frames, prepared, report, rate, chunk_rows or None)
            frames.close_sending()
            collector.join()
        except KeyboardInterrupt:
            errors.print("stopped; what was answered so far:")
        except VoxgateRpcError as error:
            collector.join()  # the stream is over: its answers are all there
            errors.print(Text.assemble(("error: ", "red"), str(error)), soft_wrap=True)
        finally:
            report.seconds = time.perf_counter() - start
    collector.join()
    return report


def _send_all(
    stream: FrameStream,
    frames: Iterator[Frame],
    report: Report,
    rate: float | None,
    chunk_rows: int | None,
) -> None:
    """Sends at the rate asked for; a frame that takes longer to make is sent late, not skipped."""
    start = time.perf_counter()
    for number, frame in enumerate(frames):
        if rate is not None:
            time.sleep(max(0.0, start + number / rate - time.perf_counter()))
        sent = dataclasses.replace(frame, captured_at=datetime.now(UTC))
        stream.send(sent, chunk_rows=chunk_rows)
        report.sent += 1


def simulate(
    folder: Annotated[Path, typer.Argument(help="Where to write; made if absent.")],
    frames: Annotated[int, typer.Option(min=1, help="How many sweeps.")] = 10,
    beams: Annotated[int, typer.Option(help="32 or 64.")] = 64,
    rate: Annotated[float, typer.Option(min=0.1, help="Sweeps per second.")] = 10.0,
    seed: Annotated[int, typer.Option(min=0, help="Chooses the street and the noise.")] = 0,
) -> None:
    """Write simulated sweeps of a street with a label for every point.

    FOLDER/000000.bin holds float32 x, y, z, intensity as KITTI's scans do, FOLDER/000000.label a
    uint32 per point, FOLDER/classes.json what the labels mean.

    \b
    Try it:
      voxgate simulate sweeps --frames 20
      voxgate stream sweeps/*.bin
    """
    errors = Console(stderr=True)
    try:
        simulator = SweepSimulator(seed=seed, beams=beams, rate=rate)
        folder.mkdir(parents=True, exist_ok=True)
        names = dict(enumerate(simulator.class_names))
        (folder / "classes.json").write_text(json.dumps(names, indent=2) + "\n")
        with Progress(*_PROGRESS, console=errors, transient=True) as progress:
            for number in progress.track(range(frames), description="simulating"):
                write_sweep(simulator.sweep(number), folder, f"{number:06d}")
    except (ValueError, OSError) as error:
        errors.print(Text.assemble(("error: ", "red"), str(error)), soft_wrap=True)
        raise typer.Exit(1) from error
    typer.echo(f"{frames} sweeps in {folder}")
