# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The same network and checkpoint in spconv 2.3.8, where `make bench` has set it up."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.ops.checks import spconv_network

import voxgate_ops.nn as spconv

KEEP_ROWS = {"submanifold", "up", "product"}


@pytest.fixture(scope="module")
def peer(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    python = repository / "build" / "benchmark-peer" / "bin" / "python"
    if not python.is_file():
        pytest.skip(f"{python} is missing; make bench creates it")
    path = tmp_path_factory.mktemp("spconv") / "outputs.pt"
    script = Path(spconv_network.__file__)
    subprocess.run([python, script, path], check=True, capture_output=True, timeout=200)
    return torch.load(path, weights_only=True)


def test_outputs_of_a_loaded_checkpoint(peer: Any) -> None:
    state, outputs = peer
    network = spconv_network.build(spconv)
    network.load_state_dict(state)
    found = spconv_network.run(spconv, network)
    assert found.keys() == outputs.keys()
    for name, (own_coords, own_features) in found.items():
        coords, features = outputs[name]
        if name not in KEEP_ROWS:  # spconv leaves other layers' rows in no particular order
            order = sorted(range(len(coords)), key=coords.tolist().__getitem__)
            coords, features = coords[order], features[order]
        assert torch.equal(own_coords, coords), name
        worst = (own_features - features).abs().max()
        assert worst <= 1e-5 * features.abs().max(), name
