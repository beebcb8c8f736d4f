# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""`python -m benchmarks.cuda kernels|roofline|queue docs/cuda.md`: write a table into the page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.context import ROOT
from benchmarks.cuda import frame_queue, kernel_table, ptxas, queue_log, roofline
from benchmarks.cuda import page as pages
from benchmarks.cuda.backbone_layers import backbone_layers
from benchmarks.sites import load_scan

TARGETS = ("cuda_check", "cuda_orin")

app = typer.Typer(help=__doc__, add_completion=False)
Page = Annotated[Path, typer.Argument(help="The page that has the marks: docs/cuda.md.")]
Build = Annotated[Path, typer.Option(help="CMake's build folder, native tests built and run.")]
BUILD = ROOT / "build" / "editable"


@app.command()
def kernels(page: Page, build: Build = BUILD) -> None:
    """Registers, shared memory, spills and occupancy of every kernel."""
    uses = [use for target in TARGETS for use in ptxas.read_build(build, target)]
    blocks = queue_log.blocks_by_kernel(queue_log.read_build(build))
    text = kernel_table.render(uses, blocks, ptxas.nvcc_version(build))
    pages.write(page, "kernels", text)


@app.command("roofline")
def write_roofline(page: Page) -> None:
    """Bounds of every layer of the benchmark's backbone on the benchmark's scan."""
    scan = load_scan(ROOT)
    pages.write(page, "roofline", roofline.page_text(backbone_layers(scan), scan))


@app.command()
def queue(page: Page, build: Build = BUILD) -> None:
    """How many launches and waits a frame of that backbone has."""
    pages.write(page, "queue", frame_queue.page_text(frame_queue.frame_calls(build)))


if __name__ == "__main__":
    app()
