# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""`voxgate stream` and `voxgate simulate`."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from voxgate_client.channel import DEFAULT_TARGET
from voxgate_client.client import VoxgateClient
from voxgate_client.command_line import (
    BeamsOption,
    ColumnsOption,
    CommandError,
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
from voxgate_client.frame_stream import FrameStream
from voxgate_client.messages import Frame, Notice, StreamOptions, VoxgateRpcError
from voxgate_client.report import Report
from voxgate_client.simulator import SweepSimulator, write_sweep

_PROGRESS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())


def stream(
    files: FilesArgument = None,
    model: ModelOption = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0.01, help="Frames per second. [default: each after the last answer]"),
    ] = None,
    loop: Annotated[int, typer.Option(min=1, help="Send everything so many times.")] = 1,
    simulate: SimulateOption = 0,
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
    policy: PolicyOption = Policy.fifo,
    deadline: DeadlineOption = None,
    priority: PriorityOption = 0,
    reconnect: Annotated[
        bool,
        typer.Option(
            "--reconnect/--no-reconnect", help="Open a broken stream again, and wait for a server."
        ),
    ] = True,
    resend: Annotated[
        bool,
        typer.Option(
            "--resend", help="Send again what a broken stream left unanswered; it may run twice."
        ),
    ] = False,
    columns: ColumnsOption = None,
    fill: FillOption = None,
    beams: BeamsOption = 64,
    seed: SeedOption = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    target: TargetOption = DEFAULT_TARGET,
    tls: TlsOption = False,
    tls_ca: TlsCaOption = None,
    tls_certificate: TlsCertificateOption = None,
    tls_key: TlsKeyOption = None,
    token_file: TokenFileOption = None,
    insecure_token: InsecureTokenOption = False,
) -> None:
    """Stream scans to a server and print its answers and every stage's latency.

    Ctrl-C stops and reports what was answered. Exits with 1 when a frame failed.

    Try it (with `voxgate serve` running):

        voxgate stream --simulate 20

        voxgate stream scans/*.bin --rate 10 --loop 5
    """
    errors = Console(stderr=True)
    try:
        simulator = SweepSimulator(seed=seed, beams=beams)
        clouds = sources(files or [], columns, simulate, simulator)
        if not clouds:
            raise CommandError("nothing to send: give a FILE, or --simulate 20")
        reach = connection(
            target, tls, tls_ca, tls_certificate, tls_key, token_file, insecure_token
        )
        options = StreamOptions(
            policy=policy.queue_policy, priority=priority, frame_deadline=deadline
        )
        pace = _Pace(loop, rate, window, chunk_rows or None)
        with VoxgateClient(**reach) as client:
            chosen = choose_model(client, model)
            with client.open_stream(
                chosen.name,
                options,
                max_in_flight=pace.max_in_flight,
                reconnect=reconnect,
                resend=resend,
                on_event=lambda notice: _tell(errors, notice),
            ) as frames:
                report = _run(frames, target, clouds, pace, fill, errors)
    except (CommandError, VoxgateRpcError, ValueError, OSError) as error:
        print_error(errors, error)
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(json.dumps(report.as_dict(), indent=2))
    else:
        report.print(Console())
    if report.errors or report.ok + report.unanswered < report.sent:
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Pace:
    """How the frames are sent."""

    loop: int
    rate: float | None
    window: int
    chunk_rows: int | None

    @property
    def max_in_flight(self) -> int:
        return 1 if not self.window and self.rate is None else self.window


def _tell(console: Console, notice: Notice) -> None:
    console.print(Text.assemble((notice.kind.lower(), "yellow"), f": {notice.message}"))


def _run(
    frames: FrameStream,
    target: str,
    clouds: list[Source],
    pace: _Pace,
    fill: float | None,
    errors: Console,
) -> Report:
    total = len(clouds) * pace.loop
    with Progress(*_PROGRESS, TimeRemainingColumn(), console=errors, transient=True) as progress:
        report = Report(frames.model)
        task = progress.add_task(f"{frames.model.name} at {target}", total=total)

        def collect() -> None:
            for answer in frames:
                report.add(answer)
                progress.advance(task)

        collector = threading.Thread(target=collect, name="voxgate-collect", daemon=True)
        collector.start()
        start = time.perf_counter()
        try:
            prepared = prepared_frames(clouds, pace.loop, frames.model, fill)
            _send_all(frames, prepared, report, pace.rate, pace.chunk_rows)
            frames.close_sending()
            collector.join()
        except KeyboardInterrupt:
            errors.print("stopped; what was answered so far:")
            report.stopped = True
            frames.close()
        except VoxgateRpcError as error:
            collector.join()  # the stream is over: its answers are all there
            print_error(errors, error)
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
