# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A procedural street without end, the same for the same seed however far one drives along it.

World frame: x along the street, y to the left, z up from the road, in metres. From the middle
outwards: two lanes, a strip of parked vehicles, trees and poles, a pavement, buildings.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from voxgate_client.raycast import Box, Cylinder, Ellipsoid, Shape, Surface

CLASS_NAMES = ("ground", "building", "vehicle", "pedestrian", "pole", "tree")
GROUND, BUILDING, VEHICLE, PEDESTRIAN, POLE, TREE = range(len(CLASS_NAMES))

LANE_Y_M = 1.9  # the middle of a lane; traffic keeps to the right
PARKING_Y_M = 5.4
KERB_Y_M = 6.6
FACADE_Y_M = 12.0
KERB_HEIGHT_M = 0.12
BLOCK_M = 30.0  # the street is made block by block, each from its own random numbers
# Reflectivities at 905 nm are of the order published for these materials; what matters is that
# they differ.
ASPHALT, PAVEMENT, PAINT = 0.17, 0.32, 0.75


@dataclass(frozen=True)
class Street:
    """Everything along the street at any time.

    Attributes:
        seed: chooses the street.
        ego_speed: m/s along +x of the vehicle that carries the sensor; the vehicles in its own lane
            drive as fast, so that it never runs into them.
        oncoming_speed: m/s of the other lane.
    """

    seed: int = 0
    ego_speed: float = 8.0
    oncoming_speed: float = 10.0

    def ego_position(self, time: float) -> tuple[float, float]:
        """x, y of the ego vehicle's middle after `time` seconds."""
        return self.ego_speed * time, -LANE_Y_M

    def shapes(self, time: float, reach: float) -> list[Shape]:
        """Every shape within about `reach` metres of the ego vehicle, in the world's frame."""
        ego_x = self.ego_position(time)[0]
        shapes: list[Shape] = []
        for block in _blocks(ego_x, reach):
            random = self._random(block, 0)
            start = block * BLOCK_M
            for side in (-1, 1):
                shapes += _buildings(random, start, side)
                shapes += _parked(random, start, side)
                shapes += _trees(random, start, side)
                shapes += _poles(random, start, side)
                shapes += _pedestrians(random, start, side, time)
            shapes += _crossing(random, start, time)
        shapes += self._traffic(time, ego_x, reach, self.ego_speed, -1, 1)
        shapes += self._traffic(time, ego_x, reach, -self.oncoming_speed, 1, 2)
        return shapes

    def ground_reflectivity(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Of the ground at world x, y: asphalt with painted lines, and pavement beyond the kerb."""
        dashes = (np.abs(y) < 0.08) & (np.mod(x, 9.0) < 3.0)
        edges = np.abs(np.abs(y) - 4.2) < 0.08
        value = np.where(dashes | edges, PAINT, ASPHALT)
        return np.where(np.abs(y) > KERB_Y_M, PAVEMENT, value)

    def _random(self, block: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, block & 0xFFFFFFFF, purpose))

    def _traffic(
        self, time: float, ego_x: float, reach: float, speed: float, side: int, purpose: int
    ) -> Iterator[Shape]:
        """Vehicles in a lane, one a block of the lane's own moving frame."""
        for block in _blocks(ego_x - speed * time, reach):
            random = self._random(block, purpose)
            offset = random.uniform(0.25, 0.75) * BLOCK_M
            present = random.random() < 0.55
            vehicle = _vehicle(random, 0.0 if speed > 0 else math.pi)
            x = block * BLOCK_M + offset + speed * time
            # The gap the ego vehicle itself drives in.
            if present and not (side < 0 and abs(x - ego_x) < 12.0):
                yield from _placed(vehicle, x, side * LANE_Y_M, 0.0)


def _blocks(x: float, reach: float) -> range:
    return range(math.floor((x - reach) / BLOCK_M), math.floor((x + reach) / BLOCK_M) + 1)


def _placed(shapes: list[Shape], x: float, y: float, z: float) -> Iterator[Shape]:
    for shape in shapes:
        yield moved(shape, x, y, z)


def moved(shape: Shape, x: float, y: float, z: float) -> Shape:
    """The shape shifted by (x, y, z)."""
    cx, cy, cz = shape.center
    place = (cx + x, cy + y, cz + z)
    if isinstance(shape, Cylinder):
        return replace(shape, base=place)
    return replace(shape, center=place)


def _buildings(random: np.random.Generator, start: float, side: int) -> Iterator[Shape]:
    yield Box(  # the pavement
        (start + BLOCK_M / 2, side * (KERB_Y_M + 100.0), KERB_HEIGHT_M / 2 - 0.5),
        (BLOCK_M, 200.0, KERB_HEIGHT_M + 1.0),
        0.0,
        Surface(GROUND, PAVEMENT),
    )
    x = start
    while x < start + BLOCK_M - 6:
        width = min(random.uniform(9, 16), start + BLOCK_M - x)
        depth, height = random.uniform(8, 16), random.uniform(5, 18)
        setback = random.choice([0.0, 0.0, 0.6, 2.0])
        surface = Surface(BUILDING, random.uniform(0.3, 0.65))
        middle = (x + width / 2, side * (FACADE_Y_M + setback + depth / 2), height / 2)
        if random.random() < 0.85:  # the others are gaps between houses
            yield Box(middle, (width, depth, height), 0.0, surface)
            yield from _balconies(random, middle, (width, depth, height), side, surface)
        x += width + random.choice([0.0, 0.0, 3.0])


def _balconies(
    random: np.random.Generator,
    middle: tuple[float, float, float],
    size: tuple[float, float, float],
    side: int,
    surface: Surface,
) -> Iterator[Shape]:
    if random.random() < 0.5:
        return
    face = middle[1] - side * size[1] / 2
    for level in np.arange(3.2, size[2] - 2.5, 3.1):
        yield Box(
            (middle[0], face - side * 0.5, float(level)), (size[0] * 0.5, 1.0, 0.9), 0.0, surface
        )


def _vehicle(random: np.random.Generator, yaw: float) -> list[Shape]:
    """A car or a van standing on z = 0 at the origin, heading along yaw."""
    paint = Surface(VEHICLE, random.uniform(0.2, 0.9))
    glass = Surface(VEHICLE, 0.12)
    rubber = Surface(VEHICLE, 0.06)
    length, width = random.uniform(4.0, 4.9), random.uniform(1.7, 1.9)
    if random.random() < 0.12:
        length, width = length + 1.0, width + 0.2
        parts = [(0.0, length, width, 0.35, random.uniform(2.0, 2.5), paint)]
    else:
        shoulder, roof = random.uniform(0.8, 0.95), random.uniform(1.4, 1.7)
        parts = [
            (0.0, length, width, 0.28, shoulder, paint),
            (-0.06 * length, 0.5 * length, 0.86 * width, shoulder, roof - 0.06, glass),
            (-0.06 * length, 0.46 * length, 0.82 * width, roof - 0.06, roof, paint),
        ]
    shapes: list[Shape] = [
        Box(
            (along * math.cos(yaw), along * math.sin(yaw), (low + high) / 2),
            (size_x, size_y, high - low),
            yaw,
            surface,
        )
        for along, size_x, size_y, low, high, surface in parts
    ]
    for along in (-0.31 * length, 0.31 * length):
        shapes.append(
            Box(
                (along * math.cos(yaw), along * math.sin(yaw), 0.32),
                (0.62, width - 0.05, 0.64),
                yaw,
                rubber,
            )
        )
    return shapes


def _parked(random: np.random.Generator, start: float, side: int) -> Iterator[Shape]:
    x = start + random.uniform(2.5, 4.5)
    while x < start + BLOCK_M - 3:
        yaw = random.normal(0, 0.03) + (math.pi if side > 0 else 0.0)
        vehicle = _vehicle(random, yaw)
        if random.random() < 0.45:
            yield from _placed(vehicle, x, side * PARKING_Y_M, 0.0)
        x += random.uniform(6.2, 8.0)


def _trees(random: np.random.Generator, start: float, side: int) -> Iterator[Shape]:
    x = start + random.uniform(2, 8)
    while x < start + BLOCK_M:
        y = side * (KERB_Y_M + random.uniform(0.6, 1.0))
        trunk, crown = random.uniform(1.3, 2.0), random.uniform(1.4, 2.4)
        thickness = random.uniform(0.12, 0.22)
        yield Cylinder((x, y, 0.0), thickness, trunk + crown, Surface(TREE, 0.35))
        # Several overlapping clumps, each letting part of the light through, look like leaves.
        for _ in range(5):
            dx, dy, dz = random.normal(0, 0.4, 3) * crown * 0.7
            size = crown * random.uniform(0.45, 0.75)
            yield Ellipsoid(
                (x + dx, y + dy, trunk + crown + dz),
                size,
                size * random.uniform(0.8, 1.2),
                Surface(TREE, random.uniform(0.4, 0.6), transparency=0.45),
            )
        x += random.uniform(9, 14)
    for _ in range(int(random.integers(0, 4))):  # bushes in front of the houses
        radius = random.uniform(0.5, 1.0)
        place = (start + random.uniform(0, BLOCK_M), side * (FACADE_Y_M - 0.6), 0.45)
        surface = Surface(TREE, random.uniform(0.4, 0.6), transparency=0.2)
        yield Ellipsoid(place, radius, random.uniform(0.5, 0.8), surface)


def _poles(random: np.random.Generator, start: float, side: int) -> Iterator[Shape]:
    x = start + random.uniform(10, 20)
    y = side * (KERB_Y_M + 0.4)
    height = random.uniform(6.0, 8.0)
    metal = Surface(POLE, 0.5)
    yield Cylinder((x, y, 0.0), 0.09, height, metal)
    yield Box((x, y - side * 0.9, height), (0.25, 2.0, 0.12), 0.0, metal)  # the lamp's arm
    if random.random() < 0.6:
        sign_x = start + random.uniform(0, 8)
        yield Cylinder((sign_x, y, 0.0), 0.04, 2.6, metal)
        yield Box((sign_x, y, 2.4), (0.03, 0.6, 0.6), 0.0, Surface(POLE, 0.95))


def _pedestrian(random: np.random.Generator) -> list[Shape]:
    cloth = Surface(PEDESTRIAN, random.uniform(0.2, 0.7))
    height = random.uniform(1.5, 1.9)
    stride = random.uniform(0.0, 0.25)
    hip, shoulder = 0.5 * height, 0.84 * height
    return [
        Cylinder((-stride, 0.09, 0.0), 0.08, hip, cloth),
        Cylinder((stride, -0.09, 0.0), 0.08, hip, cloth),
        Cylinder((0.0, 0.0, hip), random.uniform(0.17, 0.23), shoulder - hip, cloth),
        Ellipsoid((0.0, 0.0, 0.92 * height), 0.1, 0.08 * height, Surface(PEDESTRIAN, 0.55)),
    ]


def _pedestrians(
    random: np.random.Generator, start: float, side: int, time: float
) -> Iterator[Shape]:
    """People on the pavement; they stay in their block, walking it up and down."""
    for _ in range(int(random.integers(0, 5))):
        phase, speed = random.uniform(0, 2 * BLOCK_M), random.uniform(0.8, 1.6)
        y = side * random.uniform(KERB_Y_M + 1.4, FACADE_Y_M - 1.4)
        x = start + _triangle(phase + speed * time, BLOCK_M)
        yield from _placed(_pedestrian(random), x, y, KERB_HEIGHT_M)


def _crossing(random: np.random.Generator, start: float, time: float) -> Iterator[Shape]:
    """In some blocks one person goes back and forth across the parking strip."""
    crosses = random.random() < 0.3
    phase, x = random.uniform(0, 8), start + random.uniform(0, BLOCK_M)
    person = _pedestrian(random)
    if crosses:
        yield from _placed(person, x, 3.9 + _triangle(phase + 1.2 * time, 4.0), 0.0)


def _triangle(way: float, length: float) -> float:
    """Where one is who has gone `way` back and forth on `length`."""
    way = math.fmod(way, 2 * length)
    return way if way < length else 2 * length - way
