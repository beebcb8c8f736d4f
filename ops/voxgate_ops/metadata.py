# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What a server must know about a model, stored in the model itself.

The metadata is JSON under the key `voxgate` of the ONNX `metadata_props`, so a model is one file.
Importing this module needs neither torch nor ONNX Runtime.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, Self, get_args

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from voxgate_ops.errors import ModelError

if TYPE_CHECKING:
    import onnxruntime as ort

METADATA_KEY = "voxgate"
FORMAT_VERSION = 1
MAX_METADATA_BYTES = 1 << 20

InputKind = Literal["voxels", "points"]
OutputMeaning = Literal["per_site", "per_point", "sparse", "per_frame", "dense", "detections"]
Precision = Literal["fp32", "fp16", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
Color = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
Size = Annotated[int, Field(gt=0, lt=1 << 31)]  # coords are int32


class OutputMetadata(BaseModel):
    """How the rows of one graph output belong to frames.

    `per_site` and `per_point` rows are in the input's row order. A `sparse` output names in
    `coords` the output that holds its sites; that output is itself `sparse` and names itself. A
    `detections` output names in `frame` an int32 `[R]` output with each row's batch index; that
    output is itself `detections`, names itself and is `hidden`. `hidden` outputs are not sent to
    clients.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    meaning: OutputMeaning
    coords: str | None = None
    frame: str | None = None
    hidden: bool = False

    @model_validator(mode="after")
    def _names_what_it_needs(self) -> Self:
        if (self.coords is not None) != (self.meaning == "sparse"):
            raise ValueError(
                f"coords is {self.coords!r} for meaning {self.meaning!r}: "
                "sparse outputs, and only they, name the output that holds their sites"
            )
        if (self.frame is not None) != (self.meaning == "detections"):
            raise ValueError(
                f"frame is {self.frame!r} for meaning {self.meaning!r}: "
                "detections, and only they, name the output that says each row's frame"
            )
        return self


class ModelMetadata(BaseModel):
    """Everything about a model that its ONNX graph does not say.

    `axes` and `spatial_shape` are in the order of the columns of `coords` (3-D: z, y, x) and
    `spatial_shape` counts voxels. `point_range` is `[x0, y0, z0, x1, y1, z1]` and `voxel_size`
    `[x, y, z]`, both in metres and in x, y, z order; both are None unless the network was trained
    on a known voxel grid (always set where `input_kind` is `points`). That grid lies within
    `spatial_shape`, which may be larger. `feature_names` has one entry per column of `features` (or
    of `points`), `feature_units` as many or none.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    format_version: int = FORMAT_VERSION
    input_kind: InputKind
    axes: Annotated[list[str], Field(min_length=1, max_length=4)]
    spatial_shape: list[Size]
    feature_names: list[str]
    feature_units: list[str] = Field(default_factory=list)
    point_range: list[float] | None = None
    voxel_size: list[Annotated[float, Field(gt=0)]] | None = None
    outputs: dict[str, OutputMetadata]
    batchable: bool = True
    class_names: list[str] = Field(default_factory=list)
    class_colors: list[Color] = Field(default_factory=list)
    allow_nonfinite: bool = False
    precision: Precision = "fp32"
    exporter_version: str

    @model_validator(mode="after")
    def _lengths_agree(self) -> Self:
        dims = len(self.axes)
        _expect_length("spatial_shape", self.spatial_shape, dims, "axes")
        _expect_length("point_range", self.point_range, 2 * dims, "two bounds per axis")
        _expect_length("voxel_size", self.voxel_size, dims, "axes")
        if self.feature_units:
            columns = len(self.feature_names)
            _expect_length("feature_units", self.feature_units, columns, "feature_names")
        if self.class_colors:
            _expect_length("class_colors", self.class_colors, len(self.class_names), "class_names")
        if self.input_kind == "points" and (self.point_range is None or self.voxel_size is None):
            raise ValueError("input_kind 'points' needs point_range and voxel_size")
        return self

    @model_validator(mode="after")
    def _voxels_lie_in_the_grid(self) -> Self:
        if self.point_range is not None and self.voxel_size is not None:
            check_voxel_grid(self.point_range, self.voxel_size, self.spatial_shape)
        elif self.point_range is not None or self.voxel_size is not None:
            given, other = ("point_range", "voxel_size")[:: 1 if self.point_range else -1]
            raise ValueError(f"{given} is given without {other}")
        return self

    @model_validator(mode="after")
    def _outputs_name_outputs(self) -> Self:
        for name, output in self.outputs.items():
            for other in (output.coords, output.frame):
                if other is not None and other not in self.outputs:
                    raise ValueError(f"output {name!r} names {other!r}, which is no output")
        return self


def voxel_grid_shape(point_range: Sequence[float], voxel_size: Sequence[float]) -> list[int]:
    """Voxels per axis, `round((hi - lo) / voxel_size)`, in the order of the coords' columns.

    Raises:
        ValueError: not two bounds and one size per axis, a value that is not finite, or a range or
            size that is not positive.
    """
    axes = len(voxel_size)
    if len(point_range) != 2 * axes:
        raise ValueError(
            f"point_range has {len(point_range)} entries, expected {2 * axes}: two bounds for each "
            "of voxel_size"
        )
    # The operators hold these as float32; the rounding must start from the same.
    with np.errstate(over="ignore"):
        bounds = np.asarray(point_range, np.float32).astype(np.float64).tolist()
        sizes = np.asarray(voxel_size, np.float32).astype(np.float64).tolist()
    edges = list(zip(bounds[:axes], bounds[axes:], sizes, strict=True))
    for lo, hi, size in edges:
        if not (math.isfinite(hi - lo) and math.isfinite(size) and lo < hi and size > 0):
            raise ValueError(
                f"point_range {list(point_range)} and voxel_size {list(voxel_size)}: expected "
                "finite bounds that rise and positive sizes"
            )
    return [math.floor((hi - lo) / size + 0.5) for lo, hi, size in reversed(edges)]


def check_voxel_grid(
    point_range: Sequence[float], voxel_size: Sequence[float], spatial_shape: Sequence[int]
) -> None:
    """Raise ValueError unless the voxels lie in the grid, which may be larger."""
    grid = voxel_grid_shape(point_range, voxel_size)
    _expect_length("spatial_shape", list(spatial_shape), len(grid), "voxel_size")
    if any(voxels > size for voxels, size in zip(grid, spatial_shape, strict=True)):
        raise ValueError(
            f"point_range {list(point_range)} and voxel_size {list(voxel_size)} make {grid} "
            f"voxels, which does not fit into spatial_shape {list(spatial_shape)}"
        )


def _expect_length(
    name: str, values: list[float] | list[int] | list[str] | None, expected: int, of: str
) -> None:
    if values is not None and len(values) != expected:
        raise ValueError(f"{name} has {len(values)} entries, expected {expected} ({of})")


def parse_metadata(text: str) -> ModelMetadata:
    """Parse the JSON stored in a model.

    Raises:
        ModelError: over `MAX_METADATA_BYTES`, no valid JSON, a field missing or wrong, or a newer
            format version.
    """
    size = len(text.encode())
    if size > MAX_METADATA_BYTES:
        raise ModelError(
            f"metadata {METADATA_KEY!r} has {size} bytes, the limit is {MAX_METADATA_BYTES}"
        )
    try:
        metadata = ModelMetadata.model_validate_json(text)
    except ValidationError as error:
        reasons = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'metadata'}: {item['msg']}"
            for item in error.errors()
        )
        raise ModelError(f"metadata {METADATA_KEY!r} is not valid: {reasons}") from error
    if metadata.format_version != FORMAT_VERSION:
        raise ModelError(
            f"metadata {METADATA_KEY!r} has format_version {metadata.format_version}, "
            f"this Voxgate reads {FORMAT_VERSION}"
        )
    return metadata


def read_metadata(source: ort.InferenceSession | str | os.PathLike[str]) -> ModelMetadata:
    """Read the metadata of an open session or of a model file.

    Raises:
        ModelError: the file cannot be read as ONNX, or its metadata is missing or not valid.
    """
    if isinstance(source, (str, os.PathLike)):
        properties = _properties_of_file(os.fspath(source))
        name = os.fspath(source)
    else:
        properties = dict(source.get_modelmeta().custom_metadata_map)
        name = "the model"
    if METADATA_KEY not in properties:
        raise ModelError(
            f"{name} has no {METADATA_KEY!r} metadata: was it written by `voxgate export`?"
        )
    return parse_metadata(properties[METADATA_KEY])


def write_metadata(model: onnx.ModelProto, metadata: ModelMetadata) -> None:
    """Store `metadata` in `model`, in place of what it holds already."""
    kept = [entry for entry in model.metadata_props if entry.key != METADATA_KEY]
    entries = {entry.key: entry.value for entry in kept}
    entries[METADATA_KEY] = metadata.model_dump_json(exclude_none=True)
    del model.metadata_props[:]
    for key, value in entries.items():
        model.metadata_props.add(key=key, value=value)


def _properties_of_file(path: str) -> dict[str, str]:
    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError) as error:
        raise ModelError(f"{path} cannot be read as an ONNX model: {error}") from error
    return {entry.key: entry.value for entry in model.metadata_props}
