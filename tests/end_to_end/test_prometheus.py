# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""A real Prometheus scrapes a serving process, and PromQL answers what an operator asks."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
import pytest
from tests.server.driver import reserved_port
from tests.server.test_commands import serving

from voxgate_ops.operator_times import OperatorTime
from voxgate_protos import voxel_inference_pb2 as pb
from voxgate_protos import voxel_inference_pb2_grpc as pb_grpc
from voxgate_server.metrics import Metrics

pytestmark = pytest.mark.slow

MODEL = "unet"
GRID = (16, 64, 64)
POINT_RANGE = (0.0, 0.0, 0.0, 6.4, 6.4, 1.6)
SITES = 2000
STAGES = {"receive", "decode", "queue", "execute", "encode", "total"}
PATIENCE = 60.0
CONFIGURATION = """
global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}
scrape_configs:
  - job_name: voxgate
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


def program(name: str) -> str:
    """Path of a program of Debian's package `prometheus`; the test is skipped without it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} here: apt-get install prometheus (.ci/install_test_tools does)")
    return found


Series = dict[tuple[str, ...], float]


@dataclass
class Prometheus:
    """Queries to a running Prometheus."""

    url: str

    def query(self, expression: str, *labels: str) -> Series:
        """The result's values by these labels; {} while there is nothing to answer with."""
        url = f"{self.url}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                answer = json.load(response)
        except (urllib.error.URLError, ConnectionError):
            return {}
        assert answer["status"] == "success", answer
        return {
            tuple(row["metric"].get(label, "") for label in labels): float(row["value"][1])
            for row in answer["data"]["result"]
        }

    def wait(self, expression: str, *labels: str, until: Callable[[Series], bool]) -> Series:
        """The first result that is as it should be."""
        deadline = time.monotonic() + PATIENCE
        result: Series = {}
        while time.monotonic() < deadline:
            result = self.query(expression, *labels)
            if until(result):
                return result
            time.sleep(0.1)
        raise AssertionError(f"{expression} is still {result}")


@contextmanager
def scraping(port: int, folder: Path) -> Iterator[Prometheus]:
    """A Prometheus that scrapes this port twice a second and keeps its data in `folder`."""
    configuration = folder / "prometheus.yml"
    configuration.write_text(CONFIGURATION.format(port=port))
    command = [
        program("prometheus"),
        f"--config.file={configuration}",
        f"--storage.tsdb.path={folder / 'data'}",
    ]
    with reserved_port() as own, (folder / "prometheus.log").open("w") as log:
        address = f"127.0.0.1:{own}"
        command.append(f"--web.listen-address={address}")
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield Prometheus(f"http://{address}")
        finally:
            process.terminate()
            process.wait(30)


def frame(number: int, *, sites: int = SITES) -> pb.Frame:
    """Random sites; a frame that says it has one more is invalid."""
    rng = np.random.default_rng(number)
    cells = rng.choice(math.prod(GRID), SITES, replace=False)
    coords = np.stack(np.unravel_index(cells, GRID), axis=1).astype(np.int32)
    payload = pb.SparseVoxels(
        num_sites=sites,
        coords_dtype=pb.INT32,
        coords=coords.tobytes(),
        num_features=4,
        features_dtype=pb.FLOAT32,
        features=rng.normal(size=(SITES, 4)).astype(np.float32).tobytes(),
    )
    captured = pb.Frame(frame_id=str(number), voxels=payload)
    captured.captured_at.GetCurrentTime()
    return captured


@dataclass
class Traffic:
    """Frames of which every third is invalid, one after the other, until stopped."""

    target: str
    answers: Counter[str] = field(default_factory=Counter)
    execute: list[float] = field(default_factory=list)

    @contextmanager
    def flowing(self) -> Iterator[None]:
        stop = threading.Event()
        thread = threading.Thread(target=self._run, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _run(self, stop: threading.Event) -> None:
        answered = threading.Semaphore(1)

        def requests() -> Iterator[pb.StreamRequest]:
            yield pb.StreamRequest(open=pb.StreamOpen(model=MODEL))
            number = 0
            while not stop.is_set():
                answered.acquire()
                sites = SITES + (number % 3 == 2)
                yield pb.StreamRequest(frame=frame(number, sites=sites))
                number += 1

        with grpc.insecure_channel(self.target) as channel:
            for response in pb_grpc.VoxelInferenceStub(channel).StreamInfer(requests()):
                kind = response.WhichOneof("message")
                if kind == "opened":
                    continue
                self.answers["ok" if kind == "result" else "invalid"] += 1
                if kind == "result":
                    self.execute.append(response.result.timing.execute_us * 1e-6)
                answered.release()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from voxgate_ops.export.by_name import ExportOptions, run_export

    folder = tmp_path_factory.mktemp("exported")
    path = folder / MODEL / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    options = ExportOptions(
        "sparse_unet", path, point_range=POINT_RANGE, voxel_size=(0.1, 0.1, 0.1), spatial_shape=GRID
    )
    run_export(options, lambda _: None)
    return folder


def test_what_an_operator_asks_of_a_running_server(models: Path, tmp_path: Path) -> None:
    program("prometheus")
    arguments = ("--models", str(models), "--threads", "1", "--metrics-port")
    with (
        reserved_port() as port,
        serving(*arguments, str(port)) as (_, target),
        scraping(port, tmp_path) as prometheus,
    ):
        traffic = Traffic(target)
        with traffic.flowing():
            p99 = prometheus.wait(
                "histogram_quantile(0.99, sum by (model, stage, le)"
                " (rate(voxgate_stage_seconds_bucket[10s])))",
                "model",
                "stage",
                until=lambda found: (
                    set(found) == {(MODEL, stage) for stage in STAGES}
                    and not any(math.isnan(value) for value in found.values())
                ),
            )
            rates = prometheus.wait(
                "sum by (outcome) (rate(voxgate_frames_total[10s])) > 0",
                "outcome",
                until=lambda found: len(found) == 2,
            )
            operators = prometheus.wait(
                "topk(3, sum by (model, operator) (rate(voxgate_operator_seconds_total[10s])))",
                "model",
                "operator",
                until=lambda found: len(found) == 3 and min(found.values()) > 0,
            )
        assert all(0 < value <= 10 for value in p99.values())
        # Each stage's p99 lies within its bucket, whose bounds are at most a factor of 2.5 apart.
        assert min(traffic.execute) / 2.5 <= p99[MODEL, "execute"] <= max(traffic.execute) * 2.5
        assert set(rates) == {("ok",), ("invalid",)}
        assert (MODEL, "SparseConv") in operators
        counted = {(outcome,): float(count) for outcome, count in traffic.answers.items()}
        prometheus.wait(
            "sum by (outcome) (voxgate_frames_total) > 0",
            "outcome",
            until=lambda found: found == counted,
        )
        prometheus.wait(
            "sum(voxgate_frames_received_total) - sum(voxgate_frames_total)",
            until=lambda found: found == {(): 0.0},
        )
        # A scrape that took too long leaves all of these without a value until the next one.
        for expression, labels, value in (
            ("up", ("job",), {("voxgate",): 1.0}),
            ("voxgate_model_ready", ("model", "version"), {(MODEL, "1"): 1.0}),
            ("count(voxgate_build_info)", (), {(): 1.0}),
        ):
            prometheus.wait(expression, *labels, until=lambda found, v=value: found == v)


def test_promtool_has_nothing_to_say_of_the_exposition() -> None:
    promtool = program("promtool")
    metrics = Metrics(
        operators=lambda: [OperatorTime('a "quoted"\\name', "SparseConv", "cpu", 1, 1)]
    )
    model = metrics.model('a "quoted"\\name', "1")
    model.watch(queued=int, ready=bool, memory=int, instances=1, device="cpu")
    model.observe_batch(1, 1, 0.1, "cpu")
    model.observe_age(0.1)
    model.frame_received().finish("ok")
    metrics.model_load("net", "ok")
    metrics.stream_closed("OK")
    done = subprocess.run(
        [promtool, "check", "metrics"], input=metrics.exposition(), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
