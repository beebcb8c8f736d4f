# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""OpenTelemetry: a span per frame with a child for each stage, when there is a collector.

Spans are made after the fact, from the times that the frame's metrics were made of, and exported by
a thread of the SDK. Without a collector nothing of OpenTelemetry is imported.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Protocol, TypeAlias

from voxgate_server.errors import StartupError
from voxgate_server.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span

log = logging.getLogger(__name__)

Stage: TypeAlias = tuple[str, float, float]
"""A stage's name, when it began (monotonic, seconds) and how many seconds it took."""
Attributes: TypeAlias = Mapping[str, str | int | float | bool | None]
Metadata: TypeAlias = Iterable[tuple[str, str | bytes]] | None

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_TRACES_PATH = "/v1/traces"
_TRACE_HEADERS = ("traceparent", "tracestate")
_MAX_ATTRIBUTE_LENGTH = 256
# What did not reach the collector by then is lost: the server must end in time without it.
_CLOSE_SECONDS = 5.0
# Outcomes that are the server's doing, which OpenTelemetry's conventions for gRPC servers call
# errors: DEADLINE_EXCEEDED, UNAVAILABLE and INTERNAL. A client's bad frame is none.
_ERRORS = frozenset({"deadline", "unavailable", "failed"})


class FrameSpans(Protocol):
    """Where answered frames go; never raises and never waits for a collector."""

    def parent(self, metadata: Metadata) -> Context | None:
        """The client's span that a stream's gRPC metadata names (W3C `traceparent`)."""

    def record(
        self,
        *,
        frame: str,
        stages: Sequence[Stage],
        attributes: Attributes,
        parent: Context | None = None,
    ) -> None:
        """A span for an answered frame, which lasts from its first stage to the end of its last.

        A stage `total` counts for that and has no child of its own. `attributes` get the prefix
        `voxgate.`; `outcome` among them tells errors; None is left out.
        """

    def close(self) -> None:
        """Export what is left; blocks for up to 5 s, so not on the event loop."""


class NoSpans:
    """`FrameSpans` without a collector."""

    def parent(self, metadata: Metadata) -> None:
        return None

    def record(
        self,
        *,
        frame: str,
        stages: Sequence[Stage],
        attributes: Attributes,
        parent: Context | None = None,
    ) -> None:
        return None

    def close(self) -> None:
        return None


def frame_spans(settings: Settings) -> FrameSpans:
    """Spans for `otlp_endpoint`, else for OTEL_EXPORTER_OTLP_ENDPOINT, else none.

    The SDK's own variables hold too: OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES,
    OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER, OTEL_BSP_…; OTEL_SDK_DISABLED=true: no spans.

    Raises:
        StartupError: a collector is configured and the `opentelemetry` extra is not installed.
    """
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    named = settings.otlp_endpoint or next(filter(None, map(os.environ.get, _ENDPOINTS)), None)
    if disabled or named is None:
        return NoSpans()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise StartupError(
            f"spans are to go to {_without_user(named)}, and {error.name or 'OpenTelemetry'} is "
            'not installed: pip install "voxgate[opentelemetry]", or start without otlp_endpoint '
            "and OTEL_EXPORTER_OTLP_ENDPOINT"
        ) from error
    # Without an argument the exporter reads the variables itself.
    exporter = OTLPSpanExporter(endpoint=_traces_url(settings.otlp_endpoint))
    return RecordedSpans(BatchSpanProcessor(exporter))


def _without_user(endpoint: str) -> str:
    """The URL without the user and password that it may have."""
    scheme, slashes, rest = endpoint.partition("://")
    return scheme + slashes + rest.rpartition("@")[2]


def _traces_url(endpoint: str | None) -> str | None:
    """The whole URL that the exporter wants for a base such as http://collector:4318."""
    if endpoint is None or endpoint.endswith(_TRACES_PATH):
        return endpoint
    return endpoint.rstrip("/") + _TRACES_PATH


class RecordedSpans:
    """`FrameSpans` that go to `processor`."""

    def __init__(self, processor: SpanProcessor) -> None:
        from opentelemetry import propagate, trace
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import SpanLimits, TracerProvider

        self._trace = trace
        self._propagate = propagate
        service = {"service.name": "voxgate", "service.version": _version()}
        # The variables' values win over ours.
        resource = Resource.create().merge(Resource(service)).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(
            resource=resource,
            # Its own handler would wait up to 30 s at exit.
            shutdown_on_exit=False,
            span_limits=SpanLimits(max_attribute_length=_MAX_ATTRIBUTE_LENGTH),
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("voxgate_server", _version())
        self._complained = False

    def parent(self, metadata: Metadata) -> Context | None:
        try:
            carrier = {
                key: value if isinstance(value, str) else value.decode()
                for key, value in metadata or ()
                if key in _TRACE_HEADERS
            }
            return self._propagate.extract(carrier) if carrier else None
        except Exception:
            self._complain()
            return None

    def record(
        self,
        *,
        frame: str,
        stages: Sequence[Stage],
        attributes: Attributes,
        parent: Context | None = None,
    ) -> None:
        try:
            self._record(frame, stages, attributes, parent)
        except Exception:
            self._complain()

    def close(self) -> None:
        thread = threading.Thread(target=self._provider.shutdown, name="spans", daemon=True)
        thread.start()
        thread.join(_CLOSE_SECONDS)
        if thread.is_alive():
            log.warning("the last spans did not reach the collector in %g s", _CLOSE_SECONDS)

    def _record(
        self, frame: str, stages: Sequence[Stage], attributes: Attributes, parent: Context | None
    ) -> None:
        monotonic = time.monotonic()
        epoch = time.time_ns() - int(monotonic * 1e9)
        begin = min((start for _, start, _ in stages), default=monotonic)
        end = max((start + seconds for _, start, seconds in stages), default=monotonic)
        span: Span = self._tracer.start_span(
            "frame",
            # Not the caller's current span, if some library has left one.
            context=parent
            if parent is not None
            else self._trace.set_span_in_context(self._trace.INVALID_SPAN),
            kind=self._trace.SpanKind.SERVER,
            start_time=epoch + int(begin * 1e9),
        )
        if not span.is_recording():
            return
        span.set_attribute("voxgate.frame_id", frame)
        for name, value in attributes.items():
            if value is not None:
                span.set_attribute(f"voxgate.{name}", value)
        outcome = attributes.get("outcome")
        if outcome in _ERRORS:
            span.set_status(self._trace.StatusCode.ERROR, str(outcome))
        context = self._trace.set_span_in_context(span)
        for name, start, seconds in stages:
            if name == "total":
                continue  # the frame's own span
            child = self._tracer.start_span(
                name, context=context, start_time=epoch + int(start * 1e9)
            )
            child.end(epoch + int((start + seconds) * 1e9))
        span.end(epoch + int(end * 1e9))

    def _complain(self) -> None:
        """Once: what fails for one frame may fail for each."""
        if not self._complained:
            self._complained = True
            log.warning("a frame has no span; later failures are not logged", exc_info=True)


def _version() -> str:
    try:
        return version("voxgate")
    except PackageNotFoundError:
        return "unknown"
