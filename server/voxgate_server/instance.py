# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""One ONNX Runtime session: a batch of frames in, each frame's outputs back. Blocks."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from voxgate_server.batch import BatchBuffers, HighWater, concatenate, split
from voxgate_server.codec import Array, DecodedFrame, FrameSpec, OutputSpec
from voxgate_server.errors import InternalError, InvalidFrame, ModelLimitExceeded

# How the operators mark a limit that was passed, and ONNX Runtime, CUDA, cuBLAS and cuDNN that
# memory ran out: there is no code for either.
_EXHAUSTED = (
    *("resource exhausted", "failed to allocate memory", "out of memory"),
    *("alloc_failed", "allocation_failed", "allocation failed"),
)
_SHRINK = "memory.enable_memory_arena_shrinkage"
_NO_ARENA = "memory arena shrink list"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Execution:
    """One frame's part of a run: outputs by name, their rows in canonical order.

    There is neither a batch axis nor a batch column. The arrays are views of the whole batch's
    outputs and keep them alive. `seconds` is the time of ONNX Runtime's run alone.
    """

    outputs: dict[str, Array]
    seconds: float
    batch_frames: int
    batch_sites: int


class Instance:
    """A session and the buffers of its batches: for one thread at a time."""

    def __init__(self, session: ort.InferenceSession, spec: FrameSpec, device: str = "cpu") -> None:
        """`device`: where the session runs, `cpu` or `cuda:N`."""
        self.buffers = BatchBuffers()
        self._session = session
        self._spec = spec
        self._takes_batch_size = "batch_size" in {item.name for item in session.get_inputs()}
        self._sites = HighWater()
        # Outputs come to the host whatever the device. One arena a run: of a list ONNX Runtime
        # (1.31) shrinks the first alone.
        self._arenas = ["cpu:0"]
        if device != "cpu":
            self._arenas.append(device.replace("cuda", "gpu"))
        self._too_large: list[str] = []

    def execute(
        self,
        frames: Sequence[DecodedFrame],
        outputs: Sequence[OutputSpec],
        options: ort.RunOptions,
    ) -> list[Execution]:
        """Run `frames` as one batch and give each one's outputs.

        Args:
            frames: one at least.
            outputs: the outputs to compute.
            options: of this run; setting its `terminate` from another thread ends it.

        Raises:
            InvalidFrame: an operator refused the values of a frame.
            ModelLimitExceeded: an operator's output would be too large, or memory ran out.
            InternalError: anything else went wrong in ONNX Runtime, or the run was stopped.
        """
        counts = [frame.num_sites for frame in frames]
        sites = sum(counts)
        inputs = concatenate(frames, self._spec, self.buffers)
        if self._takes_batch_size:
            inputs["batch_size"] = np.array(len(frames), np.int64)
        if self._sites.use(sites):  # what the arenas hold for larger batches goes back
            self._too_large = list(self._arenas)
        if self._too_large:
            options.add_run_config_entry(_SHRINK, self._too_large.pop())
        names = list(
            dict.fromkeys(n for spec in outputs for n in (spec.name, spec.coords, spec.frame) if n)
        )
        started = time.monotonic()
        arrays = self._run(names, inputs, options)
        seconds = time.monotonic() - started
        parts = split(dict(zip(names, arrays, strict=True)), outputs, counts)
        return [Execution(part, seconds, len(frames), sites) for part in parts]

    def _run(
        self, names: Sequence[str], inputs: Mapping[str, Array], options: ort.RunOptions
    ) -> list[Array]:
        # ONNX Runtime copies neither: it reads contiguous arrays where they are, and the arrays it
        # gives own the tensors they look at, which outlive the session.
        try:
            arrays: list[Array] = self._session.run(names, inputs, options)
        except ort_errors.InvalidArgument as error:
            if _NO_ARENA in str(error):  # said before anything ran
                log.warning("memory is kept that is no longer needed: %s", error)
                self._arenas, self._too_large = ["cpu:0"], []
                options.add_run_config_entry(_SHRINK, "")
                return self._run(names, inputs, options)
            raise InvalidFrame(f"the model refused the frame: {error}") from error
        except Exception as error:  # ONNX Runtime's exceptions share no base but this
            if options.terminate:
                raise InternalError("the run took too long and was stopped") from error
            if any(mark in str(error).lower() for mark in _EXHAUSTED):
                raise ModelLimitExceeded(f"the model has no room for the frame: {error}") from error
            raise InternalError(f"the model failed: {error}") from error
        # Some versions of it hand out an input that is an output too as a view.
        return [_owned(array, inputs) for array in arrays]


def _owned(array: Array, inputs: Mapping[str, Array]) -> Array:
    shared = any(np.may_share_memory(array, given) for given in inputs.values())
    return array.copy() if shared else array
