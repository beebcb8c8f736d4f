# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Our side's process: the native library and ONNX Runtime, never torch."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.memory import peak_bytes
from benchmarks.protocol import serve

_CACHE_LINE = 64


def _on_cache_lines(array: NDArray[Any]) -> NDArray[Any]:
    """A writable copy that starts on a cache line."""
    room = np.empty(array.nbytes + _CACHE_LINE, np.uint8)
    start = -room.ctypes.data % _CACHE_LINE
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


class OurWorker:
    """Prepares pieces of work by name; `run` does one once and says how long it took.

    Voxgate is imported by the first call that needs it, so that what is missing becomes an answer
    with a name and not a dead process.
    """

    def __init__(self) -> None:
        self._threads = 1
        self._work: dict[str, Callable[[], Any]] = {}
        self._last: dict[str, Any] = {}
        self._sessions: dict[str, Any] = {}

    def versions(self) -> dict[str, str]:
        """ONNX Runtime's version and the instruction set that our kernels chose."""
        import onnxruntime

        from voxgate_ops import _native

        return {"onnxruntime": onnxruntime.__version__, "isa": _native.current_isa()}

    def set_threads(self, threads: int) -> None:
        """Threads of what is prepared from now on."""
        self._threads = threads

    def levels(
        self,
        coords: NDArray[np.int32],
        spatial_shape: list[int],
        downsampling: list[tuple[list[int], list[int], list[int]]],
    ) -> list[tuple[NDArray[np.int32], list[int]]]:
        """Sites and grid of every level: the input's, then one per (kernel, stride, padding)."""
        from voxgate_ops import _native

        found = [(coords, list(spatial_shape))]
        for kernel_size, stride, padding in downsampling:
            below, shape = found[-1]
            sites, _ = _native.sparse_rulebook(
                below, shape, kernel_size, stride, padding, [1] * len(shape)
            )
            sizes = zip(shape, kernel_size, stride, padding, strict=True)
            found.append((sites, [(n + 2 * p - k) // s + 1 for n, k, s, p in sizes]))
        return found

    def submanifold_rulebook(
        self, coords: NDArray[np.int32], spatial_shape: list[int], kernel_size: list[int]
    ) -> NDArray[np.int32]:
        """neighbors [K, N] of canonical coords."""
        from voxgate_ops import _native

        ones = [1] * len(kernel_size)
        neighbors: NDArray[np.int32] = _native.submanifold_rulebook(
            coords, spatial_shape, kernel_size, ones
        )
        return neighbors

    def prepare_session(
        self, name: str, path: str, inputs: dict[str, NDArray[Any]], as_served: bool = False
    ) -> None:
        """A run of the model at `path`; names that share a path share a session.

        `as_served`: with the session options that the server has for it.
        """
        session = self._session(path, as_served)
        names = [output.name for output in session.get_outputs()]

        def work() -> Any:
            return dict(zip(names, session.run(None, inputs), strict=True))

        self._work[name] = work

    def prepare_bound_session(
        self, name: str, path: str, inputs: dict[str, NDArray[Any]], output: NDArray[Any]
    ) -> None:
        """The same into `output`, an array made beforehand, for a model with one output.

        It leaves out what `prepare_session` has on top of the operators: a new array for every
        output, and the page faults of its first use. Inputs and output lie on cache lines, as the
        tensors that ONNX Runtime hands from layer to layer do and arrays of numpy need not.
        """
        session = self._session(path)
        binding = session.io_binding()
        output = _on_cache_lines(output)
        for input_name, value in inputs.items():
            binding.bind_cpu_input(input_name, _on_cache_lines(value))
        binding.bind_output(
            session.get_outputs()[0].name, "cpu", 0, output.dtype, output.shape, output.ctypes.data
        )

        def work() -> NDArray[Any]:
            session.run_with_iobinding(binding)
            return output

        self._work[name] = work

    def _session(self, path: str, as_served: bool = False) -> Any:
        from voxgate_ops.session import open_session

        if path not in self._sessions:
            config = {}
            if as_served:
                from voxgate_server.engine import session_config

                config = session_config()
            self._sessions[path] = open_session(path, threads=self._threads, config=config)
        return self._sessions[path]

    def run(self, name: str, warm_runs: int = 0) -> float:
        """Seconds of one run of what was prepared under `name`, after untimed ones if asked for."""
        work = self._work[name]
        self._last.pop(name, None)
        for _ in range(warm_runs):
            work()
        start = time.perf_counter()
        self._last[name] = work()
        return time.perf_counter() - start

    def result(self, name: str) -> Any:
        """What the last run under `name` returned: an array, or outputs by name."""
        return self._last[name]

    def peak_bytes(self) -> int:
        """Peak resident memory so far."""
        return peak_bytes()


if __name__ == "__main__":
    serve(OurWorker())
