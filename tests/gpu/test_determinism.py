# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The same bytes on every run, beside other runs and other frames, in sessions and on every GPU."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tests.gpu.conftest import Gpu
from tests.gpu.exported import NETWORKS, Array, Exported, export, run, sites

from voxgate_ops.session import open_session

pytestmark = [pytest.mark.gpu]

RUNS = 20


@pytest.fixture(
    scope="module",
    params=[(name, "fp32") for name in NETWORKS] + [("sparse_unet", "fp16")],
    ids="-".join,
)
def network(
    request: pytest.FixtureRequest, gpu: Gpu, tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    return export(tmp_path_factory.mktemp("determinism"), *request.param)


def assert_same_bytes(got: dict[str, Array], wanted: dict[str, Array]) -> None:
    for name, array in wanted.items():
        assert got[name].tobytes() == array.tobytes(), name


def test_over_runs(gpu: Gpu, network: Exported) -> None:
    session = gpu.open(network.path)
    given = (*sites(5000, 1, 2), 2)
    first = run(session, *given)
    for count in range(RUNS):
        run(session, *sites(97 * count, count))  # other sizes leave other memory behind
        assert_same_bytes(run(session, *given), first)


def test_over_sessions_and_threads(gpu: Gpu, network: Exported) -> None:
    """Two sessions of one process, each on a thread of its own, and one session on two threads."""
    first, second = gpu.open(network.path), gpu.open(network.path)
    given = (*sites(5000, 1), 1)
    wanted = run(first, *given)
    with ThreadPoolExecutor(4) as pool:
        sessions = [first, second, first, second] * 5
        for answer in pool.map(lambda session: run(session, *given), sessions):
            assert_same_bytes(answer, wanted)


@pytest.mark.parametrize("count", [1, 2, 989, 4000])
def test_alone_and_in_a_batch(gpu: Gpu, network: Exported, count: int) -> None:
    session = gpu.open(network.path)
    coords, features = sites(count, 3)
    others, other_features = sites(7000, 4, 2)
    in_batch = coords.copy()
    in_batch[:, 0] = 2
    alone = run(session, coords, features)
    together = run(
        session,
        np.concatenate([others, in_batch]),
        np.concatenate([other_features, features]),
        4,
    )
    for name, array in alone.items():
        mine = together[name][len(others) :] if network.per_site else together[name][2:3]
        assert array.tobytes() == np.ascontiguousarray(mine).tobytes(), name


def test_every_gpu_of_one_process(gpu: Gpu, network: Exported) -> None:
    """One session on each, all open; GPUs of different kinds may differ in the last bits."""
    if gpu.count() < 2:
        pytest.skip(f"this machine has {gpu.count()} GPU, this test wants two")
    given = (*sites(3000, 1), 1)
    sessions = [open_session(network.path, device=f"cuda:{i}") for i in range(gpu.count())]
    answers = [run(session, *given) for session in sessions]
    for session, answer in zip(sessions, answers, strict=True):
        assert_same_bytes(run(session, *given), answer)
        for name, array in answer.items():
            if array.dtype.kind == "f":
                np.testing.assert_allclose(array, answers[0][name], atol=1e-3)


def test_a_gpu_that_is_not_there(gpu: Gpu, network: Exported, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=f"there is no GPU {gpu.count()}"):
        open_session(network.path, device=f"cuda:{gpu.count()}")
