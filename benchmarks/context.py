# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What the cases share: the scan, the options, and workers made on demand."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from benchmarks.fma_peak import FmaPeak
from benchmarks.peer_environment import CUDA, peer_python
from benchmarks.protocol import Worker
from benchmarks.quiet import Quiet
from benchmarks.sites import SPATIAL_SHAPE, Scan, load_scan

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Context:
    """Options of this run, and things that are costly to make, made once when first asked for.

    `quiet` is called before every timed run. `cuda_peer` is a Python with spconv's CUDA build;
    None: one is installed.
    """

    runs: int
    threads: list[int]
    quick: bool
    build: Path = field(default_factory=lambda: ROOT / "build")
    patience: float = 0.0
    cuda_peer: Path | None = None
    quiet: Quiet = field(default_factory=lambda: Quiet(0.0))

    @cached_property
    def scan(self) -> Scan:
        return load_scan(ROOT)

    @cached_property
    def fma_peak(self) -> FmaPeak:
        """Raises RuntimeError without a C++ compiler."""
        return FmaPeak(self.models)

    @property
    def models(self) -> Path:
        """Folder of what the cases write: models and the peak program."""
        folder = self.build / "benchmarks"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def peer(self, threads: int) -> Worker:
        """A fresh peer process with `threads` threads.

        Raises PeerUnavailableError when the environment cannot be made.
        """
        python = peer_python(self.build / "benchmark-peer")
        return _started(
            Worker(python, "benchmarks.peer_worker", ROOT, _environment(threads)), threads
        )

    def ours(self, threads: int) -> Worker:
        """A fresh process of ours with `threads` threads."""
        worker = Worker(sys.executable, "benchmarks.our_worker", ROOT, _environment(threads))
        return _started(worker, threads)

    def gpu_peer(self) -> Worker:
        """A fresh peer process for the GPU.

        Raises PeerUnavailableError when the environment cannot be made.
        """
        python = self.cuda_peer or peer_python(self.build / "benchmark-peer-cuda", CUDA)
        return Worker(python, "benchmarks.gpu_peer_worker", ROOT)

    def gpu_ours(self) -> Worker:
        """A fresh process of ours for the GPU."""
        return Worker(sys.executable, "benchmarks.gpu_worker", ROOT)

    @cached_property
    def backbone(self) -> tuple[Path, dict[str, NDArray[Any]]]:
        """The exported backbone and the state_dict it was exported from.

        Raises WorkerError when the export fails.
        """
        return self.exported_backbone("fp32")

    def exported_backbone(self, precision: str) -> tuple[Path, dict[str, NDArray[Any]]]:
        """The same with features of another type."""
        path = self.models / f"voxel_backbone8x_{precision}.onnx"
        with Worker(sys.executable, "benchmarks.exporter_worker", ROOT) as exporter:
            weights = exporter.call(
                "export_backbone",
                path=str(path),
                spatial_shape=SPATIAL_SHAPE,
                num_features=self.scan.features.shape[1],
                precision=precision,
            )
        return path, weights

    @cached_property
    def unet(self) -> tuple[Path, Path]:
        """A models folder that a server can load the U-Net from, and the model's own path.

        Raises WorkerError when the export fails.
        """
        folder = self.models / "models"
        path = folder / "sparse_unet" / "1" / "model.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        with Worker(sys.executable, "benchmarks.exporter_worker", ROOT) as exporter:
            exporter.call("export_unet", path=str(path), spatial_shape=SPATIAL_SHAPE)
        return folder, path


def _environment(threads: int) -> dict[str, str]:
    """OpenMP's own variable reaches every copy of its run time that a process loads."""
    return {"OMP_NUM_THREADS": str(threads)}


def _started(worker: Worker, threads: int) -> Worker:
    worker.call("set_threads", threads=threads)
    return worker
