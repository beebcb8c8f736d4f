# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Bytes to arrays and back, without a server."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.server.driver import random_sites, voxels
from tests.server.models import GRID

from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_server import errors
from voxgate_server.codec import (
    FrameSpec,
    OutputSpec,
    VoxelPart,
    decode,
    encode,
    frame_outputs,
    payload_of,
)
from voxgate_server.errors import InvalidFrame

SPEC = FrameSpec("voxels", GRID, 2, np.dtype(np.float32), False, 10_000, 1 << 20)


def part(coords: NDArray[Any], features: NDArray[Any]) -> VoxelPart:
    payload = payload_of(pb.Frame(frame_id="a", voxels=voxels(coords, features)), SPEC)
    assert isinstance(payload, VoxelPart)
    return payload


@given(
    count=st.integers(0, 200),
    seed=st.integers(0, 5),
    cuts=st.lists(st.integers(0, 200), max_size=4),
    narrow=st.booleans(),
)
def test_any_cut_into_chunks_decodes_the_same(
    count: int, seed: int, cuts: list[int], narrow: bool
) -> None:
    coords, features = random_sites(count, seed)
    ends = [0, *sorted(min(c, count) for c in cuts), count]
    sent = coords.astype(np.int16) if narrow else coords
    parts = [part(sent[a:b], features[a:b]) for a, b in zip(ends, ends[1:], strict=False)]
    decoded = decode(parts, SPEC)
    order = np.lexsort(coords.T[::-1])
    sites = np.concatenate([np.zeros((count, 1), np.int32), coords[order]], axis=1)
    np.testing.assert_array_equal(decoded.inputs["coords"], sites)
    np.testing.assert_array_equal(decoded.inputs["features"], features[order])
    assert decoded.num_sites == count
    if decoded.rank is None:
        assert (np.diff(order) > 0).all()
    else:
        np.testing.assert_array_equal(decoded.inputs["features"][decoded.rank], features)


def test_features_of_a_canonical_frame_are_aligned_whatever_the_message() -> None:
    coords, features = random_sites(50)
    order = np.lexsort(coords.T[::-1])
    whole = part(coords[order], features[order])
    shifted = memoryview(b"x" + bytes(whole.features))[1:]
    decoded = decode([dataclasses.replace(whole, features=shifted)], SPEC)
    assert decoded.rank is None
    values = decoded.inputs["features"]
    assert values.ctypes.data % 64 == 0
    np.testing.assert_array_equal(values, features[order])


def test_a_site_in_two_chunks_is_refused() -> None:
    coords, features = random_sites(10)
    with pytest.raises(InvalidFrame, match="are the same site"):
        decode([part(coords[:6], features[:6]), part(coords[5:], features[5:])], SPEC)


@pytest.mark.parametrize("dtype", [pb.FLOAT32, pb.FLOAT16, pb.BFLOAT16])
def test_values_that_are_not_finite_are_refused_where_they_are(dtype: int) -> None:
    coords, features = random_sites(5)
    features[3, 1] = np.inf
    sent = {
        pb.FLOAT32: features,
        pb.FLOAT16: features.astype(np.float16),
        pb.BFLOAT16: (features.view(np.uint32) >> 16).astype(np.uint16),
    }[dtype]
    payload = dataclasses.replace(
        part(coords, features), features_dtype=dtype, features=sent.tobytes()
    )
    with pytest.raises(InvalidFrame, match="features: row 3 column 1 is inf"):
        decode([payload], SPEC)
    lenient = dataclasses.replace(SPEC, allow_nonfinite=True)
    values = decode([payload], lenient).inputs["features"]
    assert values.dtype == np.float32
    assert np.isinf(values).sum() == 1


@settings(max_examples=300)
@given(
    data=st.binary(max_size=200),
    count=st.integers(0, 2**32 - 1) | st.integers(0, 10),
    dtype=st.integers(0, 12),
    kind=st.integers(0, 12),
    width=st.integers(0, 4),
)
def test_any_bytes_decode_or_are_refused(data, count: int, dtype: int, kind: int, width) -> None:
    payload = pb.SparseVoxels(
        num_sites=count,
        coords_dtype=kind,
        coords=data,
        num_features=width,
        features_dtype=dtype,
        features=data[: len(data) // 2],
    )
    try:
        accepted = payload_of(pb.Frame(frame_id="a", voxels=payload), SPEC)
        decoded = decode([accepted], SPEC)
    except InvalidFrame:
        return
    assert len(decoded.inputs["coords"]) == len(decoded.inputs["features"]) == count
    assert np.isfinite(decoded.inputs["features"]).all()


def test_half_precision_models_get_their_own_type() -> None:
    spec = FrameSpec("voxels", GRID, 2, np.dtype(np.float16), False, 100, 10_000)
    coords, features = random_sites(5)
    decoded = decode([part(coords, features)], spec)
    assert decoded.inputs["features"].dtype == np.float16


@pytest.mark.parametrize("lenient", [False, True])
def test_values_that_half_precision_cannot_hold_are_refused(lenient: bool) -> None:
    spec = FrameSpec("voxels", GRID, 2, np.dtype(np.float16), lenient, 100, 10_000)
    coords, features = random_sites(5)
    features[2, 1] = -7e4
    expected = "features: row 2 column 1 is -70000, the model takes float16 up to 65504"
    with pytest.raises(InvalidFrame, match=expected):
        decode([part(coords, features)], spec)


DTYPES = [np.float32, np.float16, np.int8, np.uint8, np.int16, np.int32, np.int64, np.bool_]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (4, 1, 3), (300, 7)])
@pytest.mark.parametrize("in_stream", [False, True])
def test_hand_written_messages_are_what_protobuf_writes(dtype, shape, in_stream: bool) -> None:
    rng = np.random.default_rng(0)
    array = np.asarray(rng.integers(0, 2, shape)).astype(dtype)
    names = {d: i for i, d in zip((1, 2, 4, 5, 6, 7, 8, 9), DTYPES, strict=True)}
    specs = [OutputSpec(name, names[dtype], shape, "dense") for name in ("x", "größe")]
    response = pb.InferResponse(frame_id="f", model="m", timing=pb.Timing(total_us=5))
    raw = encode(response, specs, [array, array.T], in_stream=in_stream)
    parsed = (
        pb.StreamResponse.FromString(raw).result if in_stream else pb.InferResponse.FromString(raw)
    )
    for spec, sent in zip(specs, [array, array.T], strict=True):
        response.outputs.add(
            name=spec.name, dtype=spec.dtype, shape=sent.shape, data=sent.tobytes()
        )
    assert parsed == response


def test_rows_of_sites_go_back_in_the_order_sent() -> None:
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    rank = np.array([2, 0, 1])
    specs = [
        OutputSpec("score", pb.FLOAT32, (-1, 2), "per_site"),
        OutputSpec("map", pb.FLOAT32, (3, 2), "dense"),
    ]
    score, dense = frame_outputs({"score": rows, "map": rows}, specs, rank)
    np.testing.assert_array_equal(score, rows[[2, 0, 1]])
    assert dense is rows


def test_every_request_error_has_a_code_and_an_outcome() -> None:
    def below(kind: type) -> list[type]:
        return [kind, *(k for s in kind.__subclasses__() for k in below(s))]

    kinds = below(errors.RequestError)[1:]
    assert len(kinds) == len(errors._STATUS)
    for kind in kinds:
        assert errors.wire_code(kind("x")) > 0
        assert errors.outcome_of(kind("x")) != "ok"
