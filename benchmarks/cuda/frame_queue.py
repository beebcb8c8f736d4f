# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What one frame of the benchmark's backbone asks of the device, counted on the emulator."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.context import ROOT, Context
from benchmarks.cuda import queue_log
from benchmarks.protocol import Worker
from voxgate_ops.session import LIBRARY_VARIABLE

# Of the scan's sites, as emulation takes its time; what is queued does not depend on how many.
_SITES = 400
_LAUNCH_SECONDS = 3e-6  # assumed
_LIBRARY = Path("tests/cuda_emulation/onnxruntime/libvoxgate_onnxruntime_emulated.so")


def frame_calls(build: Path) -> Counter[str]:
    """Launches and other calls of one frame, by the words of `tests/cuda_emulation/queue_log.h`.

    Raises:
        FileNotFoundError: the emulated operator library is not built.
        WorkerError: the backbone cannot be exported or run.
    """
    library = build / _LIBRARY
    if not library.exists():
        raise FileNotFoundError(f"no {library}: make test-native")
    context = Context(runs=1, threads=[1], quick=True)
    model, _ = context.backbone
    scan = context.scan
    inputs = {"coords": scan.coords[:_SITES], "features": scan.features[:_SITES]}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "queue"
        environment = {LIBRARY_VARIABLE: str(library), queue_log.VARIABLE: str(log)}
        with Worker(sys.executable, "benchmarks.our_worker", ROOT, environment) as worker:
            worker.call("prepare_session", name="frame", path=str(model), inputs=inputs)
            counts = []
            for _ in range(2):
                worker.call("run", name="frame")
                launches, calls = queue_log.parse(log.read_text(encoding="utf-8"))
                counts.append(Counter({"launch": len(launches), **calls}))
    return counts[1] - counts[0]


def page_text(calls: Counter[str]) -> str:
    """The counts as Markdown."""
    words = {
        "launch": "kernels",
        "fill": "fills",
        "copy": "copies",
        "sort": "sorts",
        "sum": "prefix sums",
        "wait": "waits",
    }
    total = sum(calls.values())
    return "\n".join(
        [
            f"| {' | '.join(words.values())} | all | µs, at {1e6 * _LAUNCH_SECONDS:.0f} for each |",
            "|" + " --- |" * (len(words) + 2),
            f"| {' | '.join(str(calls[word]) for word in words)} | {total} "
            f"| {1e6 * _LAUNCH_SECONDS * total:.0f} |",
        ]
    )
