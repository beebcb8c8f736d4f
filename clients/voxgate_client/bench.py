# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What a benchmark's run means: latencies by stage, throughput, outcomes; as table and JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from voxgate_client.bench_run import Load, Run, Sample
from voxgate_client.messages import ModelDescription, StreamOptions

# In the order a frame passes them; "total" is the server's, "client" the robot's.
STAGES = ("receive", "decode", "queue", "execute", "encode", "total", "client")
_PERCENTILES = (50, 90, 99)
_MAX_MESSAGES = 5


@dataclass(frozen=True)
class BenchReport:
    """One run against one model. Latencies are milliseconds, of frames answered with a result.

    A frame's `client` latency counts from when the schedule wanted it sent, so that a server that
    falls behind cannot hide it by slowing the sender down; without a schedule, from its sending.
    """

    target: str
    model: ModelDescription
    options: StreamOptions
    load: Load
    run: Run

    @property
    def unit(self) -> str:
        """What `rows` of a frame are."""
        return "points" if self.model.input_kind == "points" else "sites"

    @property
    def answered(self) -> list[Sample]:
        """Frames with a result."""
        return [sample for sample in self.run.samples if sample.outcome == "ok"]

    def seconds(self) -> float:
        """From the first measured frame's sending to the last answer."""
        samples = self.run.samples
        if not samples:
            return 0.0
        return max(s.answered for s in samples) - min(s.sent for s in samples)

    def stage_ms(self) -> dict[str, NDArray[np.float64]]:
        """Every answered frame's milliseconds, by stage; the stages' rows belong together."""
        answered = self.answered
        stages = {
            stage: np.array([getattr(s.timing, f"{stage}_us") / 1e3 for s in answered])
            for stage in STAGES[:-1]
        }
        stages["client"] = np.array([1e3 * (s.answered - s.due) for s in answered])
        return stages

    def latency_ms(self) -> dict[str, dict[str, float]]:
        """By stage: p50, p90, p99 and max."""
        table: dict[str, dict[str, float]] = {}
        for stage, values in self.stage_ms().items():
            if values.size:
                points = np.percentile(values, _PERCENTILES)
                table[stage] = {
                    f"p{p}": float(v) for p, v in zip(_PERCENTILES, points, strict=True)
                }
                table[stage]["max"] = float(values.max())
        return table

    def late_ms(self) -> dict[str, float]:
        """How far behind its schedule the sender was: p50, p99 and max."""
        late = np.array([1e3 * (s.sent - s.due) for s in self.run.samples])
        if not (self.load.rate and late.size):
            return {}
        p50, p99 = np.percentile(late, (50, 99))
        return {"p50": float(p50), "p99": float(p99), "max": float(late.max())}

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON; `samples` holds a column per value."""
        seconds, answered = self.seconds(), self.answered
        rows = sum(sample.rows for sample in answered)
        batches = [sample.timing.batch_frames for sample in answered if sample.timing]
        return {
            "target": self.target,
            "model": self.model.name,
            "version": self.model.version,
            "load": asdict(self.load),
            "policy": self.options.policy.name,
            "priority": self.options.priority,
            "frame_deadline": self.options.frame_deadline,
            "interrupted": self.run.interrupted,
            "seconds": seconds,
            "frames_per_second": len(answered) / seconds if seconds else 0.0,
            f"{self.unit}_per_second": rows / seconds if seconds else 0.0,
            "mean_batch_frames": float(np.mean(batches)) if batches else 0.0,
            "sent": self.run.sent,
            "unanswered": self.run.unanswered,
            "outcomes": dict(Counter(sample.outcome for sample in self.run.samples)),
            "latency_ms": self.latency_ms(),
            "late_ms": self.late_ms(),
            "client_cpu_seconds": self.run.client_cpu_seconds,
            "messages": self.run.messages,
            "samples": self._columns(),
        }

    def _columns(self) -> dict[str, list[Any]]:
        samples = self.run.samples
        return {
            "stream": [s.stream for s in samples],
            "due_s": [round(s.due, 6) for s in samples],
            "sent_s": [round(s.sent, 6) for s in samples],
            "answered_s": [round(s.answered, 6) for s in samples],
            self.unit: [s.rows for s in samples],
            "outcome": [s.outcome for s in samples],
        }

    def print(self, console: Console) -> None:
        """Prints the tables a person wants after a run."""
        found = self.as_dict()
        title = f"{found['model']} {found['version']} at {self.target}: {self._load_text()}"
        table = Table("stage", title="latency, ms", title_style="bold")
        columns = [*(f"p{p}" for p in _PERCENTILES), "max"]
        for column in columns:
            table.add_column(column, justify="right")
        table.add_column("what it is", style="dim")
        for stage, values in self.latency_ms().items():
            if stage == "total":
                table.add_section()
            table.add_row(stage, *(f"{values[c]:.2f}" for c in columns), self._meaning(stage))
        console.print(Text(title, style="bold"))
        if table.row_count:
            console.print(table)
        console.print(
            f"{found['frames_per_second']:.1f} frames/s, "
            f"{found[f'{self.unit}_per_second']:,.0f} {self.unit}/s over {found['seconds']:.1f} s; "
            f"batches of {found['mean_batch_frames']:.1f} frames on average",
            highlight=False,
        )
        self._print_outcomes(console, found)

    def _print_outcomes(self, console: Console, found: dict[str, Any]) -> None:
        outcomes: dict[str, int] = found["outcomes"]
        sent = max(1, self.run.sent)
        parts = [
            (f"{count} {name} ({100 * count / sent:.1f} %)", "green" if name == "ok" else "red")
            for name, count in sorted(outcomes.items(), key=lambda item: item[0] != "ok")
        ]
        if self.run.unanswered:
            parts.append((f"{self.run.unanswered} unanswered", "red"))
        text = Text(f"{self.run.sent} frames sent: ")
        for index, part in enumerate(parts):
            text.append(", " if index else "").append(*part)
        console.print(text)
        late = found["late_ms"]
        if late:
            console.print(
                f"sent behind schedule: p50 {late['p50']:.2f} ms, p99 {late['p99']:.2f} ms, "
                f"max {late['max']:.2f} ms (part of `client` above)",
                highlight=False,
            )
        if self.run.samples:
            cpu = self.run.client_cpu_seconds
            console.print(
                f"this client used {1e3 * cpu / len(self.run.samples):.2f} ms of CPU per frame",
                highlight=False,
            )
        for message, count in Counter(self.run.messages).most_common(_MAX_MESSAGES):
            console.print(Text(f"  {count} x {message}", style="red"), soft_wrap=True)

    def _load_text(self) -> str:
        load = self.load
        pace = f"{load.rate:g} frames/s each" if load.rate else f"{load.in_flight} in flight each"
        ended = ", stopped early" if self.run.interrupted else ""
        return f"{load.streams} streams, {pace}, {self.options.policy.name}{ended}"

    def _meaning(self, stage: str) -> str:
        return {
            "receive": "first to last byte",
            "decode": "parse, check, sort",
            "queue": "wait for the engine",
            "execute": "the batch in the network",
            "encode": "answer to bytes",
            "total": "of the server",
            "client": "due to answer" if self.load.rate else "send to answer",
        }[stage]
