# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Casts the rays of a spinning sensor against boxes, cylinders, ellipsoids and the ground.

All lengths are in metres and all shapes in the sensor's frame: x forward, y left, z up, the sensor
at the origin.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]
# A shape whose silhouette comes closer than this to the sensor's axis is tested on every azimuth.
_NEAR_M = 0.05


@dataclass(frozen=True)
class Surface:
    """What a ray learns where it ends.

    Attributes:
        label: class index of the hit.
        reflectivity: returned share of the light at perpendicular incidence, 0 to 1.
        transparency: share of the rays that pass through, as between leaves, 0 to 1.
    """

    label: int
    reflectivity: float
    transparency: float = 0.0


@dataclass(frozen=True)
class Box:
    """A box: its centre, its full size along its own axes, and its yaw about z in radians."""

    center: tuple[float, float, float]
    size: tuple[float, float, float]
    yaw: float
    surface: Surface

    @property
    def radius(self) -> float:
        return math.hypot(self.size[0], self.size[1]) / 2


@dataclass(frozen=True)
class Cylinder:
    """An upright closed cylinder standing on `base` (x, y, z)."""

    base: tuple[float, float, float]
    radius: float
    height: float
    surface: Surface

    @property
    def center(self) -> tuple[float, float, float]:
        return self.base


@dataclass(frozen=True)
class Ellipsoid:
    """An upright ellipsoid with semi-axes `radius`, `radius` and `half_height`."""

    center: tuple[float, float, float]
    radius: float
    half_height: float
    surface: Surface


Shape: TypeAlias = Box | Cylinder | Ellipsoid


@dataclass(frozen=True)
class Rays:
    """Directions of a sweep, `[A, B]`: A azimuths in turning order, B beams.

    Attributes:
        num_azimuths: evenly spaced over a full turn that starts at -pi.
        elevation: float32 `[B]` radians.
        azimuth: float32 `[A]` radians.
    """

    num_azimuths: int
    elevation: Floats
    azimuth: Floats = field(init=False)
    x: Floats = field(init=False)
    y: Floats = field(init=False)
    z: Floats = field(init=False)  # the same for every azimuth, [B]

    def __post_init__(self) -> None:
        turn = np.arange(self.num_azimuths) * (2 * math.pi / self.num_azimuths) - math.pi
        object.__setattr__(self, "azimuth", turn.astype(np.float32))
        horizontal = np.cos(self.elevation)
        object.__setattr__(self, "x", np.cos(self.azimuth)[:, None] * horizontal)
        object.__setattr__(self, "y", np.sin(self.azimuth)[:, None] * horizontal)
        object.__setattr__(self, "z", np.sin(self.elevation))

    @property
    def shape(self) -> tuple[int, int]:
        return self.num_azimuths, len(self.elevation)


@dataclass
class Hits:
    """The nearest surface along each ray, `[A, B]`.

    Attributes:
        distance: metres; inf without a hit.
        label: class index; -1 without a hit.
        cosine: of the angle between the ray and the surface's normal, 0 to 1.
        reflectivity: of the surface.
    """

    distance: Floats
    label: NDArray[np.int8]
    cosine: Floats
    reflectivity: Floats

    @classmethod
    def none(cls, shape: tuple[int, int]) -> Hits:
        return cls(
            np.full(shape, np.inf, np.float32),
            np.full(shape, -1, np.int8),
            np.zeros(shape, np.float32),
            np.zeros(shape, np.float32),
        )

    def update(
        self, columns: slice, distance: Floats, cosine: Floats, passes: NDArray[np.bool_] | None,
        surface: Surface,
    ) -> None:  # fmt: skip
        """Takes the hits of one shape that are nearer than what is there."""
        nearer = distance < self.distance[columns]
        if passes is not None:
            nearer &= ~passes
        self.distance[columns][nearer] = distance[nearer]
        self.cosine[columns][nearer] = cosine[nearer]
        self.label[columns][nearer] = surface.label
        self.reflectivity[columns][nearer] = surface.reflectivity


def cast(rays: Rays, shapes: list[Shape], max_range: float, random: np.random.Generator) -> Hits:
    """Finds each ray's nearest shape within `max_range`.

    `random` decides which rays pass through transparent surfaces.
    """
    hits = Hits.none(rays.shape)
    for shape in shapes:
        if math.hypot(shape.center[0], shape.center[1]) - shape.radius > max_range:
            continue
        for columns in _columns(rays, shape):
            distance, cosine = _intersect(rays, columns, shape)
            passes = None
            if shape.surface.transparency > 0:
                passes = random.random(distance.shape) < shape.surface.transparency
            hits.update(columns, distance, cosine, passes, shape.surface)
    return hits


def _columns(rays: Rays, shape: Shape) -> Iterator[slice]:
    """The azimuths whose rays can meet the shape: one run of them, or two across the seam."""
    num = rays.num_azimuths
    away = math.hypot(shape.center[0], shape.center[1])
    if away <= shape.radius + _NEAR_M:
        yield slice(0, num)
        return
    middle = math.atan2(shape.center[1], shape.center[0])
    half = math.asin(min(1.0, shape.radius / away))
    step = 2 * math.pi / num
    first = math.floor((middle - half + math.pi) / step)
    last = math.ceil((middle + half + math.pi) / step) + 1
    for shift in (-num, 0, num):
        start, stop = max(first + shift, 0), min(last + shift, num)
        if start < stop:
            yield slice(start, stop)


def _intersect(rays: Rays, columns: slice, shape: Shape) -> tuple[Floats, Floats]:
    """Distance (inf: none) and cosine of incidence of the rays in `columns`."""
    x, y = rays.x[columns], rays.y[columns]
    with np.errstate(divide="ignore", invalid="ignore"):
        if isinstance(shape, Box):
            return _box(x, y, rays.z, shape)
        if isinstance(shape, Cylinder):
            return _cylinder(x, y, rays.z, shape)
        return _ellipsoid(x, y, rays.z, shape)


def _box(x: Floats, y: Floats, z: Floats, box: Box) -> tuple[Floats, Floats]:
    """Slab method, in the box's own axes."""
    cos, sin = math.cos(box.yaw), math.sin(box.yaw)
    cx, cy, cz = box.center
    directions = (cos * x + sin * y, cos * y - sin * x, np.broadcast_to(z, x.shape))
    centers = (cos * cx + sin * cy, cos * cy - sin * cx, cz)
    near = np.full(x.shape, -np.inf, np.float32)
    far = np.full(x.shape, np.inf, np.float32)
    cosine = np.zeros(x.shape, np.float32)
    for direction, center, size in zip(directions, centers, box.size, strict=True):
        inverse = 1 / direction
        low = np.float32(center - size / 2) * inverse
        high = np.float32(center + size / 2) * inverse
        # fmin and fmax ignore the NaN of a ray that runs exactly within a face's plane.
        entering, leaving = np.fmin(low, high), np.fmax(low, high)
        later = entering > near
        cosine = np.where(later, np.abs(direction), cosine)
        near = np.where(later, entering, near)
        far = np.fmin(far, leaving)
    return np.where((near <= far) & (near > 0), near, np.float32(np.inf)), cosine


def _cylinder(x: Floats, y: Floats, z: Floats, shape: Cylinder) -> tuple[Floats, Floats]:
    """The mantle where the ray enters it between base and top, else the top or base disc."""
    bx, by, bz = shape.base
    a = x * x + y * y
    b = x * np.float32(bx) + y * np.float32(by)
    # b^2 - a (|base|^2 - r^2) by Lagrange's identity: written plainly, a far thin pole cancels.
    cross = x * np.float32(by) - y * np.float32(bx)
    root = np.sqrt(a * np.float32(shape.radius * shape.radius) - cross * cross)
    enter, leave = (b - root) / a, (b + root) / a
    height = enter * z - np.float32(bz)
    mantle = (enter > 0) & (height >= 0) & (height <= np.float32(shape.height))
    # The ray meets a closing disc if it crosses its plane between entering and leaving the tube.
    plane = np.where(z < 0, np.float32(bz + shape.height), np.float32(bz)) / z
    disc = ~mantle & (plane > 0) & (plane >= enter) & (plane <= leave)
    distance = np.where(mantle, enter, np.where(disc, plane, np.float32(np.inf)))
    radial = np.abs(enter * a - b) / np.float32(shape.radius)
    return distance, np.where(mantle, radial, np.abs(z))


def _ellipsoid(x: Floats, y: Floats, z: Floats, shape: Ellipsoid) -> tuple[Floats, Floats]:
    """Scaled to a unit sphere: |t d' - c'| = 1."""
    cx, cy, cz = shape.center
    r, h = shape.radius, shape.half_height
    dx, dy, dz = x / np.float32(r), y / np.float32(r), z / np.float32(h)
    sx, sy, sz = np.float32(cx / r), np.float32(cy / r), np.float32(cz / h)
    a = dx * dx + dy * dy + dz * dz
    b = dx * sx + dy * sy + dz * sz
    # b^2 - a (|s|^2 - 1) by Lagrange's identity, as above.
    crosses = (dx * sy - dy * sx, dy * sz - dz * sy, dz * sx - dx * sz)
    root = np.sqrt(a - sum(cross * cross for cross in crosses))
    enter = (b - root) / a
    distance = np.where(enter > 0, enter, np.float32(np.inf))
    # The gradient of the implicit surface is its normal.
    nx, ny, nz = (enter * dx - sx) / r, (enter * dy - sy) / r, (enter * dz - sz) / h
    cosine = np.abs(nx * x + ny * y + nz * z) / np.sqrt(nx * nx + ny * ny + nz * nz)
    return distance, np.where(np.isfinite(cosine), cosine, 0).astype(np.float32)
