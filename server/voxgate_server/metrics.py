# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Prometheus metrics: what is counted as it happens, and what is asked for at each scrape."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Final, Literal, get_args

import onnxruntime as ort
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

import voxgate_ops
from voxgate_ops.device import cuda_version
from voxgate_ops.errors import LibraryMissingError
from voxgate_ops.operator_times import OperatorTime, operator_times
from voxgate_ops.session import operators_library
from voxgate_server.errors import Outcome

Stage = Literal["receive", "decode", "queue", "execute", "encode", "total"]
Rows = Literal["sites", "points"]
LoadOutcome = Literal["ok", "failed"]

STAGES: Final[tuple[Stage, ...]] = ("receive", "decode", "queue", "execute", "encode", "total")
OUTCOMES: Final[tuple[Outcome, ...]] = (
    "ok",
    "invalid",
    "deadline",
    "superseded",
    "overloaded",
    "cancelled",
    "unavailable",
    "failed",
)
_STREAM_CODES: Final = ("OK", "CANCELLED", "INVALID_ARGUMENT", "NOT_FOUND", "UNAVAILABLE")
# The part of a model's runs that its custom operators do not account for.
ONNX_OPERATOR: Final = "onnx"
# Ages outside this range, in seconds, say something of the sender's clock and nothing of the frame.
# Clocks kept by NTP are a few milliseconds apart, so a little less than nothing is a fresh frame.
MIN_FRAME_AGE: Final = -0.1
MAX_FRAME_AGE: Final = 3600.0

# fmt: off
_SECONDS = (
    1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)
_FRAMES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128)
_SITES = (
    256, 1_024, 4_096, 8_192, 16_384, 32_768, 65_536, 131_072, 262_144, 400_000, 524_288, 1_048_576,
)
# fmt: on

# A `…_created` series beside every counter would double what Prometheus stores for nothing.
disable_created_metrics()  # type: ignore[no-untyped-call]

log = logging.getLogger(__name__)


class FrameCount:
    """One received frame: in flight from its creation until, once, the outcome it ends with."""

    __slots__ = ("_finished", "_model")

    def __init__(self, model: ModelMetrics) -> None:
        self._model = model
        self._finished = False
        model.received.inc()
        model.in_flight.inc()

    def finish(self, outcome: Outcome) -> bool:
        """Count the outcome and say so; what comes after the first one is ignored."""
        if self._finished:
            return False
        self._finished = True
        self._model.outcomes[outcome].inc()
        self._model.in_flight.dec()
        return True


class Watch:
    """Gauges of one loaded version, read at each scrape until it is closed."""

    def __init__(
        self,
        model: ModelMetrics,
        queued: Callable[[], int],
        ready: Callable[[], bool],
        memory: Callable[[], int],
        instances: int,
        device: str,
    ) -> None:
        self.queued = queued
        self.ready = ready
        self.memory = memory
        self.instances = instances
        self.device = device
        self._model = model

    def close(self) -> None:
        """Read them no more: their part of each gauge is 0 from here on."""
        self._model.unwatch(self)


class ModelMetrics:
    """The metrics of one version of one model, their labels resolved once."""

    def __init__(self, metrics: Metrics, model: str, version: str) -> None:
        self.name = model
        self.version = version
        self.received = metrics.frames_received.labels(model, version)
        self.in_flight = metrics.frames_in_flight.labels(model, version)
        self.outcomes = {o: metrics.frames.labels(model, version, o) for o in OUTCOMES}
        self._metrics = metrics
        self._streams = metrics.active_streams.labels(model, version)
        self._received_bytes = metrics.received_bytes.labels(model)
        self._sent_bytes = metrics.sent_bytes.labels(model)
        self._busy: dict[str, tuple[Counter, Counter]] = {}
        self.watches: tuple[Watch, ...] = ()
        self.watched_ever = False
        self.devices: tuple[str, ...] = ()
        if model:  # frames that reach no model have none of these, nor empty series of them
            for name in ("_stages", "_age", "_implausible", "_batch", "_rows"):
                getattr(self, name)

    @cached_property
    def _stages(self) -> dict[Stage, Histogram]:
        stages = self._metrics.stage_seconds
        return {stage: stages.labels(self.name, self.version, stage) for stage in STAGES}

    @cached_property
    def _age(self) -> Histogram:
        return self._metrics.frame_age.labels(self.name)

    @cached_property
    def _implausible(self) -> Counter:
        return self._metrics.frame_age_implausible.labels(self.name)

    @cached_property
    def _batch(self) -> tuple[Histogram, Histogram]:
        metrics = self._metrics
        return metrics.batch_frames.labels(self.name), metrics.batch_sites.labels(self.name)

    @cached_property
    def _rows(self) -> dict[Rows, Counter]:
        metrics = self._metrics
        return {
            "sites": metrics.sites.labels(self.name),
            "points": metrics.points.labels(self.name),
        }

    def frame_received(self) -> FrameCount:
        """Count a frame; its `finish` must be called exactly once."""
        return FrameCount(self)

    def observe(self, stage: Stage, seconds: float) -> None:
        """Seconds that one frame spent in a stage."""
        self._stages[stage].observe(seconds)

    def observe_age(self, seconds: float) -> None:
        """Seconds from a frame's `captured_at` to its answer; implausible ones counted apart."""
        if MIN_FRAME_AGE <= seconds <= MAX_FRAME_AGE:
            self._age.observe(max(seconds, 0.0))
        else:
            self._implausible.inc()

    def observe_batch(self, frames: int, sites: int, seconds: float, device: str) -> None:
        """One run of an engine: what it took together, and how long it was busy."""
        batch_frames, batch_sites = self._batch
        batch_frames.observe(frames)
        batch_sites.observe(sites)
        self.add_busy(seconds, device)

    def add_busy(self, seconds: float, device: str, runs: int = 1) -> None:
        """Runs of an engine that answer no frame: its warm-up.

        The operators count those too, so leaving them out would make the time that is left for
        `operator="onnx"` too small.
        """
        if device not in self._busy:
            labels = (self.name, device)
            self._busy[device] = (
                self._metrics.engine_busy.labels(*labels),
                self._metrics.engine_runs.labels(*labels),
            )
        busy, counted = self._busy[device]
        busy.inc(seconds)
        counted.inc(runs)

    def add_rows(self, kind: Rows, count: int) -> None:
        """Sites or points of a frame that was decoded."""
        self._rows[kind].inc(count)

    def add_received_bytes(self, count: int) -> None:
        self._received_bytes.inc(count)

    def add_sent_bytes(self, count: int) -> None:
        self._sent_bytes.inc(count)

    def stream_opened(self) -> None:
        self._streams.inc()

    def stream_closed(self) -> None:
        self._streams.dec()

    def watch(
        self,
        *,
        queued: Callable[[], int],
        ready: Callable[[], bool],
        memory: Callable[[], int],
        instances: int = 0,
        device: str = "",
    ) -> Watch:
        """Read these at every scrape, from another thread, until the returned watch is closed.

        While a version is replaced by one with the same number both are watched; their numbers add
        up. After the last one is closed the version's gauges stay, at 0.

        Args:
            queued: frames waiting for an engine.
            ready: whether frames are taken.
            memory: bytes that the engine holds.
            instances: how many engines run side by side on `device`.
        """
        watch = Watch(self, queued, ready, memory, instances, device)
        if device:
            self.add_busy(0.0, device, runs=0)  # a rate needs the zero before the first run
        with self._metrics.lock:
            self.watches += (watch,)
            self.watched_ever = True
            if device and device not in self.devices:
                self.devices += (device,)
        return watch

    def unwatch(self, watch: Watch) -> None:
        with self._metrics.lock:
            self.watches = tuple(other for other in self.watches if other is not watch)


class Metrics:
    """All metrics of one server, in a registry of their own.

    Every method may be called from any thread. A label never comes from a client: callers pass
    names of loaded models, or "" for frames that reach none.
    """

    def __init__(self, operators: Callable[[], Sequence[OperatorTime]] = operator_times) -> None:
        self.registry = CollectorRegistry()
        self.lock = threading.Lock()
        self._models: dict[tuple[str, str], ModelMetrics] = {}
        self.in_flight_bytes: Callable[[], int] = int
        self._define_frame_metrics()
        self._define_server_metrics()
        self.registry.register(_Gauges(self))
        self.registry.register(_OperatorTimes(self, operators))

    def _define_frame_metrics(self) -> None:
        version = ("model", "version")
        counter, histogram = self._counter, self._histogram
        self.frames = counter("frames", "Frames by how they ended", *version, "outcome")
        self.frames_received = counter("frames_received", "Frames, whole or in part", *version)
        self.frames_in_flight = self._gauge(
            "frames_in_flight", "Frames received and not yet ended", *version
        )
        self.stage_seconds = histogram(
            "stage_seconds", "Time a frame spent in each stage", _SECONDS, *version, "stage"
        )
        self.frame_age = histogram(
            "frame_age_seconds", "Time from captured_at to the answer", _SECONDS, "model"
        )
        self.frame_age_implausible = counter(
            "frame_age_implausible",
            f"Answered frames with a captured_at over {-MIN_FRAME_AGE:g} s ahead of the server's "
            f"clock or over {MAX_FRAME_AGE:g} s behind it",
            "model",
        )
        self.sites = counter("sites", "Sites of decoded frames", "model")
        self.points = counter("points", "Points of decoded frames", "model")
        self.received_bytes = counter("received_bytes", "Bytes of frames as they came", "model")
        self.sent_bytes = counter("sent_bytes", "Bytes of answers as they went", "model")

    def _define_server_metrics(self) -> None:
        counter, histogram = self._counter, self._histogram
        self.batch_frames = histogram("batch_frames", "Frames of one run", _FRAMES, "model")
        self.batch_sites = histogram(
            "batch_sites", "Sites (a points model: points) of one run", _SITES, "model"
        )
        self.engine_busy = counter(
            "engine_busy_seconds", "Time that engines were running", "model", "device"
        )
        # Not exposed by itself: the calls of `operator="onnx"`.
        self.engine_runs = Counter("runs", "Runs", ("model", "device"), registry=None)
        self.active_streams = self._gauge(
            "active_streams", "Open StreamInfer calls", "model", "version"
        )
        self.model_loads = counter("model_loads", "Attempts to load a model", "model", "outcome")
        self.streams_closed = counter("streams_closed", "Ended StreamInfer calls", "code")
        for code in _STREAM_CODES:  # a series that begins at 1 hides its first event from rate()
            self.streams_closed.labels(code)
        self.auth_failures = counter("auth_failures", "Calls without a valid credential")
        build = self._gauge("build_info", "What is running", "version", "onnxruntime", "cuda")
        build.labels(voxgate_ops.__version__, ort.__version__, cuda_version(operators_library)).set(
            1
        )

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"voxgate_{name}", what, labels, registry=self.registry)

    def _gauge(self, name: str, what: str, *labels: str) -> Gauge:
        return Gauge(f"voxgate_{name}", what, labels, registry=self.registry)

    def _histogram(self, name: str, what: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"voxgate_{name}", what, labels, buckets=buckets, registry=self.registry)

    def model(self, name: str, version: str) -> ModelMetrics:
        """The metrics of a loaded version; of "" and "" for frames that reach none."""
        key = (name, version)
        with self.lock:
            if key not in self._models:
                self._models[key] = ModelMetrics(self, name, version)
            return self._models[key]

    def models(self) -> list[ModelMetrics]:
        with self.lock:
            return list(self._models.values())

    def watch_in_flight(self, in_flight_bytes: Callable[[], int]) -> None:
        """Read voxgate_in_flight_bytes from here at every scrape, from another thread."""
        self.in_flight_bytes = in_flight_bytes

    def stream_closed(self, code: str) -> None:
        """Count an ended stream under its gRPC status: `OK`, `UNAVAILABLE`."""
        self.streams_closed.labels(code).inc()

    def auth_failure(self) -> None:
        """Count a call whose credential is missing or wrong."""
        self.auth_failures.inc()

    def model_load(self, model: str, outcome: LoadOutcome) -> None:
        """Count an attempt to load a version of `model`, the name of a folder of the repository."""
        # Both series begin at 0 with the first load, so that a later failure is an increase.
        counted = {known: self.model_loads.labels(model, known) for known in get_args(LoadOutcome)}
        counted[outcome].inc()

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format."""
        text: bytes = generate_latest(self.registry)
        return text


class _Gauges(Collector):
    """The gauges that are read at each scrape."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        version = ("model", "version")
        queued = _family("queued_frames", "Frames waiting for an engine", *version)
        ready = _family("model_ready", "1 while the version takes frames", *version)
        memory = _family("model_memory_bytes", "Memory that the version's engine holds", *version)
        instances = _family("engine_instances", "Engines side by side", "model", "device")
        counts: dict[tuple[str, str], int] = defaultdict(int)
        for model in self._metrics.models():
            if not model.watched_ever:
                continue
            labels = (model.name, model.version)
            watches = model.watches
            queued.add_metric(labels, sum(_read(watch.queued) for watch in watches))
            ready.add_metric(labels, float(any(_read(watch.ready) for watch in watches)))
            memory.add_metric(labels, sum(_read(watch.memory) for watch in watches))
            for device in model.devices:
                counts[model.name, device] += sum(
                    watch.instances for watch in watches if watch.device == device
                )
        for key, count in counts.items():
            instances.add_metric(key, count)
        in_flight = _family("in_flight_bytes", "Bytes of frames received and not yet answered")
        in_flight.add_metric((), _read(self._metrics.in_flight_bytes))
        yield from (queued, ready, memory, instances, in_flight)


class _OperatorTimes(Collector):
    """What the custom operators counted, and the rest of each model's runs as `onnx`."""

    def __init__(self, metrics: Metrics, read: Callable[[], Sequence[OperatorTime]]) -> None:
        self._metrics = metrics
        self._read = read
        self._rest: dict[tuple[str, str], float] = defaultdict(float)
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        labels = ("model", "operator", "device")
        seconds = CounterMetricFamily(
            "voxgate_operator_seconds", "Time that operators were running", labels=labels
        )
        calls = CounterMetricFamily("voxgate_operator_calls", "Calls of operators", labels=labels)
        # Busy first: a run that ends between the two reads makes the rest smaller, never larger.
        busy = _values(self._metrics.engine_busy)
        runs = _values(self._metrics.engine_runs)
        times = self._operators()
        for row in times:
            key = (row.model, row.operator, row.device)
            seconds.add_metric(key, row.seconds)
            calls.add_metric(key, row.calls)
        for (model, device), rest in self._rest_of(busy, times).items():
            key = (model, ONNX_OPERATOR, device)
            seconds.add_metric(key, rest)
            calls.add_metric(key, runs[model, device])
        yield from (seconds, calls)

    def _operators(self) -> Sequence[OperatorTime]:
        try:
            return self._read()
        except LibraryMissingError as error:
            # A server without models has not looked for the library yet.
            log.debug("no operator times: %s", error)
            return ()

    def _rest_of(
        self, busy: dict[tuple[str, str], float], times: Sequence[OperatorTime]
    ) -> dict[tuple[str, str], float]:
        """Busy seconds less the operators' per (model, device); never less than it was before.

        Operators count at once and engines at the end of a run, so it may seem to shrink meanwhile.
        """
        rest = dict(busy)
        for row in times:
            # Operators without a kernel for the engine's device run on the CPU.
            devices = sorted(device for model, device in busy if model == row.model)
            if devices:
                rest[row.model, row.device if row.device in devices else devices[0]] -= row.seconds
        with self._lock:
            for key, value in rest.items():
                self._rest[key] = max(self._rest[key], value)
            return dict(self._rest)


def _family(name: str, what: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"voxgate_{name}", what, labels=labels)


def _read(gauge: Callable[[], float]) -> float:
    """The gauge's value; 0 where it cannot be read, which costs the other series nothing."""
    try:
        return gauge()
    except Exception:
        log.exception("a gauge could not be read")
        return 0


def _values(counter: Counter) -> dict[tuple[str, str], float]:
    """The counter's values by model and device."""
    return {
        (sample.labels["model"], sample.labels["device"]): sample.value
        for family in counter.collect()
        for sample in family.samples
    }
