# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A robot's process: one stream to a server, one frame in flight at a time."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.protocol import serve


class ClientWorker:
    """Streams the frame it was given, and times each answer from `send` to arrays in hand."""

    def __init__(self) -> None:
        self._stages: list[dict[str, int]] = []

    def connect(
        self,
        target: str,
        model: str,
        coords: NDArray[np.int32],
        features: NDArray[np.float32],
        timeout: float,
    ) -> None:
        """Open the stream as soon as the server answers.

        Raises:
            VoxgateRpcError: it did not within `timeout` seconds.
        """
        import grpc

        from voxgate_client import Frame, VoxgateClient, VoxgateRpcError

        self._client = VoxgateClient(target)
        self._frame = Frame(coords=coords, features=features)
        deadline = time.monotonic() + timeout
        while True:
            try:
                self._stream = self._client.open_stream(model, timeout=timeout)
                return
            except VoxgateRpcError as error:
                starting = error.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND)
                if not starting or time.monotonic() > deadline:
                    raise
            time.sleep(0.2)

    def run(self) -> float:
        """Seconds from sending the frame to its answer parsed.

        Raises:
            RuntimeError: the answer is an error, or the stream ended.
        """
        from voxgate_client import FrameResult

        start = time.perf_counter()
        self._stream.send(self._frame)
        answer = self._stream.receive(timeout=60)
        elapsed = time.perf_counter() - start
        if not isinstance(answer, FrameResult):
            raise RuntimeError(f"expected a result, got {answer}")
        self._answer = answer
        self._stages.append(asdict(answer.timing))
        return elapsed

    def outputs(self) -> dict[str, NDArray[Any]]:
        """Arrays of the last answer, by name."""
        return {name: np.array(value) for name, value in self._answer.outputs.items()}

    def stages(self) -> list[dict[str, int]]:
        """The server's own timing of every frame, in microseconds."""
        return self._stages

    def disconnect(self) -> None:
        """End the stream and the connection."""
        self._stream.close()
        self._client.close()


if __name__ == "__main__":
    serve(ClientWorker())
