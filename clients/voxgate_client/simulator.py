# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Simulated sweeps of a spinning sensor driven along a procedural street, every point labelled.

>>> simulator = SweepSimulator(seed=7, beams=32)
>>> sweep = simulator.sweep(0)
>>> sweep.points.shape[1], simulator.class_names[sweep.labels[0]] != ""
(4, True)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxgate_client.point_cloud import PointCloud
from voxgate_client.raycast import Hits, Rays, Shape, cast
from voxgate_client.scene import CLASS_NAMES, GROUND, Street, moved

FIELDS = ("x", "y", "z", "intensity")
# About the horizontal resolution of the modelled sensors at 10 Hz.
_AZIMUTHS = {32: 1084, 64: 1800}
_ROOF_M = 1.5  # returns nearer than this come from the vehicle that carries the sensor


def elevations(beams: int) -> NDArray[np.float32]:
    """Beam angles in radians, highest first, float32 `[beams]`.

    64 beams as the HDL-64E's manual has them: 32 from +2 to -8.33 degrees in steps of a third, 32
    from -8.83 to -24.33 in steps of a half. 32 beams as the HDL-32E's: +10.67 to -30.67 degrees in
    steps of four thirds.

    Raises:
        ValueError: `beams` is neither 32 nor 64.
    """
    if beams == 64:
        upper = 2 - np.arange(32) / 3
        lower = -8.83 - np.arange(32) / 2
        degrees = np.concatenate([upper, lower])
    elif beams == 32:
        degrees = 10.67 - np.arange(32) * 4 / 3
    else:
        raise ValueError(f"beams={beams}, expected 32 or 64")
    return np.asarray(np.radians(degrees), np.float32)


@dataclass(frozen=True)
class Sweep:
    """One turn of the sensor, points in turning order.

    Attributes:
        points: float32 `[N, 4]`: x forward, y left, z up in metres from the sensor, intensity 0..1.
        labels: uint8 `[N]`, index into the simulator's `class_names`.
        rings: uint8 `[N]`, beam number, 0 the highest.
        time: seconds since frame 0.
    """

    points: NDArray[np.float32]
    labels: NDArray[np.uint8]
    rings: NDArray[np.uint8]
    time: float

    @property
    def cloud(self) -> PointCloud:
        return PointCloud(self.points, FIELDS)


@dataclass(frozen=True)
class SweepSimulator:
    """Makes sweeps: the same arguments and frame number always give the same bytes.

    The turn is taken as one instant: points are those a driver has already corrected for the
    vehicle's motion, as published data sets have them.

    Attributes:
        seed: chooses the street and the noise.
        beams: 32 or 64.
        rate: sweeps per second.
        max_range: metres.
        range_noise: standard deviation of a range in metres.
        dropout: share of the returns lost anywhere; dark and far surfaces lose more.
        height: metres from the road to the sensor.
        street: where it drives; by default one of this seed.
    """

    seed: int = 0
    beams: int = 64
    rate: float = 10.0
    max_range: float = 100.0
    range_noise: float = 0.02
    dropout: float = 0.02
    height: float = 1.73
    street: Street = field(default_factory=Street)
    _rays: Rays = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.street == Street():
            object.__setattr__(self, "street", Street(self.seed))
        angles = elevations(self.beams)
        object.__setattr__(self, "_rays", Rays(_AZIMUTHS[self.beams], angles))

    @property
    def class_names(self) -> tuple[str, ...]:
        return CLASS_NAMES

    def sweep(self, frame: int) -> Sweep:
        """The sweep number `frame` >= 0."""
        time = frame / self.rate
        random = np.random.default_rng((self.seed, frame, 3))
        hits = cast(self._rays, self.shapes(frame), self.max_range, random)
        self._add_ground(hits, time)
        return self._measure(hits, time, random)

    def sweeps(self, count: int, start: int = 0) -> Iterator[Sweep]:
        """`count` sweeps in driving order."""
        for frame in range(start, start + count):
            yield self.sweep(frame)

    def shapes(self, frame: int) -> list[Shape]:
        """What stands around the sensor then, in the sensor's frame, without the ground."""
        time = frame / self.rate
        x, y = self.street.ego_position(time)
        around = self.street.shapes(time, self.max_range)
        return [moved(shape, -x, -y, -self.height) for shape in around]

    def _add_ground(self, hits: Hits, time: float) -> None:
        rays = self._rays
        with np.errstate(divide="ignore"):
            distance = np.where(rays.z < 0, np.float32(-self.height) / rays.z, np.float32(np.inf))
        down = np.broadcast_to(distance, rays.shape)
        ego_x, ego_y = self.street.ego_position(time)
        nearer = (down < hits.distance) & (down < self.max_range)
        x = ego_x + down[nearer] * rays.x[nearer]
        y = ego_y + down[nearer] * rays.y[nearer]
        hits.distance[nearer] = down[nearer]
        hits.label[nearer] = GROUND
        hits.cosine[nearer] = np.broadcast_to(-rays.z, rays.shape)[nearer]
        hits.reflectivity[nearer] = self.street.ground_reflectivity(x, y)

    def _measure(self, hits: Hits, time: float, random: np.random.Generator) -> Sweep:
        """Range noise, intensity and lost returns."""
        strength = hits.reflectivity * np.sqrt(hits.cosine)
        # The weaker the echo for its distance, the likelier it is lost.
        relative = np.where(np.isfinite(hits.distance), hits.distance / self.max_range, 1.0)
        lost = self.dropout + 0.6 * np.clip(relative**2 - 2 * strength, 0, 1)
        kept = (
            (hits.distance <= self.max_range)
            & (hits.distance > _ROOF_M)
            & (random.random(hits.distance.shape) >= lost)
        )
        azimuth, ring = np.nonzero(kept)
        noise = random.normal(0, 1, len(ring)).astype(np.float32) * np.float32(self.range_noise)
        distance = hits.distance[kept] + noise
        points = np.empty((len(ring), 4), np.float32)
        points[:, 0] = self._rays.x[azimuth, ring] * distance
        points[:, 1] = self._rays.y[azimuth, ring] * distance
        points[:, 2] = self._rays.z[ring] * distance
        speckle = random.normal(1, 0.08, len(ring))
        points[:, 3] = np.clip(strength[kept] * speckle, 0, 1)
        return Sweep(points, hits.label[kept].astype(np.uint8), ring.astype(np.uint8), time)


def write_sweep(sweep: Sweep, folder: Path, name: str) -> tuple[Path, Path]:
    """Writes `name.bin` (float32, FIELDS) and `name.label` (uint32), like SemanticKITTI."""
    points, labels = folder / f"{name}.bin", folder / f"{name}.label"
    points.write_bytes(sweep.points.astype("<f4").tobytes())
    labels.write_bytes(sweep.labels.astype("<u4").tobytes())
    return points, labels
