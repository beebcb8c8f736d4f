# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""`voxgate serve` on the GPU: what it says that it took, what it answers, what its metrics tell."""

from __future__ import annotations

import os
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from tests.end_to_end.test_service import stream, voxel_frame
from tests.gpu.conftest import Gpu
from tests.gpu.exported import Array, Exported, export, run, sites
from tests.server.driver import reserved_port
from tests.server.test_commands import COMMAND, LOCAL

from voxgate_protos import admin_pb2, admin_pb2_grpc
from voxgate_protos import voxel_inference_pb2_grpc as pb_grpc

pytestmark = pytest.mark.gpu

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def network(gpu: Gpu, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export(tmp_path_factory.mktemp("network"), "sparse_unet", "fp32")


@pytest.fixture(scope="module")
def models(network: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model three times: where the server puts it, in TF32, and on the CPU."""
    root = tmp_path_factory.mktemp("models")
    configs = {
        "unet": "",
        "unet_tf32": "device: cuda:0\nuse_tf32: true\n",
        "unet_cpu": "device: cpu\n",
    }
    for name, config in configs.items():
        folder = root / name / "1"
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(network.path.read_bytes())
        (folder.parent / "config.yaml").write_text(config)
    return root


class Served:
    """A running server, and what it printed until it was ready."""

    def __init__(self, lines: list[str], admin_port: int) -> None:
        said = dict(line.split(": ", 1) for line in lines)
        self.lines = lines
        self.metrics_url = said["metrics"]
        options = [("grpc.max_receive_message_length", -1)]
        self.channel = grpc.insecure_channel(said["serving"], options)
        self.stub = pb_grpc.VoxelInferenceStub(self.channel)
        self.admin = grpc.insecure_channel(f"127.0.0.1:{admin_port}")

    def metrics(self) -> str:
        with urllib.request.urlopen(self.metrics_url, timeout=20) as answer:
            return str(answer.read().decode())

    def value(self, name: str, **labels: str) -> float:
        """The sum of all samples of a metric that have these labels."""
        total = 0.0
        for line in self.metrics().splitlines():
            found = re.fullmatch(rf"{name}\{{(.*)\}} (\S+)", line)
            if found and all(f'{key}="{value}"' in found[1] for key, value in labels.items()):
                total += float(found[2])
        return total


@pytest.fixture(scope="module")
def served(models: Path) -> Iterator[Served]:
    with reserved_port() as port:
        arguments = ["--models", str(models), "--admin-port", str(port), "--admin-token", TOKEN]
        process = subprocess.Popen(
            [*COMMAND, *arguments], env=os.environ | LOCAL, stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            lines: list[str] = []
            for line in process.stdout:
                lines.append(line.strip())
                if line.startswith("serving: "):
                    break
            running = Served(lines, port)
            yield running
            running.channel.close()
            running.admin.close()
        finally:
            process.kill()
            process.wait()


def answers(
    served: Served, model: str, frames: list[tuple[Array, Array]]
) -> list[dict[str, Array]]:
    sent = [
        voxel_frame(f"{number}", np.ascontiguousarray(coords[:, 1:]), features)
        for number, (coords, features) in enumerate(frames)
    ]
    return stream(served.stub, model, sent)


def test_it_says_which_device_it_took(served: Served) -> None:
    assert "model unet version 1: ready on cuda:0" in served.lines
    assert "model unet_cpu version 1: ready on cpu" in served.lines
    listed = admin_pb2_grpc.ModelAdminStub(served.admin).ListModels(
        admin_pb2.ListModelsRequest(), metadata=[("authorization", f"Bearer {TOKEN}")]
    )
    devices = {model.name: model.device for model in listed.models}
    assert devices == {"unet": "cuda:0", "unet_tf32": "cuda:0", "unet_cpu": "cpu"}


def test_answers_are_the_sessions(served: Served, network: Exported, gpu: Gpu) -> None:
    session = gpu.open(network.path)
    frames = [sites(count, count) for count in (3000, 1, 989, 0, 5000)]
    for (coords, features), answer in zip(frames, answers(served, "unet", frames), strict=True):
        for name, array in run(session, coords, features).items():
            assert answer[name].tobytes() == array.tobytes(), name


def test_one_model_on_the_gpu_and_one_beside_it(served: Served) -> None:
    frames = [sites(2000, seed) for seed in range(3)]
    together = {name: answers(served, name, frames) for name in ("unet", "unet_tf32", "unet_cpu")}
    for name, limit in (("unet", 1e-4), ("unet_tf32", 1e-2)):
        for got, wanted in zip(together[name], together["unet_cpu"], strict=True):
            np.testing.assert_allclose(got["score"], wanted["score"], atol=limit)


def test_metrics_tell_the_gpus_time(served: Served) -> None:
    answers(served, "unet", [sites(4000, seed) for seed in range(8)])
    on_gpu = {"model": "unet", "device": "cuda"}
    for operator in ("SparseConv", "SubmanifoldRulebook", "SparseRulebook"):
        assert served.value("voxgate_operator_calls_total", operator=operator, **on_gpu) > 0
        seconds = served.value("voxgate_operator_seconds_total", operator=operator, **on_gpu)
        assert 0 < seconds < 60
    busy = {"model": "unet", "device": "cuda:0"}
    assert served.value("voxgate_engine_busy_seconds_total", **busy) > 0
    assert served.value("voxgate_engine_instances", **busy) == 1
    assert served.value("voxgate_operator_calls_total", model="unet_cpu", device="cuda") == 0
    assert 'cuda="' in served.metrics() and 'cuda=""' not in served.metrics()


def test_the_gpu_itself_is_in_the_metrics(served: Served) -> None:
    pytest.importorskip("pynvml", reason="the extra gpu brings it")
    assert served.value("voxgate_gpu_memory_bytes", gpu="0") > 1e9
    assert served.value("voxgate_gpu_memory_used_bytes", gpu="0") > 1e8
