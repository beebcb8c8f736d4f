# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A benchmark's run as a picture: latency over time, and its distribution by stage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from voxgate_client.bench import STAGES, BenchReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette, which colour-blind readers can tell apart.
_COLORS = {
    "client": "#000000",
    "total": "#D55E00",
    "execute": "#0072B2",
    "queue": "#E69F00",
    "decode": "#009E73",
    "receive": "#56B4E9",
    "encode": "#CC79A7",
}
# Below it a stage takes no time worth a place on the axis.
_FLOOR_MS = 0.01


def save_plot(report: BenchReport, path: Path) -> None:
    """Writes the picture; the suffix of `path` says in which format.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: no frame was answered, or the suffix is of no known format.
    """
    from matplotlib.figure import Figure

    if not report.answered:
        raise ValueError("nothing to plot: no frame was answered with a result")
    figure = Figure(figsize=(13, 5.6), layout="constrained")
    over_time, by_stage = figure.subplots(1, 2, width_ratios=(1.15, 1))
    _plot_over_time(over_time, report)
    _plot_by_stage(by_stage, report)
    figure.legend(
        *by_stage.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=len(STAGES),
        title="stages and their medians; total: of the server, client: as the robot sees it",
        frameon=False,
    )
    found = report.as_dict()
    load = report.load
    pace = f"{load.rate:g} frames/s each" if load.rate else f"{load.in_flight} in flight each"
    figure.suptitle(
        f"{report.model.name} {report.model.version}: {load.streams} streams, {pace}, "
        f"{report.options.policy.name}: {found['frames_per_second']:.1f} frames/s answered",
        fontsize=13,
    )
    figure.savefig(path, dpi=130)


def _plot_over_time(axes: Axes, report: BenchReport) -> None:
    answered = report.answered
    due = np.array([s.due for s in answered])
    client = report.stage_ms()["client"]
    start = min(s.due for s in report.run.samples)
    size = float(np.clip(6000 / len(answered), 8, 40))
    axes.scatter(
        due - start, client, s=size, alpha=0.45, color="#0072B2", linewidths=0, label="result"
    )
    dropped = [s for s in report.run.samples if s.outcome != "ok"]
    if dropped:
        x = np.array([s.due for s in dropped]) - start
        y = np.array([1e3 * (s.answered - s.due) for s in dropped])
        label = f"no result ({len(dropped)} of {len(report.run.samples)})"
        axes.scatter(x, y, s=16, alpha=0.6, color="#D55E00", marker="x", linewidths=1, label=label)
    for percent, style in ((50, "-"), (99, "--")):
        value = float(np.percentile(client, percent))
        axes.axhline(value, color="#000000", linestyle=style, linewidth=1.2)
        axes.annotate(
            f"p{percent} {_milliseconds(value)}",
            (1.0, value),
            xycoords=("axes fraction", "data"),
            xytext=(-4, 3),
            textcoords="offset points",
            ha="right",
            fontsize=9,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1},
        )
    axes.set_title("client-seen latency of each frame")
    first = "due" if report.load.rate else "sent"
    axes.set_xlabel(f"{first}, seconds after the first frame")
    axes.set_ylabel("latency, ms")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.12)  # room for the legend
    axes.grid(alpha=0.25)
    axes.legend(loc="upper left", framealpha=0.85, markerscale=1.5, ncols=2)


def _plot_by_stage(axes: Axes, report: BenchReport) -> None:
    stages = report.stage_ms()
    lowest, highest = np.inf, _FLOOR_MS
    for stage in STAGES:
        values = np.sort(stages[stage])
        median = float(np.median(values))
        share = np.arange(1, len(values) + 1) / len(values)
        axes.step(
            np.maximum(values, _FLOOR_MS),
            share,
            where="post",
            color=_COLORS[stage],
            label=f"{stage} {_milliseconds(median)}",
            linewidth=3.4 if stage == "total" else 1.6,  # the client's line may lie on it
        )
        lowest, highest = min(lowest, float(values[0])), max(highest, float(values[-1]))
    axes.set_xscale("log")
    axes.set_xlim(max(_FLOOR_MS, lowest) / 1.5, highest * 1.5)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_ylim(0, 1.02)
    axes.axhline(0.99, color="#888888", linewidth=0.8, linestyle=":")
    axes.set_yticks([0, 0.25, 0.5, 0.75, 0.9, 0.99], ["0", "25", "50", "75", "90", "99"])
    axes.set_title("share of frames that took at most so long, by stage")
    axes.set_xlabel("time, ms (log)")
    axes.set_ylabel("frames, %")
    axes.grid(alpha=0.25, which="both")


def _milliseconds(value: float) -> str:
    """Three digits, and no powers of ten."""
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"
