# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""From a torch network to a torch graph of `voxgate` operators with named outputs."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.nn.modules.batchnorm import _BatchNorm

from voxgate_ops import torch_ops  # noqa: F401 (registers torch.ops.voxgate)
from voxgate_ops.errors import ExportError
from voxgate_ops.export.size_guards import check_sizes_are_free, own_line
from voxgate_ops.export.translation import frozen_batch_norm
from voxgate_ops.metadata import OutputMeaning, OutputMetadata, voxel_grid_shape
from voxgate_ops.nn import SparseBatchNorm, SparseConvTensor, SparseSyncBatchNorm

UNNAMED_OUTPUT = "out"
INPUT_NAMES = ("coords", "features", "points", "point_batch", "batch_size")
_GATHERED_TYPES = (torch.float32, torch.int32, torch.int64)
_DYNAMIC = torch.export.Dim.DYNAMIC

OutputSpec = Mapping[str, OutputMeaning | OutputMetadata]


@dataclass(frozen=True)
class Voxelizer:
    """How points become voxels inside the exported graph (the operator Voxelize).

    Args:
        point_range: x0, y0, z0, x1, y1, z1 in metres.
        voxel_size: x, y, z in metres.
        reduce: how a voxel's points become its features: `mean`, `max`, `sum` or `first`.
        max_points: points reduced per voxel, the first ones; 0: all.
        max_voxels: voxels kept per frame, by first appearance; 0: all.
    """

    point_range: Sequence[float]
    voxel_size: Sequence[float]
    reduce: str = "mean"
    max_points: int = 0
    max_voxels: int = 0

    def grid_shape(self) -> list[int]:
        """Voxels per axis in the order of the coords' columns (3-D: z, y, x).

        Raises:
            ExportError: the range and the size do not fit each other.
        """
        try:
            return voxel_grid_shape(self.point_range, self.voxel_size)
        except ValueError as error:
            raise ExportError(str(error)) from error

    def __call__(self, points: Tensor, point_batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """coords, features and point_voxel of points float32 [P, F]."""
        coords, features, point_voxel = torch.ops.voxgate.voxelize(
            points,
            point_batch,
            list(self.point_range),
            list(self.voxel_size),
            self.reduce,
            self.max_points,
            self.max_voxels,
        )
        return coords, features, point_voxel


@dataclass
class OutputPlan:
    """What tracing finds out about the outputs, by name, in the graph's order."""

    given: OutputSpec
    outputs: dict[str, OutputMetadata] = field(default_factory=dict)


@dataclass(frozen=True)
class Rows:
    """The entry's row counts, which tell what the rows of a plain tensor stand for.

    `back` takes a row of the input's order to its row in the network; `points` says whether the
    input's rows are points.
    """

    sites: Any
    batch: Any
    back: Tensor
    points: bool


class Entry(nn.Module):
    """The network behind the graph's inputs: canonical sites in, named tensors out."""

    def __init__(
        self,
        network: nn.Module,
        spatial_shape: Sequence[int],
        voxelizer: Voxelizer | None,
        plan: OutputPlan,
    ) -> None:
        super().__init__()
        self.network = network
        self.spatial_shape = list(spatial_shape)
        self.voxelizer = voxelizer
        self.plan = plan

    def forward(self, rows: Tensor, columns: Tensor, batch_size: int) -> dict[str, Tensor]:
        """`rows`, `columns` are coords, features or, with a voxelizer, points, point_batch."""
        if self.voxelizer is None:
            coords, order, rank = torch.ops.voxgate.sort_sites(rows, self.spatial_shape, "error")
            features = torch.ops.voxgate.gather_rows(columns, order.to(torch.int32), 0.0)
            back = rank.to(torch.int32)
        else:
            coords, features, back = self.voxelizer(rows, columns)
        sites = SparseConvTensor(features, coords, self.spatial_shape, batch_size)
        known = Rows(coords.shape[0], batch_size, back, points=self.voxelizer is not None)
        found = named_outputs(self.network(sites))
        outputs: dict[str, Tensor] = {}
        self.plan.outputs.clear()
        for name, value in found.items():
            if isinstance(value, SparseConvTensor):
                outputs.update(_sparse_output(name, value, self.plan))
            else:
                outputs[name] = _plain_output(name, value, known, self.plan)
        _check_names(found, outputs, self.plan)
        return outputs


def named_outputs(result: Any) -> dict[str, SparseConvTensor | Tensor]:
    """A network's result by output name.

    Raises:
        ExportError: it is no SparseConvTensor, tensor or dict of either by str.
    """
    if isinstance(result, (SparseConvTensor, Tensor)):
        return {UNNAMED_OUTPUT: result}
    if not isinstance(result, dict) or not result:
        raise ExportError(
            f"the network returned {type(result).__name__}, expected a SparseConvTensor, a tensor "
            "or a non-empty dict of either"
        )
    for name, value in result.items():
        if not isinstance(name, str) or not name:
            raise ExportError(f"output name {name!r} is not a non-empty str")
        if not isinstance(value, (SparseConvTensor, Tensor)):
            raise ExportError(
                f"output {name!r} is {type(value).__name__}, expected a SparseConvTensor or a "
                "tensor"
            )
    return result


def _sparse_output(name: str, value: SparseConvTensor, plan: OutputPlan) -> dict[str, Tensor]:
    sites = OutputMetadata(meaning="sparse", coords=f"{name}_coords")
    plan.outputs[f"{name}_coords"] = plan.outputs[f"{name}_features"] = sites
    return {f"{name}_coords": value.indices, f"{name}_features": value.features}


def _plain_output(name: str, value: Tensor, rows: Rows, plan: OutputPlan) -> Tensor:
    given = plan.given.get(name)
    meaning = given.meaning if isinstance(given, OutputMetadata) else given
    per_input: OutputMeaning = "per_point" if rows.points else "per_site"
    of_sites = value.dim() > 0 and statically_known_true(value.shape[0] == rows.sites)
    if meaning is None:
        meaning = per_input if of_sites else _dense_or_per_frame(name, value, rows)
    if meaning in ("per_site", "per_point"):
        if meaning != per_input or not of_sites:
            raise ExportError(
                f"output {name!r} of shape {tuple(value.shape)} cannot be {meaning}: that needs "
                f"one row per input site, and this model's input makes such outputs {per_input}"
            )
        value = _in_input_order(name, value, rows)
    if not isinstance(given, OutputMetadata):
        if meaning in ("sparse", "detections"):
            raise ExportError(
                f"output {name!r} is {meaning}: give OutputMetadata, which names the output that "
                "holds its sites or frames"
            )
        given = OutputMetadata(meaning=meaning)
    plan.outputs[name] = given
    return value


def _dense_or_per_frame(name: str, value: Tensor, rows: Rows) -> OutputMeaning:
    if value.dim() > 0 and statically_known_true(value.shape[0] == rows.batch):
        return "dense" if value.dim() > 2 else "per_frame"
    raise ExportError(
        f"output {name!r} has shape {tuple(value.shape)}, which is neither one row per input site "
        f"nor one per frame: say in outputs={{{name!r}: …}} what its rows are"
    )


def _in_input_order(name: str, value: Tensor, rows: Rows) -> Tensor:
    """One row per row of the graph's input, in its order; a point without voxel gets 0 or -1."""
    if value.dtype not in _GATHERED_TYPES:
        raise ExportError(
            f"output {name!r} has one row per site and dtype {value.dtype}: return float32, int32 "
            "or int64"
        )
    fill = 0.0 if value.dtype.is_floating_point else -1.0
    flat = value.unsqueeze(1) if value.dim() == 1 else value.flatten(1)
    gathered: Tensor = torch.ops.voxgate.gather_rows(flat, rows.back, fill)
    if value.dim() == 1:
        return gathered.squeeze(1)
    return gathered if value.dim() == 2 else gathered.reshape(-1, *value.shape[1:])


def _check_names(found: Mapping[str, Any], outputs: Mapping[str, Tensor], plan: OutputPlan) -> None:
    expected = sum(2 if isinstance(v, SparseConvTensor) else 1 for v in found.values())
    if len(outputs) != expected:
        raise ExportError(f"two outputs have the same name among {', '.join(outputs)}")
    for name in outputs:
        if name in INPUT_NAMES:
            raise ExportError(f"output {name!r} has the name of an input: rename it")
    tensors = [name for name, value in found.items() if isinstance(value, Tensor)]
    unknown = sorted(set(plan.given) - set(tensors))
    if unknown:
        raise ExportError(
            f"outputs says what {', '.join(unknown)} means, but the network's plain tensors are: "
            f"{', '.join(tensors) or 'none'}"
        )


# --- preparing the network ----------------------------------------------------------------------


_BATCH_NORM_FORWARDS = (
    _BatchNorm.forward,
    nn.SyncBatchNorm.forward,
    SparseBatchNorm.forward,
    SparseSyncBatchNorm.forward,
)


class _FrozenBatchNorm(nn.Module):
    """Stands in for a batch normalization in eval mode while tracing."""

    def __init__(self, norm: _BatchNorm, name: str) -> None:
        super().__init__()
        if norm.running_mean is None or norm.running_var is None:
            raise ExportError(
                f"{name or 'the network'} ({type(norm).__name__}) keeps no running statistics, so "
                "its result depends on the batch: use track_running_stats=True"
            )
        one = torch.ones_like(norm.running_var)
        self.epsilon = norm.eps
        self.register_buffer("scale", one if norm.weight is None else norm.weight.detach())
        self.register_buffer("shift", one * 0 if norm.bias is None else norm.bias.detach())
        self.register_buffer("mean", norm.running_mean)
        self.register_buffer("variance", norm.running_var)

    def forward(self, x: Any) -> Any:
        if isinstance(x, SparseConvTensor):
            return x.replace_feature(self.forward(x.features))
        return frozen_batch_norm(x, self.scale, self.shift, self.mean, self.variance, self.epsilon)


def eager_copy(network: nn.Module) -> nn.Module:
    """A copy in eval mode, float32 and on the CPU: what the exported model is held to."""
    return copy.deepcopy(network).eval().requires_grad_(False).to("cpu", torch.float32)


def traceable_copy(network: nn.Module) -> nn.Module:
    """A copy of an eager copy with every batch normalization replaced by an opaque operator."""
    return _freeze(copy.deepcopy(network), "")


def _freeze(module: nn.Module, path: str) -> nn.Module:
    # A subclass that computes something else is traced as it is.
    if isinstance(module, _BatchNorm) and type(module).forward in _BATCH_NORM_FORWARDS:
        return _FrozenBatchNorm(module, path)
    # Not named_children(): it passes over a module that is registered under a second name.
    for name, child in list(module._modules.items()):
        if child is None:
            continue
        frozen = _freeze(child, f"{path}.{name}" if path else name)
        if frozen is not child:
            module.register_module(name, frozen)
    return module


def trace(entry: Entry, rows: Tensor, columns: Tensor) -> torch.export.ExportedProgram:
    """torch.export of the entry with the number of rows and the batch size unknown.

    Raises:
        ExportError: torch cannot trace the network, or what it traced holds for some numbers of
            rows only; the cause is torch's own error.
    """
    dynamic = {"rows": {0: _DYNAMIC}, "columns": {0: _DYNAMIC}, "batch_size": _DYNAMIC}
    try:
        with torch.no_grad(), _without_partial_graphs():
            program = torch.export.export(
                entry, (rows, columns, 2), dynamic_shapes=dynamic, strict=False
            )
    except ExportError:
        raise
    except Exception as error:  # whatever the network's own code or torch raises
        reason = str(error).strip().splitlines()
        raise ExportError(
            f"torch.export cannot trace the network: {type(error).__name__}: "
            f"{reason[0] if reason else 'no message'}{own_line(error)}"
        ) from error
    check_sizes_are_free(program)
    return program


@contextmanager
def _without_partial_graphs() -> Iterator[None]:
    """Keeps torch from printing the graph so far where it cannot go on: pages of it."""
    logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    level = logger.level
    logger.setLevel(logging.ERROR)
    printed = io.StringIO()
    shown = True
    try:
        with contextlib.redirect_stderr(printed):
            yield
    except Exception as error:
        shown = not hasattr(error, "partial_fx_graph")
        raise
    finally:
        logger.setLevel(level)
        if shown:  # it is the network's own
            sys.stderr.write(printed.getvalue())
