# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What a run over many frames found: latencies by stage, errors, and what the answers say."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from voxgate_client.messages import Answer, FrameFailure, FrameResult, ModelDescription

# In the order a frame passes them; "total" is the server's, "client" what the caller waited.
STAGES = ("receive", "decode", "queue", "execute", "encode", "total", "client")
_MEANING = {
    "receive": "first to last byte",
    "decode": "parse, check, sort",
    "queue": "wait for the engine",
    "execute": "the network",
    "encode": "answer to bytes",
    "total": "of the server",
    "client": "send to answer",
}
_PERCENTILES = (50, 90, 99)
_MAX_MESSAGES = 5


@dataclass
class _Values:
    """Running summary of one float output."""

    count: int = 0
    total: float = 0.0
    low: float = float("inf")
    high: float = float("-inf")
    shape: tuple[int, ...] = ()

    def add(self, values: NDArray[Any]) -> None:
        self.shape = values.shape
        finite = values[np.isfinite(values)].astype(np.float64)
        if finite.size:
            self.count += finite.size
            self.total += float(finite.sum())
            self.low = min(self.low, float(finite.min()))
            self.high = max(self.high, float(finite.max()))

    def as_dict(self) -> dict[str, Any]:
        if not self.count:
            return {"shape": list(self.shape)}
        mean = self.total / self.count
        return {"shape": list(self.shape), "min": self.low, "mean": mean, "max": self.high}


@dataclass
class Report:
    """Collects answers; prints them as tables or gives them as a dict.

    Attributes:
        model: the model that answers; its class names and colours name the labels.
        seconds: the run's wall time, set by the caller at its end.
        stopped: the caller ended the stream early: frames that are CANCELLED from then on did not
            fail, nobody waited for them.
        unanswered: how many those were.
    """

    model: ModelDescription
    seconds: float = 0.0
    sent: int = 0
    ok: int = 0
    stopped: bool = False
    unanswered: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    _stages: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in STAGES})
    _labels: dict[str, Counter[int]] = field(default_factory=dict)
    _values: dict[str, _Values] = field(default_factory=dict)

    def add(self, answer: Answer) -> None:
        if isinstance(answer, FrameFailure):
            if self.stopped and answer.code is grpc.StatusCode.CANCELLED:
                self.unanswered += 1
                return
            self.errors[answer.code.name] += 1
            self.messages[f"{answer.code.name}: {answer.message}"] += 1
        else:
            self._add_result(answer)

    def _add_result(self, result: FrameResult) -> None:
        self.ok += 1
        timing = result.timing
        for stage in STAGES[:-1]:
            self._stages[stage].append(getattr(timing, f"{stage}_us") / 1e3)
        self._stages["client"].append(result.client_seconds * 1e3)
        for name, values in result.outputs.items():
            if self._is_label(name, values):
                found, counts = np.unique(values, return_counts=True)
                counter = self._labels.setdefault(name, Counter())
                counter.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
            else:
                self._values.setdefault(name, _Values()).add(values)

    def _is_label(self, name: str, values: NDArray[Any]) -> bool:
        meaning = next((o.meaning for o in self.model.outputs if o.name == name), "")
        return (
            bool(self.model.class_names)
            and meaning in ("per_site", "per_point")
            and values.dtype.kind in "iu"
            and values.ndim == 1
        )

    def latency_ms(self) -> dict[str, dict[str, float]]:
        """Milliseconds by stage: p50, p90, p99 and max."""
        table: dict[str, dict[str, float]] = {}
        for stage, values in self._stages.items():
            if values:
                points = np.percentile(values, _PERCENTILES)
                table[stage] = {
                    f"p{p}": float(v) for p, v in zip(_PERCENTILES, points, strict=True)
                }
                table[stage]["max"] = max(values)
        return table

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "model": self.model.name,
            "version": self.model.version,
            "frames": {
                "sent": self.sent,
                "ok": self.ok,
                "unanswered": self.unanswered,
                "errors": dict(self.errors),
            },
            "seconds": self.seconds,
            "frames_per_second": self.ok / self.seconds if self.seconds else 0.0,
            "latency_ms": self.latency_ms(),
            "labels": {
                name: {self._class_name(i): n for i, n in sorted(counts.items())}
                for name, counts in self._labels.items()
            },
            "outputs": {name: values.as_dict() for name, values in self._values.items()},
            "messages": dict(self.messages.most_common(_MAX_MESSAGES)),
        }

    def _class_name(self, index: int) -> str:
        if index == -1:  # per_point: the point lies outside the model's grid
            return "outside"
        names = self.model.class_names
        return names[index] if 0 <= index < len(names) else f"class {index}"

    def print(self, console: Console) -> None:
        """Prints the tables a person wants after a run."""
        self._print_answer(console)
        self._print_latency(console)
        failed = sum(self.errors.values())
        rate = f", {self.ok / self.seconds:.1f} frames/s" if self.seconds and self.ok else ""
        console.print(
            Text.assemble(
                f"{self.sent} frames sent in {self.seconds:.1f} s: ",
                (f"{self.ok} ok", "green" if self.ok else ""),
                ", ",
                (f"{failed} failed", "red" if failed else ""),
                f", {self.unanswered} unanswered" if self.unanswered else "",
                rate,
            )
        )
        for message, count in self.messages.most_common(_MAX_MESSAGES):
            console.print(Text(f"  {count} x {message}", style="red"), soft_wrap=True)

    def _print_answer(self, console: Console) -> None:
        for name, counts in self._labels.items():
            table = Table("class", "rows", "share", "", title=f"answer: {name}", title_style="bold")
            table.columns[1].justify = table.columns[2].justify = "right"
            total = counts.total()
            for index, count in sorted(counts.items()):
                color = self._color(index)
                bar = Text("█" * max(1, round(30 * count / total)), style=color)
                share = f"{100 * count / total:.1f} %"
                table.add_row(Text(self._class_name(index), style=color), str(count), share, bar)
            console.print(table)
        for name, values in self._values.items():
            summary = values.as_dict()
            numbers = [f"{k} {summary[k]:.4g}" for k in ("min", "mean", "max") if k in summary]
            text = f"answer: {name} {summary['shape']} (last frame); {', '.join(numbers)}"
            console.print(text if numbers else text.rstrip("; "), markup=False, soft_wrap=True)

    def _color(self, index: int) -> str:
        colors = self.model.class_colors
        if 0 <= index < len(colors) and re.fullmatch(r"#[0-9a-fA-F]{6}", colors[index]):
            return colors[index].lower()
        return ""

    def _print_latency(self, console: Console) -> None:
        latency = self.latency_ms()
        if not latency:
            return
        table = Table("stage", title="latency, ms", title_style="bold")
        columns = [*(f"p{p}" for p in _PERCENTILES), "max"]
        for column in columns:
            table.add_column(column, justify="right")
        table.add_column("what it is", style="dim")
        for stage, values in latency.items():
            if stage == "total":
                table.add_section()
            table.add_row(stage, *(f"{values[c]:.2f}" for c in columns), _MEANING[stage])
        console.print(table)
