# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Our side's process on a GPU: sessions whose inputs and outputs stay in its memory."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.protocol import serve


class GpuWorker:
    """Prepares sessions by name; `run` runs one once and says how long it took.

    Data is on the GPU before and after. A run is timed from an idle GPU to an idle GPU.
    """

    device = "cuda:0"

    def __init__(self) -> None:
        self._bindings: dict[str, tuple[Any, Any]] = {}
        self._sessions: dict[tuple[str, bool], Any] = {}

    def prepare(
        self, name: str, path: str, inputs: dict[str, NDArray[Any]], use_tf32: bool = False
    ) -> None:
        """A run of the model at `path`; names that share path and precision share a session.

        Raises:
            ModelError: the GPU cannot be used, and why.
        """
        import onnxruntime as ort

        from voxgate_ops.session import open_session

        key = path, use_tf32
        if key not in self._sessions:
            self._sessions[key] = open_session(path, device=self.device, use_tf32=use_tf32)
        session = self._sessions[key]
        kind, _, index = self.device.partition(":")
        binding = session.io_binding()
        for item in session.get_inputs():
            value = np.ascontiguousarray(inputs[item.name])
            if value.ndim == 0:  # batch_size, which is read on the host
                binding.bind_cpu_input(item.name, value)
                continue
            moved = ort.OrtValue.ortvalue_from_numpy(value, kind, int(index or 0))
            binding.bind_ortvalue_input(item.name, moved)
        for item in session.get_outputs():
            binding.bind_output(item.name, kind, int(index or 0))
        self._bindings[name] = session, binding

    def run(self, name: str) -> float:
        """Seconds of one run of what was prepared under `name`."""
        session, binding = self._bindings[name]
        binding.synchronize_inputs()
        start = time.perf_counter()
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return time.perf_counter() - start

    def result(self, name: str) -> dict[str, NDArray[Any]]:
        """The outputs of the last run, by name."""
        session, binding = self._bindings[name]
        names = [item.name for item in session.get_outputs()]
        return dict(zip(names, binding.copy_outputs_to_cpu(), strict=True))


if __name__ == "__main__":
    serve(GpuWorker())
