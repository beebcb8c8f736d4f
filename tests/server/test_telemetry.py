# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Spans of frames: their times, attributes and parents, and what happens without a collector."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from voxgate_server import telemetry
from voxgate_server.errors import StartupError
from voxgate_server.settings import Settings

TRACE = 0x0AF7651916CD43DD8448EB211C80319C
PARENT = 0xB7AD6B7169203331
TRACEPARENT = ("traceparent", f"00-{TRACE:032x}-{PARENT:016x}-01")


@pytest.fixture(autouse=True)
def no_collector_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Iterator[telemetry.RecordedSpans]:
    spans = telemetry.RecordedSpans(SimpleSpanProcessor(exporter))
    yield spans
    spans.close()


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_frame_is_a_span_with_a_child_for_each_stage(
    spans: telemetry.RecordedSpans, exporter: InMemorySpanExporter
) -> None:
    before = time.time_ns()
    now = time.monotonic()
    spans.record(
        frame="f-1",
        stages=[
            ("decode", now - 0.5, 0.1),
            ("execute", now - 0.25, 0.2),
            ("total", now - 0.6, 0.59),
        ],
        attributes={
            "model": "pillars",
            "version": "3",
            "sensor_id": None,
            "sites": 41_264,
            "batch_frames": 2,
            "outcome": "ok",
        },
    )
    after = time.time_ns()
    found = by_name(exporter)
    assert set(found) == {"frame", "decode", "execute"}
    frame, decode, execute = found["frame"], found["decode"], found["execute"]
    assert frame.parent is None and frame.kind is SpanKind.SERVER
    assert dict(frame.attributes or {}) == {
        "voxgate.frame_id": "f-1",
        "voxgate.model": "pillars",
        "voxgate.version": "3",
        "voxgate.sites": 41_264,
        "voxgate.batch_frames": 2,
        "voxgate.outcome": "ok",
    }
    assert frame.status.status_code is StatusCode.UNSET
    for child in (decode, execute):
        assert child.parent is not None and frame.context is not None
        assert child.parent.span_id == frame.context.span_id
    for span, seconds in ((frame, 0.59), (decode, 0.1), (execute, 0.2)):
        assert span.start_time is not None and span.end_time is not None
        assert abs(span.end_time - span.start_time - seconds * 1e9) < 1e4
    assert before - 0.51e9 <= (decode.start_time or 0) <= after - 0.49e9
    resource = frame.resource.attributes
    assert resource["service.name"] == "voxgate" and resource["service.version"]


def test_without_a_total_a_frame_lasts_from_its_first_stage_to_the_end_of_its_last(
    spans: telemetry.RecordedSpans, exporter: InMemorySpanExporter
) -> None:
    stages = [("execute", 5.0, 2.0), ("decode", 4.0, 0.5)]
    spans.record(frame="f", stages=stages, attributes={})
    found = by_name(exporter)
    assert found["frame"].start_time == found["decode"].start_time
    assert found["frame"].end_time == found["execute"].end_time


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        ("failed", StatusCode.ERROR),
        ("deadline", StatusCode.ERROR),
        ("unavailable", StatusCode.ERROR),
        ("invalid", StatusCode.UNSET),
        ("cancelled", StatusCode.UNSET),
    ],
)
def test_only_the_servers_own_failures_are_errors(
    spans: telemetry.RecordedSpans, exporter: InMemorySpanExporter, outcome: str, code: StatusCode
) -> None:
    spans.record(frame="f", stages=[], attributes={"outcome": outcome})
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is code and span.start_time == span.end_time


def test_the_clients_span_is_the_parent(
    spans: telemetry.RecordedSpans, exporter: InMemorySpanExporter
) -> None:
    parent = spans.parent((("user-agent", "robot"), TRACEPARENT, ("key-bin", b"\xff")))
    spans.record(frame="f", stages=[], attributes={}, parent=parent)
    (span,) = exporter.get_finished_spans()
    assert span.parent is not None and span.parent.is_remote
    assert (span.parent.trace_id, span.parent.span_id) == (TRACE, PARENT)
    assert span.context is not None and span.context.trace_id == TRACE


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        (),
        (("user-agent", "robot"),),
        (("traceparent", "nonsense"),),
        (("traceparent", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"),),
        (("traceparent", b"\xff"),),
        (("traceparent", ""), ("tracestate", "=,=,=")),
    ],
)
def test_without_a_valid_parent_a_frame_is_its_own_trace(
    spans: telemetry.RecordedSpans, exporter: InMemorySpanExporter, metadata: telemetry.Metadata
) -> None:
    spans.record(frame="f", stages=[], attributes={}, parent=spans.parent(metadata))
    (span,) = exporter.get_finished_spans()
    assert span.parent is None


def test_a_parent_that_is_not_sampled_costs_its_frames_no_spans(
    spans: telemetry.RecordedSpans, exporter: InMemorySpanExporter
) -> None:
    parent = spans.parent((("traceparent", TRACEPARENT[1].removesuffix("1") + "0"),))
    spans.record(frame="f", stages=[("decode", 0.0, 1.0)], attributes={}, parent=parent)
    assert not exporter.get_finished_spans()


def test_a_long_value_is_cut(
    spans: telemetry.RecordedSpans, exporter: InMemorySpanExporter
) -> None:
    spans.record(frame="f", stages=[], attributes={"sensor_id": "s" * 100_000})
    (span,) = exporter.get_finished_spans()
    assert len(str((span.attributes or {})["voxgate.sensor_id"])) == 256


def test_recording_never_raises_and_complains_once(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(SimpleSpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            raise RuntimeError("no more memory")

    spans = telemetry.RecordedSpans(Broken(InMemorySpanExporter()))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            spans.record(frame="f", stages=[], attributes={})
    assert len(caplog.records) == 1 and caplog.records[0].exc_info is not None


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, ExportTraceServiceRequest]]]]:
    received: list[tuple[str, ExportTraceServiceRequest]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received.append((self.path, ExportTraceServiceRequest.FromString(body)))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("way", ["setting", "setting with a path", "variable"])
def test_spans_reach_a_collector_over_http(
    collector: tuple[str, list[tuple[str, ExportTraceServiceRequest]]],
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    endpoint, received = collector
    monkeypatch.setenv("OTEL_SERVICE_NAME", "fleet")
    if way == "variable":
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        settings = Settings()
    else:
        path = "/v1/traces" if way == "setting with a path" else ""
        settings = Settings(otlp_endpoint=endpoint + path)
    spans = telemetry.frame_spans(settings)
    now = time.monotonic()
    spans.record(frame="f-1", stages=[("decode", now, 0.001)], attributes={"model": "m"})
    spans.close()
    ((path, request),) = received
    assert path == "/v1/traces"
    (resource_spans,) = request.resource_spans
    names = [span.name for scope in resource_spans.scope_spans for span in scope.spans]
    assert sorted(names) == ["decode", "frame"]
    resource = {one.key: one.value.string_value for one in resource_spans.resource.attributes}
    assert resource["service.name"] == "fleet"


def test_closing_does_not_wait_for_a_collector_that_is_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    released = threading.Event()

    class Stuck(InMemorySpanExporter):
        def shutdown(self) -> None:
            released.wait(60)

    monkeypatch.setattr(telemetry, "_CLOSE_SECONDS", 0.01)
    spans = telemetry.RecordedSpans(SimpleSpanProcessor(Stuck()))
    spans.close()
    assert "did not reach the collector" in caplog.text
    released.set()


def test_without_a_collector_there_are_no_spans_and_no_import() -> None:
    script = """
import sys, os
from voxgate_server.settings import Settings
from voxgate_server.telemetry import NoSpans, frame_spans
spans = frame_spans(Settings())
assert isinstance(spans, NoSpans)
assert spans.parent((("traceparent", "x"),)) is None
spans.record(frame="f", stages=[], attributes={})
spans.close()
os.environ.update(OTEL_SDK_DISABLED="true", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
assert isinstance(frame_spans(Settings()), NoSpans)
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_collector_without_the_extra_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://robot:secret@collector:4318")
    with pytest.raises(StartupError, match=r'http://collector:4318.*pip install "voxgate\[open'):
        telemetry.frame_spans(Settings())
