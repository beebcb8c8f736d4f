# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The sweep simulator: the same street every time, every point on a surface of its class."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from voxgate_client import read_points
from voxgate_client.raycast import Box, Cylinder, Ellipsoid, Rays, Shape, Surface, cast
from voxgate_client.scene import CLASS_NAMES, GROUND
from voxgate_client.simulator import Sweep, SweepSimulator, elevations, write_sweep

SURFACE = Surface(3, 0.5)


@pytest.fixture(scope="module", params=[32, 64])
def simulator(request: pytest.FixtureRequest) -> SweepSimulator:
    return SweepSimulator(seed=5, beams=request.param, range_noise=0.0)


@pytest.fixture(scope="module")
def sweep(simulator: SweepSimulator) -> Sweep:
    return simulator.sweep(12)


def test_same_seed_and_frame_give_the_same_bytes() -> None:
    first, again = (SweepSimulator(seed=3, beams=32).sweep(4) for _ in range(2))
    assert first.points.tobytes() == again.points.tobytes()
    assert first.labels.tobytes() == again.labels.tobytes()
    assert SweepSimulator(seed=4, beams=32).sweep(4).points.tobytes() != first.points.tobytes()
    assert SweepSimulator(seed=3, beams=32).sweep(5).points.tobytes() != first.points.tobytes()


def test_shapes_and_types(sweep: Sweep) -> None:
    num = len(sweep.points)
    assert sweep.points.shape == (num, 4) and sweep.points.dtype == np.float32
    assert sweep.labels.shape == sweep.rings.shape == (num,)
    assert np.isfinite(sweep.points).all()
    assert sweep.points[:, 3].min() >= 0 and sweep.points[:, 3].max() <= 1


def test_number_of_points_is_that_of_such_a_sensor() -> None:
    assert 80_000 < len(SweepSimulator(beams=64).sweep(0).points) < 64 * 1800
    assert 18_000 < len(SweepSimulator(beams=32).sweep(0).points) < 32 * 1084


def test_every_beam_has_its_own_elevation(simulator: SweepSimulator, sweep: Sweep) -> None:
    x, y, z = sweep.points[:, :3].T
    angle = np.arctan2(z, np.hypot(x, y))
    beams = elevations(simulator.beams)
    assert len(beams) == simulator.beams == len(np.unique(beams))
    np.testing.assert_allclose(angle, beams[sweep.rings], atol=1e-5)
    assert set(sweep.rings) == set(range(simulator.beams))


def test_points_come_in_turning_order(sweep: Sweep) -> None:
    azimuth = np.arctan2(sweep.points[:, 1], sweep.points[:, 0])
    assert np.diff(azimuth)[np.abs(np.diff(azimuth)) < 6].min() > -1e-4


def test_ranges(simulator: SweepSimulator, sweep: Sweep) -> None:
    distance = np.linalg.norm(sweep.points[:, :3], axis=1)
    assert distance.min() > 1.4
    assert 80 < distance.max() <= simulator.max_range * (1 + 1e-5)


@pytest.mark.parametrize("beams", [32, 64])
def test_every_class_appears_along_the_street(beams: int) -> None:
    seen = np.zeros(len(CLASS_NAMES), int)
    for sweep in SweepSimulator(seed=1, beams=beams).sweeps(5):
        seen += np.bincount(sweep.labels, minlength=len(CLASS_NAMES))
    assert seen.min() >= 50, dict(zip(CLASS_NAMES, seen.tolist(), strict=True))


def distance_to(shape: Shape, points: np.ndarray) -> np.ndarray:
    """How far points are from a shape's surface, computed without rays."""
    local = points.astype(np.float64) - np.array(shape.center)
    if isinstance(shape, Box):
        cos, sin = math.cos(shape.yaw), math.sin(shape.yaw)
        turned = local @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        beyond = np.abs(turned) - np.array(shape.size) / 2
        outside = np.linalg.norm(np.maximum(beyond, 0), axis=1)
        return np.where((beyond < 0).all(1), -beyond.max(1), outside)
    if isinstance(shape, Cylinder):
        radial = np.hypot(local[:, 0], local[:, 1]) - shape.radius
        axial = np.maximum(-local[:, 2], local[:, 2] - shape.height)
        outside = np.hypot(np.maximum(radial, 0), np.maximum(axial, 0))
        return np.where((radial < 0) & (axial < 0), -np.maximum(radial, axial), outside)
    axes = np.array([shape.radius, shape.radius, shape.half_height])
    return np.abs(np.linalg.norm(local / axes, axis=1) - 1) * axes.min()


def test_points_lie_on_a_surface_of_their_class(simulator: SweepSimulator, sweep: Sweep) -> None:
    nearest = np.full(len(sweep.points), np.inf)
    ground = sweep.labels == GROUND
    nearest[ground] = np.abs(sweep.points[ground, 2] + simulator.height)
    for shape in simulator.shapes(12):
        rows = np.flatnonzero(sweep.labels == shape.surface.label)
        nearest[rows] = np.minimum(nearest[rows], distance_to(shape, sweep.points[rows, :3]))
    assert nearest.max() < 2e-3


def test_noise_lies_along_the_ray() -> None:
    exact, noisy = (SweepSimulator(seed=2, beams=32, range_noise=n).sweep(0) for n in (0.0, 0.05))
    assert exact.points.shape == noisy.points.shape
    lengths = [np.linalg.norm(s.points[:, :3].astype(np.float64), axis=1) for s in (exact, noisy)]
    assert 0.045 < (lengths[1] - lengths[0]).std() < 0.055
    unit = [s.points[:, :3] / n[:, None] for s, n in zip((exact, noisy), lengths, strict=True)]
    np.testing.assert_allclose(unit[0], unit[1], atol=1e-5)


def test_street_moves_past_the_sensor() -> None:
    # A building is rigid and stands still: 0.8 m per frame at 8 m/s and 10 Hz.
    simulator = SweepSimulator(seed=6)
    places = [
        {s.center for s in simulator.shapes(frame) if s.surface.label == 1} for frame in (0, 1)
    ]
    shifted = {(round(x + 0.8, 3), round(y, 3), round(z, 3)) for x, y, z in places[1]}
    rounded = {(round(x, 3), round(y, 3), round(z, 3)) for x, y, z in places[0]}
    assert len(shifted & rounded) > 0.8 * len(rounded)


@pytest.mark.parametrize("beams", [0, 16, 128])
def test_other_beam_counts_are_refused(beams: int) -> None:
    with pytest.raises(ValueError, match=f"beams={beams}, expected 32 or 64"):
        SweepSimulator(beams=beams)


SHAPES: list[Shape] = [
    Box((10.0, 1.0, -0.5), (4.0, 2.0, 1.5), 0.4, SURFACE),
    Box((-8.0, 0.0, 0.0), (2.0, 6.0, 3.0), 0.0, SURFACE),  # across the seam at +-pi
    Cylinder((3.0, -4.0, -2.0), 0.5, 1.7, SURFACE),
    Cylinder((-6.0, 0.05, 0.4), 1.0, 3.0, SURFACE),
    Ellipsoid((-5.0, -5.0, 0.2), 1.5, 0.8, SURFACE),
    Ellipsoid((6.0, 0.0, 0.0), 0.3, 2.0, SURFACE),
]


@pytest.mark.parametrize("shape", SHAPES)
def test_cast_finds_where_a_ray_first_meets_a_shape(shape: Shape) -> None:
    rays = Rays(720, np.radians(np.linspace(20, -30, 41)).astype(np.float32))
    hits = cast(rays, [shape], 50.0, np.random.default_rng(0))
    hit = np.isfinite(hits.distance)
    directions = np.stack([rays.x, rays.y, np.broadcast_to(rays.z, rays.shape)], -1)
    assert hit.sum() > 20
    points = directions[hit] * hits.distance[hit][:, None]
    assert distance_to(shape, points).max() < 1e-3
    # March along every ray, culled ones included: nothing lies before the hit, or anywhere on a
    # ray without one, deeper inside than the march's step.
    for distance in np.arange(0.5, 14, 0.05):
        before = distance < hits.distance - 0.02
        assert not inside(shape, directions[before] * distance, 0.03).any()
    assert (hits.cosine[hit] >= 0).all() and (hits.cosine[hit] <= 1 + 1e-5).all()


def inside(shape: Shape, points: np.ndarray, depth: float) -> np.ndarray:
    local = points - np.array(shape.center)
    if isinstance(shape, Box):
        cos, sin = math.cos(shape.yaw), math.sin(shape.yaw)
        turned = local @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        return (np.abs(turned) < np.array(shape.size) / 2 - depth).all(1)
    if isinstance(shape, Cylinder):
        deep = np.hypot(local[:, 0], local[:, 1]) < shape.radius - depth
        return deep & (local[:, 2] > depth) & (local[:, 2] < shape.height - depth)
    axes = np.array([shape.radius, shape.radius, shape.half_height]) - depth
    return np.linalg.norm(local / axes, axis=1) < 1


def test_nearer_shape_hides_the_farther_one() -> None:
    near = Cylinder((5.0, 0.0, -2.0), 0.5, 4.0, Surface(1, 0.5))
    far = Box((10.0, 0.0, 0.0), (1.0, 8.0, 4.0), 0.0, Surface(2, 0.5))
    rays = Rays(20, np.float32([0.0]))  # azimuth 10 looks along x, 11 by 0.31 rad past the pole
    for shapes in ([near, far], [far, near]):
        hits = cast(rays, shapes, 50.0, np.random.default_rng(0))
        assert hits.label[10:12, 0].tolist() == [1, 2]


def test_transparent_surfaces_let_their_share_through() -> None:
    rays = Rays(2000, np.linspace(-0.1, 0.1, 50).astype(np.float32))
    wall, leaves = (
        Ellipsoid((-5.0, 0.0, 0.0), 1.0, 1.0, Surface(5, 0.5, transparency=t)) for t in (0.0, 0.4)
    )
    met, stopped = (
        np.isfinite(cast(rays, [shape], 50.0, np.random.default_rng(0)).distance)
        for shape in (wall, leaves)
    )
    assert met.sum() > 2000 and not (stopped & ~met).any()
    assert 0.57 < stopped.sum() / met.sum() < 0.63


def test_written_sweeps_are_read_back(tmp_path: Path) -> None:
    sweep = SweepSimulator(beams=32).sweep(0)
    points, labels = write_sweep(sweep, tmp_path, "000000")
    np.testing.assert_array_equal(read_points(points).points, sweep.points)
    np.testing.assert_array_equal(np.fromfile(labels, "<u4"), sweep.labels)
