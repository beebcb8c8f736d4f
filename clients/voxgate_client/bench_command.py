# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""`voxgate bench`."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from voxgate_client.async_client import AsyncVoxgateClient
from voxgate_client.bench import BenchReport
from voxgate_client.bench_run import Load, Run, run_load
from voxgate_client.channel import DEFAULT_TARGET
from voxgate_client.client import VoxgateClient
from voxgate_client.command_line import (
    BeamsOption,
    ColumnsOption,
    CommandError,
    Connection,
    DeadlineOption,
    FilesArgument,
    FillOption,
    InsecureTokenOption,
    ModelOption,
    Policy,
    PolicyOption,
    PriorityOption,
    SeedOption,
    SimulateOption,
    TargetOption,
    TlsCaOption,
    TlsCertificateOption,
    TlsKeyOption,
    TlsOption,
    TokenFileOption,
    choose_model,
    connection,
    print_error,
)
from voxgate_client.frame_source import Source, prepared_frames, sources
from voxgate_client.messages import ModelDescription, StreamOptions, VoxgateRpcError
from voxgate_client.packed_frame import PackedFrame
from voxgate_client.simulator import SweepSimulator

# What the queue's rules may do with a frame under load.
_EXPECTED = {"ok", "superseded", "deadline", "overloaded"}
_PROGRESS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())


def bench(
    files: FilesArgument = None,
    model: ModelOption = None,
    streams: Annotated[int, typer.Option(min=1, help="Streams at once.")] = 8,
    rate: Annotated[
        float,
        typer.Option(
            min=0,
            help="Frames per second of each stream, on a fixed schedule; 0: as fast as answered.",
        ),
    ] = 0.0,
    frames: Annotated[int, typer.Option(min=1, help="Frames per stream.")] = 200,
    warm_up: Annotated[
        int, typer.Option(min=0, help="Frames per stream before them that are not counted.")
    ] = 2,
    in_flight: Annotated[
        int, typer.Option(min=1, help="With rate 0: frames unanswered at once per stream.")
    ] = 1,
    simulate: SimulateOption = 0,
    policy: PolicyOption = Policy.fifo,
    priority: PriorityOption = 0,
    deadline: DeadlineOption = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write everything here, each frame's times."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw the latencies here.")
    ] = None,
    columns: ColumnsOption = None,
    fill: FillOption = None,
    beams: BeamsOption = 64,
    seed: SeedOption = 0,
    target: TargetOption = DEFAULT_TARGET,
    tls: TlsOption = False,
    tls_ca: TlsCaOption = None,
    tls_certificate: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
    token_file: TokenFileOption = None,
    insecure_token: InsecureTokenOption = False,
) -> None:
    """Measure a server: many streams, latencies by stage, throughput and drops.

    Every stream sends the files in turn, each stream beginning with another one, serialised once
    before the run.

    With --rate the load is open: frame k of a stream is due at k / rate, whether or not the server
    has kept up, and its latency counts from then. A slow server thus cannot make its numbers better
    by slowing the sender down (no coordinated omission). With rate 0 the loop is closed: each
    stream keeps --in-flight frames unanswered, which measures throughput.

    Ctrl-C ends the run early and reports what was measured. Exits with 1 when no frame was
    answered, or a frame failed in another way than by the queue's rules.

    Try it (with `voxgate serve` running):

        voxgate bench --simulate 4

        voxgate bench scans/*.bin --streams 8 --rate 10 --policy latest --plot bench.png
    """
    errors = Console(stderr=True)
    try:
        _check_files(json_file, plot)
        clouds = sources(files or [], columns, simulate, SweepSimulator(seed=seed, beams=beams))
        if not clouds:
            raise CommandError("nothing to send: give a FILE, or --simulate 4")
        reach = connection(
            target, tls, tls_ca, tls_certificate, tls_key, token_file, insecure_token
        )
        with VoxgateClient(**reach) as client:
            chosen = choose_model(client, model)
        packed = _pack(clouds, chosen, fill, errors)
        options = StreamOptions(
            policy=policy.queue_policy, priority=priority, frame_deadline=deadline
        )
        load = Load(streams, rate, frames, warm_up, in_flight)
        run = asyncio.run(_run(reach, chosen, options, packed, load, errors))
        report = BenchReport(target, chosen, options, load, run)
        _write(report, json_file, plot, errors)
    except (CommandError, VoxgateRpcError, ValueError, OSError) as error:
        print_error(errors, error)
        raise typer.Exit(1) from error
    if not report.answered or any(s.outcome not in _EXPECTED for s in report.run.samples):
        raise typer.Exit(1)


def _check_files(json_file: Path | None, plot: Path | None) -> None:
    # Not after the run: it may have taken an hour.
    for file in (json_file, plot):
        if file is not None and (problem := _no_place(file)):
            raise CommandError(f"{file} cannot be written: {problem}")
    if plot is not None and importlib.util.find_spec("matplotlib") is None:
        raise CommandError('--plot needs matplotlib: pip install "voxgate[plot]"')


def _no_place(file: Path) -> str:
    """Why no file of this name can be written; "": it can."""
    if file.is_dir():
        return "it is a folder"
    place = file.parent
    if not place.is_dir():
        return f"{place} is no folder"
    return "" if os.access(place, os.W_OK | os.X_OK) else f"{place} is not writable"


def _pack(
    clouds: Sequence[Source], model: ModelDescription, fill: float | None, errors: Console
) -> list[PackedFrame]:
    with Progress(*_PROGRESS, console=errors, transient=True) as progress:
        task = progress.add_task("preparing frames", total=len(clouds))
        packed = []
        for frame in prepared_frames(clouds, 1, model, fill):
            packed.append(PackedFrame.of(frame, model.max_frame_bytes))
            progress.advance(task)
    return packed


async def _run(
    reach: Connection,
    model: ModelDescription,
    options: StreamOptions,
    packed: Sequence[PackedFrame],
    load: Load,
    errors: Console,
) -> Run:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        loop.remove_signal_handler(signal.SIGINT)  # a second Ctrl-C does not wait
        errors.print("stopping; waiting for what is under way (Ctrl-C again: not)")
        stop.set()

    loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        with Progress(
            *_PROGRESS, TimeRemainingColumn(), console=errors, transient=True, refresh_per_second=2
        ) as progress:
            task = progress.add_task(
                f"{load.streams} streams to {model.name}", total=load.streams * load.frames
            )
            async with AsyncVoxgateClient(**reach) as client:
                return await run_load(
                    client,
                    model.name,
                    options,
                    packed,
                    load,
                    stop=stop,
                    progress=lambda: progress.advance(task),
                )
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _write(report: BenchReport, json_file: Path | None, plot: Path | None, errors: Console) -> None:
    report.print(Console())
    if json_file is not None:
        json_file.write_text(json.dumps(report.as_dict(), indent=2) + "\n")
    if plot is not None:
        if not report.answered:
            errors.print(f"{plot} was not drawn: no frame was answered with a result")
            return
        from voxgate_client.plot import save_plot

        save_plot(report, plot)
