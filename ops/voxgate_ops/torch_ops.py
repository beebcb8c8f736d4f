# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The operators as `torch.ops.voxgate.*`, so that torch.export sees one call per operator.

Importing this module registers them. Each runs the native library for float32 tensors on the CPU
and `voxgate_ops.reference` for everything else; gradients come from the reference. Names, argument
order and meaning are the reference's, except that `inverse_rulebook` and `reduce_rows` take the
`coords` whose row count is the output's, as the ONNX operators do.

`call` is what `voxgate_ops.nn` uses: it takes the reference directly when a gradient is wanted (its
graph is differentiable to any order) and the registered operator otherwise, which is also what it
does while torch.export or torch.compile traces.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voxgate_ops import reference

_native: ModuleType | None = None
try:
    _native = importlib.import_module("voxgate_ops._native")
except ImportError:  # a source tree that has not been built
    warnings.warn(
        "voxgate_ops._native is not built: every operator runs its slower torch reference",
        RuntimeWarning,
        stacklevel=2,
    )

# Operator -> what follows its name in the torch schema. Sizes that come from the data (batch_size)
# are SymInt, so a traced graph may compute them.
SCHEMAS = {
    "sort_sites": "(Tensor coords, int[] spatial_shape, str duplicates='error')"
    " -> (Tensor, Tensor, Tensor)",
    "find_sites": "(Tensor coords, Tensor query) -> Tensor",
    "submanifold_rulebook": "(Tensor coords, int[] spatial_shape, int[] kernel_size,"
    " int[] dilation) -> Tensor",
    "sparse_rulebook": "(Tensor coords, int[] spatial_shape, int[] kernel_size, int[] stride,"
    " int[] padding, int[] dilation, bool transposed=False, int[]? output_padding=None,"
    " Tensor? out_coords=None) -> (Tensor, Tensor)",
    "inverse_rulebook": "(Tensor neighbors, Tensor coords) -> Tensor",
    "sparse_conv": "(Tensor features, Tensor neighbors, Tensor weight, Tensor? bias=None,"
    " Tensor? residual=None, int groups=1, str activation='none', float alpha=0.01) -> Tensor",
    "sparse_pool": "(Tensor features, Tensor neighbors, str mode) -> Tensor",
    "sparse_global_pool": "(Tensor features, Tensor coords, SymInt batch_size, str mode) -> Tensor",
    "sparse_to_dense": "(Tensor coords, Tensor features, SymInt batch_size, int[] spatial_shape)"
    " -> Tensor",
    "dense_to_sparse": "(Tensor dense, float threshold=0.0) -> (Tensor, Tensor)",
    "sparse_union": "(Tensor coords_a, Tensor features_a, Tensor coords_b, Tensor features_b,"
    " str mode) -> (Tensor, Tensor)",
    "gather_rows": "(Tensor x, Tensor row, float fill=0.0) -> Tensor",
    "reduce_rows": "(Tensor x, Tensor row, Tensor coords, str mode) -> Tensor",
    "voxelize": "(Tensor points, Tensor point_batch, float[] point_range, float[] voxel_size,"
    " str reduce='mean', int max_points=0, int max_voxels=0) -> (Tensor, Tensor, Tensor)",
    "sparse_interpolate": "(Tensor features, Tensor coords, Tensor points, Tensor point_batch,"
    " float[] point_range, float[] voxel_size, str mode='trilinear', str anchor='center',"
    " bool normalize=True) -> Tensor",
    "rotated_nms": "(Tensor boxes, Tensor scores, Tensor frame, float iou_threshold,"
    " float score_threshold=0.0, int max_per_frame=0) -> Tensor",
}

_INTEGERS = (torch.int32, torch.int64)


# Where the torch operator takes coords and the library their row count.
_TAKES_ROW_COUNT = {"inverse_rulebook": 1, "reduce_rows": 2}


def _library_arguments(name: str, args: Sequence[Any]) -> list[Any]:
    converted = list(args)
    if name in _TAKES_ROW_COUNT:
        position = _TAKES_ROW_COUNT[name]
        converted[position] = converted[position].shape[0]
    return converted


def _reference(name: str, args: Sequence[Any]) -> Any:
    return getattr(reference, name)(*_library_arguments(name, args))


def _runs_native(name: str, args: Sequence[Any]) -> bool:
    tensors = [arg for arg in args if isinstance(arg, Tensor)]
    floats = {t.dtype for t in tensors if t.dtype not in _INTEGERS}
    if name == "gather_rows" and not floats:  # the library gathers integers too
        floats = {torch.float32}
    elif name == "reduce_rows" and tensors[0].dtype in _INTEGERS:
        return False
    return (
        _native is not None
        and floats <= {torch.float32}
        and all(t.device.type == "cpu" for t in tensors)
    )


def _call_native(name: str, args: Sequence[Any]) -> Any:
    arrays = [
        arg.detach().contiguous().numpy() if isinstance(arg, Tensor) else arg
        for arg in _library_arguments(name, args)
    ]
    out = getattr(_native, name)(*arrays, threads=torch.get_num_threads())
    if isinstance(out, np.ndarray):
        return torch.from_numpy(out)
    return tuple(torch.from_numpy(array) for array in out)


def _run(name: str, args: Sequence[Any]) -> Any:
    if _runs_native(name, args):
        return _call_native(name, args)
    out = _reference(name, args)
    if name == "sparse_rulebook" and any(out[0] is arg for arg in args):
        return out[0].clone(), out[1]  # an operator's output may not alias its input
    return out


# --- shapes while tracing -----------------------------------------------------------------------


def _new_rows() -> Any:
    return torch.library.get_ctx().new_dynamic_size()


def _fake_sort_sites(coords: Tensor, spatial_shape: Any, duplicates: str = "error") -> Any:
    # With duplicates refused there are as many sites out as in, and a tracer may know it.
    rows = coords.shape[0] if duplicates == "error" else _new_rows()
    return (
        coords.new_empty((rows, coords.shape[1])),
        coords.new_empty((rows,), dtype=torch.int64),
        coords.new_empty((coords.shape[0],), dtype=torch.int64),
    )


def _volume(kernel_size: Sequence[int]) -> int:
    volume = 1
    for size in kernel_size:
        volume *= size
    return volume


def _fake_sparse_rulebook(
    coords: Tensor,
    spatial_shape: Any,
    kernel_size: Sequence[int],
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool = False,
    output_padding: Any = None,
    out_coords: Tensor | None = None,
) -> Any:
    rows = _new_rows() if out_coords is None else out_coords.shape[0]
    return (
        coords.new_empty((rows, coords.shape[1])),
        coords.new_empty((_volume(kernel_size), rows)),
    )


def _fake_sparse_conv(
    features: Tensor, neighbors: Tensor, weight: Tensor, *_: Any, **__: Any
) -> Any:
    return features.new_empty((neighbors.shape[1], weight.shape[2]))


def _fake_dense_to_sparse(dense: Tensor, threshold: float = 0.0) -> Any:
    rows = _new_rows()
    return (
        dense.new_empty((rows, dense.dim() - 1), dtype=torch.int32),
        dense.new_empty((rows, dense.shape[1])),
    )


def _fake_sparse_union(
    coords_a: Tensor, features_a: Tensor, coords_b: Tensor, features_b: Tensor, mode: str
) -> Any:
    rows, channels = _new_rows(), features_a.shape[1]
    if mode == "concat":
        channels = channels + features_b.shape[1]
    return coords_a.new_empty((rows, coords_a.shape[1])), features_a.new_empty((rows, channels))


def _fake_voxelize(
    points: Tensor,
    point_batch: Tensor,
    point_range: Any,
    voxel_size: Sequence[float],
    *_: Any,
    **__: Any,
) -> Any:
    rows = _new_rows()
    return (
        point_batch.new_empty((rows, 1 + len(voxel_size))),
        points.new_empty((rows, points.shape[1])),
        point_batch.new_empty((points.shape[0],)),
    )


_FAKES: dict[str, Callable[..., Any]] = {
    "sort_sites": _fake_sort_sites,
    "find_sites": lambda coords, query: query.new_empty((query.shape[0],)),
    "submanifold_rulebook": lambda coords, spatial_shape, kernel_size, dilation: coords.new_empty(
        (_volume(kernel_size), coords.shape[0])
    ),
    "sparse_rulebook": _fake_sparse_rulebook,
    "inverse_rulebook": lambda neighbors, coords: neighbors.new_empty(
        (neighbors.shape[0], coords.shape[0])
    ),
    "sparse_conv": _fake_sparse_conv,
    "sparse_pool": lambda features, neighbors, mode: features.new_empty(
        (neighbors.shape[1], features.shape[1])
    ),
    "sparse_global_pool": lambda features, coords, batch_size, mode: features.new_empty(
        (batch_size, features.shape[1])
    ),
    "sparse_to_dense": lambda coords, features, batch_size, spatial_shape: features.new_empty(
        (batch_size, features.shape[1], *spatial_shape)
    ),
    "dense_to_sparse": _fake_dense_to_sparse,
    "sparse_union": _fake_sparse_union,
    "gather_rows": lambda x, row, fill=0.0: x.new_empty((row.shape[0], x.shape[1])),
    "reduce_rows": lambda x, row, coords, mode: x.new_empty((coords.shape[0], x.shape[1])),
    "voxelize": _fake_voxelize,
    "sparse_interpolate": lambda features, coords, points, *_, **__: features.new_empty(
        (points.shape[0], features.shape[1])
    ),
    "rotated_nms": lambda boxes, *_, **__: boxes.new_empty((_new_rows(),), dtype=torch.int64),
}


# --- gradients of the registered operators ------------------------------------------------------

# Operator -> which of its outputs carries gradients.
_DIFFERENTIABLE = {
    "sparse_conv": 0,
    "sparse_pool": 0,
    "sparse_global_pool": 0,
    "sparse_to_dense": 0,
    "dense_to_sparse": 1,
    "sparse_union": 1,
    "gather_rows": 0,
    "reduce_rows": 0,
    "voxelize": 1,
    "sparse_interpolate": 0,
}


def _register_gradient(operator: Any, name: str, output: int) -> None:
    """The gradient of one operator: the reference, run again on the saved inputs."""

    def setup_context(ctx: Any, inputs: Sequence[Any], output: Any) -> None:
        ctx.is_tensor = [isinstance(arg, Tensor) for arg in inputs]
        ctx.constants = [None if isinstance(arg, Tensor) else arg for arg in inputs]
        ctx.save_for_backward(*(arg for arg in inputs if isinstance(arg, Tensor)))

    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved = iter(ctx.saved_tensors)
        # Arguments left at their defaults are among the inputs but not among the gradients.
        count = len(ctx.needs_input_grad)
        wanted = [*ctx.needs_input_grad, *[False] * (len(ctx.is_tensor) - count)]
        args = [
            next(saved).detach().requires_grad_(want) if is_tensor else constant
            for is_tensor, constant, want in zip(ctx.is_tensor, ctx.constants, wanted, strict=True)
        ]
        with torch.enable_grad():
            out = _reference(name, args)
        out = out[output] if isinstance(out, tuple) else out
        sources = [arg for arg, want in zip(args, wanted, strict=True) if want]
        found = iter(torch.autograd.grad(out, sources, grads[output], allow_unused=True))
        return tuple(next(found) if want else None for want in ctx.needs_input_grad)

    operator.register_autograd(backward, setup_context=setup_context)


def _register(name: str) -> None:
    def run(*args: Any) -> Any:
        return _run(name, args)

    operator = torch.library.custom_op(
        f"voxgate::{name}", run, mutates_args=(), schema=SCHEMAS[name]
    )
    operator.register_fake(_FAKES[name])
    if name in _DIFFERENTIABLE:
        _register_gradient(operator, name, _DIFFERENTIABLE[name])


for _name in SCHEMAS:
    _register(_name)


# --- what nn calls ------------------------------------------------------------------------------


def call(name: str, *args: Any) -> Any:
    """Runs one operator of `SCHEMAS`: the reference if a gradient is wanted, else the operator.

    Arguments are positional, in the schema's order. Raises ValueError for bad shapes and values.
    """
    wants_gradient = torch.is_grad_enabled() and any(
        isinstance(arg, Tensor) and arg.requires_grad for arg in args
    )
    if wants_gradient and not torch.compiler.is_compiling():
        return _reference(name, args)
    return getattr(torch.ops.voxgate, name)(*args)
