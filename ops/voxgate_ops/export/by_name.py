# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What `voxgate export` does: find the network, load weights, derive the grid, export."""

from __future__ import annotations

import importlib
import inspect
import pickle
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from voxgate_ops.errors import ExportError
from voxgate_ops.export import ExportReport, Voxelizer, export_onnx
from voxgate_ops.metadata import Precision, check_voxel_grid
from voxgate_ops.models import MODELS, ModelSpec

# Under which key trainers keep the weights: OpenPCDet, Lightning and mmdetection3d, plain scripts.
_WRAPPERS = ("model_state", "state_dict", "model")


@dataclass(frozen=True)
class ExportOptions:
    """The command's options; None means not given."""

    model: str
    output: Path
    checkpoint: Path | None = None
    prefix: str = ""
    points: bool = False
    num_features: int | None = None
    feature_names: Sequence[str] | None = None
    point_range: Sequence[float] | None = None
    voxel_size: Sequence[float] | None = None
    spatial_shape: Sequence[int] | None = None
    class_names: Sequence[str] | None = None
    precision: Precision = "fp32"
    batchable: bool = True
    seed: int = 0


def run_export(options: ExportOptions, progress: Callable[[str], None]) -> ExportReport:
    """Export as the options say.

    Raises:
        ExportError: no such network, a checkpoint that does not fit, options that are missing or
            contradict each other, or whatever `export_onnx` raises.
    """
    found = _found(options.model)
    spec = found if isinstance(found, ModelSpec) else None
    point_range = options.point_range or (spec.point_range if spec else None)
    voxel_size = options.voxel_size or (spec.voxel_size if spec else None)
    names = _feature_names(options, spec)
    num_features = options.num_features or (len(names) if names else None)
    if num_features is None:
        raise ExportError(f"{options.model}: give --num-features or --feature-names")
    network = _network(found, options, num_features)
    if options.checkpoint is not None:
        _load_checkpoint(network, options.checkpoint, options.prefix)
    voxelizer = None
    if options.points:
        if point_range is None or voxel_size is None:
            raise ExportError("--points needs --point-range and --voxel-size")
        voxelizer = Voxelizer(point_range, voxel_size)
    known = spec is not None and list(names or ()) == list(spec.feature_names)
    return export_onnx(
        network,
        options.output,
        spatial_shape=_spatial_shape(options, spec, point_range, voxel_size),
        num_features=num_features,
        voxelizer=voxelizer,
        feature_names=names,
        feature_units=spec.feature_units if spec and known else (),
        point_range=point_range,
        voxel_size=voxel_size,
        class_names=_class_names(options, spec),
        class_colors=spec.class_colors if spec and options.class_names is None else (),
        precision=options.precision,
        batchable=options.batchable,
        seed=options.seed,
        progress=progress,
    )


def _feature_names(options: ExportOptions, spec: ModelSpec | None) -> Sequence[str] | None:
    if options.feature_names is not None:
        return options.feature_names
    if spec is None or options.num_features not in (None, len(spec.feature_names)):
        return None
    return spec.feature_names


def _class_names(options: ExportOptions, spec: ModelSpec | None) -> Sequence[str]:
    if options.class_names is not None:
        return options.class_names
    return spec.class_names if spec else ()


def _spatial_shape(
    options: ExportOptions,
    spec: ModelSpec | None,
    point_range: Sequence[float] | None,
    voxel_size: Sequence[float] | None,
) -> list[int]:
    if options.spatial_shape is not None:
        if point_range is not None and voxel_size is not None:
            _check_one_grid(options.spatial_shape, point_range, voxel_size)
        return list(options.spatial_shape)
    if point_range is None or voxel_size is None or len(point_range) != 2 * len(voxel_size):
        raise ExportError("give --spatial-shape, or --point-range and --voxel-size")
    shape = Voxelizer(point_range, voxel_size).grid_shape()
    if spec is None:
        return shape
    usual = Voxelizer(spec.point_range, spec.voxel_size).grid_shape()
    if len(shape) != len(usual):
        raise ExportError(f"{options.model} has {len(usual)} axes, --voxel-size has {len(shape)}")
    # Some networks want cells beyond the voxels: VoxelBackBone8x one more along z.
    return [
        size + extra - grid
        for size, extra, grid in zip(shape, spec.spatial_shape, usual, strict=True)
    ]


def _check_one_grid(
    spatial_shape: Sequence[int], point_range: Sequence[float], voxel_size: Sequence[float]
) -> None:
    try:
        check_voxel_grid(point_range, voxel_size, spatial_shape)
    except ValueError as error:
        raise ExportError(
            f"{error}: --spatial-shape, --point-range and --voxel-size must describe one grid "
            "(a network by name has a range and a size of its own)"
        ) from error


def _found(name: str) -> Any:
    """What `name` names: a spec of ours, or anything that can be imported."""
    if name in MODELS:
        return MODELS[name]
    module_name, colon, attribute = name.partition(":")
    if not colon:
        raise ExportError(
            f"no network is called {name!r}; there are {', '.join(MODELS)}, or give "
            "package.module:factory"
        )
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        advice = ""
        if isinstance(error, ImportError) and (error.name or "").split(".")[0] == "spconv":
            advice = ". In its place write: import voxgate_ops.nn as spconv"
        raise ExportError(f"{name} cannot be imported: {error}{advice}") from error


def _network(found: Any, options: ExportOptions, num_features: int) -> nn.Module:
    if isinstance(found, nn.Module):
        return found
    offered: dict[str, Any] = {"num_features": num_features, "seed": options.seed}
    if isinstance(found, ModelSpec):
        if found.class_names and options.class_names is not None:
            offered["num_classes"] = len(options.class_names)
        found = found.build
    if not callable(found):
        raise ExportError(f"{options.model} is {type(found).__name__}, expected a torch module")
    accepted = inspect.signature(found).parameters
    unknown = [
        parameter.name
        for parameter in accepted.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and parameter.name not in offered
    ]
    if unknown:
        raise ExportError(
            f"{options.model} wants {', '.join(unknown)}, and voxgate export knows only "
            f"{', '.join(offered)}: name a function that needs no more and returns the network"
        )
    network = found(**{name: value for name, value in offered.items() if name in accepted})
    if not isinstance(network, nn.Module):
        raise ExportError(
            f"{options.model} returned {type(network).__name__}, expected a torch module"
        )
    return network


def _load_checkpoint(network: nn.Module, path: Path, prefix: str) -> None:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = found[1] if found else "no tensors"
        raise ExportError(
            f"{path} cannot be read as a checkpoint: it holds {what}, and nothing but tensors is "
            "loaded. Write torch.save(network.state_dict(), FILE) where "
            "the network is, and give that file"
        ) from error
    except Exception as error:  # torch raises what unpickling raises
        raise ExportError(f"{path} cannot be read as a checkpoint: {error}") from error
    for key in _WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict):
        raise ExportError(f"{path} holds {type(loaded).__name__}, expected a state_dict")
    state = {
        name.removeprefix(prefix): value
        for name, value in loaded.items()
        if isinstance(name, str) and name.startswith(prefix)
    }
    if not state:
        raise ExportError(f"{path} has no key that starts with {prefix!r}")
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        better = _fitting_prefix(network, loaded)
        if better not in (None, prefix):
            raise ExportError(
                f"{path} has every key of the network behind {better!r}: give --prefix {better}"
            ) from error
        raise ExportError(f"{path} does not fit the network: {error}") from error


def _fitting_prefix(network: nn.Module, loaded: dict[Any, Any]) -> str | None:
    """What stands before all of the network's keys in a checkpoint, if one prefix does."""
    keys = list(network.state_dict())
    names = {name for name in loaded if isinstance(name, str)}
    for name in sorted(names):
        prefix = name.removesuffix(keys[0]) if keys else name
        if prefix != name and all(prefix + key in names for key in keys):
            return prefix
    return None
