# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What is exposed, by name, kind and label, and that each number counts what its name says."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import onnxruntime as ort
import pytest
from prometheus_client.parser import text_string_to_metric_families

import voxgate_ops
from voxgate_ops.device import cuda_version
from voxgate_ops.errors import LibraryMissingError
from voxgate_ops.operator_times import OperatorTime
from voxgate_ops.session import operators_library
from voxgate_server.gpu_metrics import GpuGauges, find_gpus
from voxgate_server.metrics import OUTCOMES, STAGES, Metrics

TABLE = """
voxgate_frames_total                 counter    model version outcome
voxgate_frames_received_total        counter    model version
voxgate_frames_in_flight             gauge      model version
voxgate_stage_seconds                histogram  model version stage
voxgate_frame_age_seconds            histogram  model
voxgate_frame_age_implausible_total  counter    model
voxgate_operator_seconds_total       counter    model operator device
voxgate_operator_calls_total         counter    model operator device
voxgate_batch_frames                 histogram  model
voxgate_batch_sites                  histogram  model
voxgate_engine_busy_seconds_total    counter    model device
voxgate_engine_instances             gauge      model device
voxgate_sites_total                  counter    model
voxgate_points_total                 counter    model
voxgate_received_bytes_total         counter    model
voxgate_sent_bytes_total             counter    model
voxgate_queued_frames                gauge      model version
voxgate_active_streams               gauge      model version
voxgate_model_ready                  gauge      model version
voxgate_model_memory_bytes           gauge      model version
voxgate_in_flight_bytes              gauge
voxgate_model_loads_total            counter    model outcome
voxgate_streams_closed_total         counter    code
voxgate_auth_failures_total          counter
voxgate_build_info                   gauge      version onnxruntime cuda
"""


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"voxgate_{name}", labels)


def operator(model: str, name: str, seconds: float, device: str = "cpu") -> OperatorTime:
    return OperatorTime(model, name, device, 1, seconds)


def watched(metrics: Metrics, **gauges: Any) -> Any:
    values: dict[str, Any] = {
        "queued": lambda: 3,
        "ready": lambda: True,
        "memory": lambda: 1000,
        "instances": 2,
        "device": "cpu",
    }
    return metrics.model("net", "1").watch(**(values | gauges))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(operators=list)


def test_the_exposed_set_is_the_table() -> None:
    metrics = Metrics(operators=lambda: [operator("net", "SparseConv", 0.1)])
    net = metrics.model("net", "1")
    watched(metrics)
    net.observe_batch(1, 10, 0.1, "cpu")
    metrics.model_load("net", "ok")
    metrics.stream_closed("OK")
    found = {}
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        total = "_total" if family.type == "counter" else ""
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[family.name + total] = (family.type, labels)
        assert family.documentation and family.samples, family.name
    expected = {}
    for line in TABLE.strip().splitlines():
        name, kind, *labels = line.split()
        expected[name] = (kind, set(labels))
    assert found == expected


def test_values_of_outcome_and_stage_are_there_at_zero(metrics: Metrics) -> None:
    metrics.model("net", "1")
    for outcome in OUTCOMES:
        assert value(metrics, "frames_total", model="net", version="1", outcome=outcome) == 0
    for stage in STAGES:
        labels = {"model": "net", "version": "1", "stage": stage}
        assert value(metrics, "stage_seconds_count", **labels) == 0


def test_frames_that_reach_no_model_have_no_series_of_stages(metrics: Metrics) -> None:
    metrics.model("", "").frame_received().finish("invalid")
    assert value(metrics, "frames_total", model="", version="", outcome="invalid") == 1
    assert b"voxgate_stage_seconds_bucket" not in metrics.exposition()


def test_buckets_of_stages_span_a_tenth_of_a_millisecond_to_ten_seconds(metrics: Metrics) -> None:
    metrics.model("net", "1")
    (family,) = (f for f in metrics.registry.collect() if f.name == "voxgate_stage_seconds")
    total = [sample for sample in family.samples if sample.labels["stage"] == "total"]
    bounds = [sample.labels["le"] for sample in total if "le" in sample.labels]
    assert (bounds[0], bounds[-2], bounds[-1]) == ("0.0001", "10.0", "+Inf")
    steps = [float(b) / float(a) for a, b in zip(bounds[:-2], bounds[1:-1], strict=True)]
    assert max(steps) <= 2.5  # what a quantile may be off by


def test_a_frame_is_in_flight_until_its_first_outcome(metrics: Metrics) -> None:
    net = metrics.model("net", "1")
    labels = {"model": "net", "version": "1"}
    first, second = net.frame_received(), net.frame_received()
    assert value(metrics, "frames_in_flight", **labels) == 2
    first.finish("ok")
    first.finish("cancelled")
    assert value(metrics, "frames_in_flight", **labels) == 1
    second.finish("failed")
    assert value(metrics, "frames_in_flight", **labels) == 0
    counted = {o: value(metrics, "frames_total", **labels, outcome=o) for o in OUTCOMES}
    assert counted == dict.fromkeys(OUTCOMES, 0) | {"ok": 1, "failed": 1}
    assert value(metrics, "frames_received_total", **labels) == 2


def test_no_count_of_many_threads_is_lost(metrics: Metrics) -> None:
    def frames() -> None:
        for _ in range(500):
            metrics.model("net", "1").frame_received().finish("ok")

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(frames) for _ in range(8)]:
            done.result()
    labels = {"model": "net", "version": "1"}
    assert value(metrics, "frames_received_total", **labels) == 4000
    assert value(metrics, "frames_total", **labels, outcome="ok") == 4000
    assert value(metrics, "frames_in_flight", **labels) == 0


@pytest.mark.parametrize(
    ("age", "plausible"),
    [
        (0.0, True),
        (0.2, True),
        (-0.05, True),
        (3600.0, True),
        (-0.2, False),
        (3700.0, False),
        (1.7e9, False),
        (float("nan"), False),
        (float("inf"), False),
    ],
)
def test_ages_by_implausible_clocks_are_counted_apart(
    metrics: Metrics, age: float, plausible: bool
) -> None:
    metrics.model("net", "1").observe_age(age)
    assert value(metrics, "frame_age_seconds_count", model="net") == plausible
    assert value(metrics, "frame_age_implausible_total", model="net") == (not plausible)
    assert value(metrics, "frame_age_seconds_sum", model="net") == (max(age, 0) if plausible else 0)


def test_a_batch(metrics: Metrics) -> None:
    net = metrics.model("net", "1")
    net.observe_batch(3, 5000, 0.25, "cpu")
    net.observe_batch(1, 9000, 0.5, "cpu")
    assert value(metrics, "batch_frames_sum", model="net") == 4
    assert value(metrics, "batch_sites_sum", model="net") == 14000
    assert value(metrics, "batch_sites_bucket", model="net", le="8192.0") == 1
    assert value(metrics, "engine_busy_seconds_total", model="net", device="cpu") == 0.75


def test_versions_of_a_model_share_what_has_no_version(metrics: Metrics) -> None:
    for version in ("1", "2"):
        net = metrics.model("net", version)
        net.add_rows("sites", 10)
        net.add_rows("points", 20)
        net.add_received_bytes(30)
        net.add_sent_bytes(40)
    for name, expected in (("sites", 20), ("points", 40)):
        assert value(metrics, f"{name}_total", model="net") == expected
    assert value(metrics, "received_bytes_total", model="net") == 60
    assert value(metrics, "sent_bytes_total", model="net") == 80


def test_streams(metrics: Metrics) -> None:
    net = metrics.model("net", "1")
    net.stream_opened()
    net.stream_opened()
    net.stream_closed()
    metrics.stream_closed("UNAVAILABLE")
    assert value(metrics, "active_streams", model="net", version="1") == 1
    assert value(metrics, "streams_closed_total", code="UNAVAILABLE") == 1


def test_counts_of_the_server(metrics: Metrics) -> None:
    metrics.auth_failure()
    metrics.model_load("net", "failed")
    metrics.watch_in_flight(lambda: 4096)
    assert value(metrics, "auth_failures_total") == 1
    assert value(metrics, "model_loads_total", model="net", outcome="failed") == 1
    assert value(metrics, "in_flight_bytes") == 4096


def test_build_info(metrics: Metrics) -> None:
    (family,) = (f for f in metrics.registry.collect() if f.name == "voxgate_build_info")
    (sample,) = family.samples
    assert sample.labels["version"] == voxgate_ops.__version__
    assert sample.labels["onnxruntime"] == ort.__version__
    assert sample.labels["cuda"] == cuda_version(operators_library)
    assert sample.value == 1


def gauges(metrics: Metrics) -> tuple[float | None, ...]:
    version = {"model": "net", "version": "1"}
    return (
        value(metrics, "queued_frames", **version),
        value(metrics, "model_ready", **version),
        value(metrics, "model_memory_bytes", **version),
        value(metrics, "engine_instances", model="net", device="cpu"),
    )


def test_gauges_are_read_at_each_scrape_and_are_zero_once_closed(metrics: Metrics) -> None:
    assert gauges(metrics) == (None, None, None, None)
    queue: list[int] = []
    watch = watched(metrics, queued=lambda: len(queue))
    assert gauges(metrics) == (0, 1, 1000, 2)
    queue.extend([1, 2])
    assert gauges(metrics) == (2, 1, 1000, 2)
    watch.close()
    watch.close()
    assert gauges(metrics) == (0, 0, 0, 0)


def test_a_reload_of_the_same_version_never_shows_it_gone(metrics: Metrics) -> None:
    old = watched(metrics)
    new = watched(metrics, queued=lambda: 1, memory=lambda: 500, instances=1)
    assert gauges(metrics) == (4, 1, 1500, 3)
    old.close()
    assert gauges(metrics) == (1, 1, 500, 1)
    new.close()
    assert gauges(metrics) == (0, 0, 0, 0)


def test_a_gauge_that_cannot_be_read_costs_only_itself(
    metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> int:
        raise RuntimeError("engine is gone")

    watched(metrics, memory=broken)
    assert gauges(metrics) == (3, 1, 0, 2)
    assert "a gauge could not be read" in caplog.text


class Operators:
    """Stands in for the library's counters."""

    def __init__(self) -> None:
        self.rows: list[OperatorTime] = []
        self.metrics = Metrics(operators=lambda: self.rows)
        self.net = self.metrics.model("net", "1")

    def seconds(self, name: str, device: str = "cpu") -> float | None:
        labels = {"model": "net", "operator": name, "device": device}
        return value(self.metrics, "operator_seconds_total", **labels)


@pytest.fixture
def operators() -> Operators:
    return Operators()


def test_onnx_is_what_the_operators_leave_of_the_runs(operators: Operators) -> None:
    operators.rows = [operator("net", "SparseConv", 0.5), operator("net", "SortSites", 0.25)]
    operators.rows.append(operator("other", "SparseConv", 9.0))
    operators.net.observe_batch(1, 1, 0.6, "cpu")
    operators.net.observe_batch(1, 1, 0.4, "cpu")
    assert operators.seconds("SparseConv") == 0.5
    assert operators.seconds("SortSites") == 0.25
    assert operators.seconds("onnx") == pytest.approx(0.25)
    calls = {"model": "net", "operator": "onnx", "device": "cpu"}
    assert value(operators.metrics, "operator_calls_total", **calls) == 2
    calls["operator"] = "SparseConv"
    assert value(operators.metrics, "operator_calls_total", **calls) == 1


def test_busy_time_and_onnx_are_there_at_zero_once_a_version_is_watched(
    operators: Operators,
) -> None:
    watched(operators.metrics)
    labels = {"model": "net", "device": "cpu"}
    assert value(operators.metrics, "engine_busy_seconds_total", **labels) == 0
    assert operators.seconds("onnx") == 0


def test_onnx_never_shrinks_while_a_run_is_going_on(operators: Operators) -> None:
    operators.rows = [operator("net", "SparseConv", 1.0)]
    operators.net.observe_batch(1, 1, 3.0, "cpu")
    assert operators.seconds("onnx") == 2.0
    operators.rows = [operator("net", "SparseConv", 2.5)]  # of a run that has not ended
    assert operators.seconds("onnx") == 2.0
    operators.net.observe_batch(1, 1, 3.0, "cpu")
    assert operators.seconds("onnx") == 3.5


def test_onnx_begins_at_zero_however_far_ahead_the_operators_are(operators: Operators) -> None:
    operators.rows = [operator("net", "SparseConv", 5.0)]
    operators.net.observe_batch(1, 1, 1.0, "cpu")
    assert operators.seconds("onnx") == 0.0


def test_warm_up_runs_are_busy_time_too(operators: Operators) -> None:
    operators.rows = [operator("net", "SparseConv", 1.5)]
    operators.net.add_busy(1.75, "cpu", runs=2)
    assert operators.seconds("onnx") == 0.25
    assert value(operators.metrics, "batch_frames_count", model="net") == 0


def test_operators_on_the_host_belong_to_the_engine_of_another_device(
    operators: Operators,
) -> None:
    operators.rows = [operator("net", "SparseConv", 1.0, "cuda"), operator("net", "SortSites", 0.5)]
    operators.net.observe_batch(1, 1, 2.0, "cuda")
    assert operators.seconds("onnx", "cuda") == 0.5
    assert operators.seconds("SortSites", "cpu") == 0.5
    assert operators.seconds("onnx", "cpu") is None


def test_a_missing_operator_library_costs_only_the_operators() -> None:
    def missing() -> list[OperatorTime]:
        raise LibraryMissingError("not there")

    metrics = Metrics(operators=missing)
    metrics.model("net", "1").observe_batch(1, 1, 2.0, "cpu")
    labels = {"model": "net", "operator": "onnx", "device": "cpu"}
    assert value(metrics, "operator_seconds_total", **labels) == 2.0


class NVMLError(Exception):
    pass


def nvml(**changed: Any) -> Any:
    """A machine with two GPUs, the second one of which tells no power."""

    def power(index: int) -> int:
        if index == 1:
            raise NVMLError("not supported")
        return 301_500

    functions = {
        "NVMLError": NVMLError,
        "NVML_TEMPERATURE_GPU": 0,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetUUID": lambda index: f"GPU-{index}",
        "nvmlDeviceGetUtilizationRates": lambda index: SimpleNamespace(gpu=25 + index),
        "nvmlDeviceGetMemoryInfo": lambda index: SimpleNamespace(used=1 << 30, total=80 << 30),
        "nvmlDeviceGetTemperature": lambda index, sensor: 60 + sensor + index,
        "nvmlDeviceGetPowerUsage": power,
    }
    return SimpleNamespace(**(functions | changed))


def test_gauges_of_gpus(metrics: Metrics) -> None:
    metrics.registry.register(GpuGauges(nvml()))
    first, second = {"gpu": "0", "uuid": "GPU-0"}, {"gpu": "1", "uuid": "GPU-1"}
    assert value(metrics, "gpu_utilization_ratio", **first) == 0.25
    assert value(metrics, "gpu_utilization_ratio", **second) == 0.26
    assert value(metrics, "gpu_memory_used_bytes", **first) == 1 << 30
    assert value(metrics, "gpu_memory_bytes", **second) == 80 << 30
    assert value(metrics, "gpu_temperature_celsius", **second) == 61
    assert value(metrics, "gpu_power_watts", **first) == 301.5
    assert value(metrics, "gpu_power_watts", **second) is None


def no_driver() -> None:
    raise NVMLError("driver not loaded")


@pytest.mark.parametrize("changed", [{"nvmlInit": no_driver}, {"nvmlDeviceGetCount": lambda: 0}])
def test_a_machine_without_gpus(monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any]) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(**changed))
    assert find_gpus() is None


def test_a_machine_with_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    gpus = find_gpus()
    assert gpus is not None and len(gpus) == 2


def test_without_the_gpu_extra_there_are_no_gauges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert find_gpus() is None
