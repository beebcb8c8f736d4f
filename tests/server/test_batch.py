# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Frames into a batch's arrays and back: rows, order, views, and buffers that stay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.batch_models import COLUMNS, GRID, frame

from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_server.batch import BatchBuffers, HighWater, concatenate, split
from voxgate_server.codec import DecodedFrame, FrameSpec, OutputSpec
from voxgate_server.errors import InternalError

COUNTS = st.lists(st.sampled_from([0, 0, 1, 2, 19, 989]), min_size=1, max_size=8)


def spec(kind: str = "voxels") -> FrameSpec:
    return FrameSpec(kind, GRID, COLUMNS, np.dtype(np.float32), False, 10_000, 1 << 20)


def points(count: int, seed: int = 0) -> DecodedFrame:
    random = np.random.default_rng([seed, count])
    inputs = {
        "points": random.standard_normal((count, COLUMNS), np.float32),
        "point_batch": np.zeros(count, np.int32),
    }
    return DecodedFrame(inputs, count, None)


def output(name: str, meaning: str, **more: str) -> OutputSpec:
    return OutputSpec(name, pb.FLOAT32, (-1,), meaning, **more)


PER_SITE = output("score", "per_site")
PER_FRAME = output("scene", "per_frame")
SITES = output("sites", "sparse", coords="sites")
VALUES = output("values", "sparse", coords="sites")
BOXES = output("boxes", "detections", frame="box_frame")


def test_a_frame_alone_is_not_copied() -> None:
    for one, kind in ((frame(19), "voxels"), (points(19), "points")):
        batch = concatenate([one], spec(kind), BatchBuffers())
        assert batch.keys() == one.inputs.keys()
        assert all(batch[name] is one.inputs[name] for name in batch)


@given(COUNTS.filter(lambda counts: len(counts) > 1))
def test_rows_lie_behind_each_other_under_their_frames_index(counts: list[int]) -> None:
    buffers = BatchBuffers()
    voxels = [frame(count, seed) for seed, count in enumerate(counts)]
    batch = concatenate(voxels, spec(), buffers)
    index = np.repeat(np.arange(len(counts)), counts)
    np.testing.assert_array_equal(batch["coords"][:, 0], index)
    want = np.concatenate([one.inputs["coords"][:, 1:] for one in voxels])
    np.testing.assert_array_equal(batch["coords"][:, 1:], want)
    want = np.concatenate([one.inputs["features"] for one in voxels])
    np.testing.assert_array_equal(batch["features"], want)
    assert not any(one.inputs["coords"][:, 0].any() for one in voxels)
    clouds = [points(count, seed) for seed, count in enumerate(counts)]
    batch = concatenate(clouds, spec("points"), buffers)
    np.testing.assert_array_equal(batch["point_batch"], index)
    want = np.concatenate([one.inputs["points"] for one in clouds])
    np.testing.assert_array_equal(batch["points"], want)
    for array in batch.values():
        assert array.flags.c_contiguous
        assert array.size == 0 or array.ctypes.data % 64 == 0


def test_the_buffers_stay_where_they_are() -> None:
    buffers = BatchBuffers()
    large = concatenate([frame(989), frame(989, 1)], spec(), buffers)
    small = concatenate([frame(1), frame(0), frame(19)], spec(), buffers)
    for name, array in large.items():
        assert array.ctypes.data == small[name].ctypes.data
    assert small["features"].shape == (20, COLUMNS)


def test_the_buffers_double_and_shrink_when_little_is_needed_for_long() -> None:
    buffers = BatchBuffers()
    sizes = []
    for rows in range(0, 100_000, 1000):
        buffers.take("x", (rows, COLUMNS), np.dtype(np.float32))
        sizes.append(buffers.nbytes)
    assert len(set(sizes)) <= 7
    assert rows * COLUMNS * 4 <= buffers.nbytes <= 2 * rows * COLUMNS * 4
    grown = buffers.nbytes
    for _ in range(2 * 256):
        buffers.take("x", (10_000, COLUMNS), np.dtype(np.float32))
    assert buffers.nbytes == 2 * 10_000 * COLUMNS * 4 < grown


def test_high_water_forgets_what_is_long_ago_only() -> None:
    mark = HighWater(remembered=4, slack=2)
    assert [mark.use(size) for size in (10, 1, 1, 1)] == [False] * 4
    assert [mark.use(size) for size in (1, 4, 1, 1)] == [False, False, False, True]
    assert mark.most == 4
    assert [mark.use(size) for size in (2, 2, 2, 2)] == [False] * 4


@given(COUNTS)
def test_each_frame_gets_its_rows_as_views(counts: list[int]) -> None:
    index = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    total = len(index)
    outputs = {
        "score": np.arange(total),
        "scene": np.arange(len(counts) * 3).reshape(-1, 3),
        "sites": np.stack([index, np.arange(total), np.arange(total)], axis=1).astype(np.int32),
        "values": np.arange(2 * total).reshape(-1, 2),
        "boxes": np.arange(total * 7).reshape(-1, 7),
        "box_frame": index,
    }
    parts = split(outputs, [PER_SITE, PER_FRAME, SITES, VALUES, BOXES], counts)
    assert len(parts) == len(counts)
    for number, part in enumerate(parts):
        mine = index == number
        np.testing.assert_array_equal(part["score"], outputs["score"][mine])
        np.testing.assert_array_equal(part["scene"], outputs["scene"][number])
        np.testing.assert_array_equal(part["sites"], outputs["sites"][mine][:, 1:])
        np.testing.assert_array_equal(part["values"], outputs["values"][mine])
        np.testing.assert_array_equal(part["boxes"], outputs["boxes"][mine])
        assert "box_frame" not in part
        for name, array in part.items():
            assert array.size == 0 or np.shares_memory(array, outputs[name])


def test_detections_in_any_order_and_of_no_frame() -> None:
    outputs = {"boxes": np.arange(12).reshape(6, 2), "box_frame": np.array([1, 0, -1, 1, 3, 0])}
    first, second = split(outputs, [BOXES], [5, 5])
    assert first["boxes"].tolist() == [[2, 3], [10, 11]]
    assert second["boxes"].tolist() == [[0, 1], [6, 7]]
    sorted_outputs = {"boxes": np.arange(4), "box_frame": np.array([-1, 0, 1, 2])}
    first, second = split(sorted_outputs, [BOXES], [5, 5])
    assert (first["boxes"].tolist(), second["boxes"].tolist()) == ([1], [2])


def test_sites_in_no_order_still_reach_their_frames() -> None:
    sites = np.array([[1, 7], [0, 8], [1, 9]], np.int32)
    first, second = split({"sites": sites}, [SITES], [2, 1])
    assert (first["sites"].tolist(), second["sites"].tolist()) == ([[8]], [[7], [9]])


@pytest.mark.parametrize(
    ("spec_", "arrays", "said"),
    [
        (PER_SITE, {"score": np.zeros(4)}, r"'score' \(per_site\) .*\(4,\).* 5 sites"),
        (PER_FRAME, {"scene": np.zeros((1, 3))}, r"'scene' \(per_frame\) .*\(1, 3\).* 2 frames"),
        (PER_FRAME, {"scene": np.zeros(())}, r"'scene' .*\(\)"),
        (SITES, {"sites": np.zeros(3, np.int32)}, r"'sites' .*\(3,\), not \[M, 1\+D\]"),
        (SITES, {"sites": np.array([[0, 1], [2, 1]])}, "batch index 0 to 2 in a batch of 2"),
        (
            VALUES,
            {"sites": np.zeros((3, 2), np.int32), "values": np.zeros((2, 1))},
            r"'values' \(sparse\) .*\(2, 1\).* 3 rows of 'sites'",
        ),
        (
            BOXES,
            {"boxes": np.zeros((2, 7)), "box_frame": np.zeros(3)},
            r"'boxes' \(detections\) .*\(2, 7\).* 3 rows of 'box_frame'",
        ),
        (BOXES, {"boxes": np.zeros(2), "box_frame": np.zeros((2, 1))}, r"\(2, 1\), not \[R\]"),
    ],
)
def test_outputs_that_are_not_what_the_metadata_says(
    spec_: OutputSpec, arrays: dict[str, np.ndarray], said: str
) -> None:
    with pytest.raises(InternalError, match=said):
        split(arrays, [spec_], [3, 2])
