"""OpenTelemetry: spans and metrics sent by OTLP, in protobuf over HTTP.

The variables `OTEL_*` say where to, how often, and which share of the traces. This module knows the
library; it is imported only if the setting `otel` asks for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import CancelledError
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self

import structlog
from opentelemetry import context, metrics, propagate, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client.core import Metric

from ..logging.startup import StartupError
from . import spans
from .families import Families

log_ = structlog.get_logger("resonantgenesis.tracing")

_NAME = "resonantgenesis"
_SCHEMA = "https://opentelemetry.io/schemas/gen-ai/0.1.0"
_W3C = TraceContextTextMapPropagator()
_KINDS = {"internal": SpanKind.INTERNAL, "client": SpanKind.CLIENT, "server": SpanKind.SERVER}
#: Seconds that a stop waits until all is sent, and an export until the loop has told the metrics.
_LAST, _TOLD = 5.0, 5.0
#: Loggers of the library that warn of what clients send: anybody could fill the server's log.
_OF_CLIENTS = (
    "opentelemetry.baggage.propagation",
    "opentelemetry.trace.propagation.tracecontext",
    "opentelemetry.trace.span",
)
#: Durations in seconds and tokens, as the conventions advise.
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = tuple(4.0**power for power in range(14))
#: The histogram of a span's duration, by its operation, and the attributes of both.
_DURATIONS = {
    "invoke_agent": "gen_ai.invoke_agent.duration",
    "chat": "gen_ai.client.operation.duration",
    "execute_tool": "gen_ai.execute_tool.duration",
}
_SHARED = (
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.agent.name",
    "gen_ai.tool.name",
    "error.type",
)


class OtelSpan(spans.Span):
    """A span that is recorded, with the figures that follow from it."""

    __slots__ = ("_attributes", "_began", "_owner", "_span", "_token")

    def __init__(self, owner: OtelSpans, span: trace.Span, attributes: Mapping[str, Any]) -> None:
        self._owner = owner
        self._span = span
        self._attributes = dict(attributes)
        self._began = time.perf_counter()
        self._token: Any = None

    @property
    def log_fields(self) -> Mapping[str, str]:
        place = self._span.get_span_context()
        if not place.is_valid:
            return {}
        return {
            "trace_id": trace.format_trace_id(place.trace_id),
            "span_id": trace.format_span_id(place.span_id),
        }

    def set(self, **attributes: Any) -> None:
        given = {name.replace("__", "."): value for name, value in attributes.items()}
        self._attributes |= given
        self._span.set_attributes(_without_none(given))

    def show(self, **attributes: Callable[[], Any]) -> None:
        if self._owner.shows_content:
            self.set(**{name: said() for name, said in attributes.items()})

    def fail(self, code: str) -> None:
        self.set(error__type=code)
        self._span.set_status(Status(StatusCode.ERROR, code))

    def end(self) -> None:
        self._owner.measure(self._attributes, time.perf_counter() - self._began)
        self._span.end()

    def __enter__(self) -> Self:
        self._token = context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        context.detach(self._token)
        if error is not None and isinstance(error, Exception):
            # Its words may be a person's; the server's log has them.
            self.fail(getattr(error, "code", None) or type(error).__name__)
        self.end()


class OtelSpans(spans.Spans):
    """Makes spans and sends them, with the metrics, until `close`."""

    def __init__(self, *, shows_content: bool) -> None:
        """Raises StartupError."""
        _check_protocol()
        for name in _OF_CLIENTS:
            logging.getLogger(name).setLevel(logging.ERROR)
        self.shows_content = shows_content
        resource = _resource()
        self._traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        if _is_wanted("TRACES"):
            self._traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._families: Families | None = None
        readers = []
        if _is_wanted("METRICS"):
            readers.append(PeriodicExportingMetricReader(_WithFamilies(self._told)))
        self._figures = MeterProvider(readers, resource, shutdown_on_exit=False)
        # So that what agents use is in the same traces.
        trace.set_tracer_provider(self._traces)
        metrics.set_meter_provider(self._figures)
        self._tracer = self._traces.get_tracer(_NAME, _version(), _SCHEMA)
        meter = self._figures.get_meter(_NAME, _version(), _SCHEMA)

        def histogram(name: str, unit: str, bounds: tuple[float, ...]) -> metrics.Histogram:
            return meter.create_histogram(name, unit, explicit_bucket_boundaries_advisory=bounds)

        self._durations = {
            operation: histogram(name, "s", _SECONDS) for operation, name in _DURATIONS.items()
        }
        self._tokens = histogram("gen_ai.client.token.usage", "{token}", _TOKENS)
        self._first = histogram("gen_ai.client.operation.time_to_first_chunk", "s", _SECONDS)

    def open(
        self, name: str, kind: str, attributes: Mapping[str, Any], parent: str | None
    ) -> OtelSpan:
        place = None if parent is None else _W3C.extract({"traceparent": parent}, context.Context())
        known = _without_none(attributes)
        span = self._tracer.start_span(name, place, _KINDS[kind], known)
        return OtelSpan(self, span, known)

    def request(self, method: str, path: str, headers: Mapping[str, str]) -> OtelSpan:
        attributes = {"http.request.method": method, "http.route": path}
        span = self._tracer.start_span(
            f"{method} {path}",
            propagate.extract(headers, context.Context()),
            SpanKind.SERVER,
            attributes,
        )
        return OtelSpan(self, span, attributes)

    def current(self) -> OtelSpan:
        return OtelSpan(self, trace.get_current_span(), {})

    def link(self, traceparent: str) -> None:
        read = trace.get_current_span()
        place = trace.get_current_span(_W3C.extract({"traceparent": traceparent}))
        if place.get_span_context() != read.get_span_context():
            read.add_link(place.get_span_context())

    def append(self, began: float, ended: float, entries: int) -> None:
        span = self._tracer.start_span(
            "append",
            attributes={"resonantgenesis.entries": entries},
            start_time=int(began * 1e9),
        )
        span.end(int(ended * 1e9))

    def headers(self) -> Mapping[str, str]:
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        return carrier

    def measure(self, attributes: Mapping[str, Any], seconds: float) -> None:
        """Count a span that has ended."""
        histogram = self._durations.get(attributes.get("gen_ai.operation.name", ""))
        if histogram is None:
            return
        shared = {name: attributes[name] for name in _SHARED if attributes.get(name) is not None}
        histogram.record(seconds, shared)
        if attributes["gen_ai.operation.name"] != "chat":
            return
        for kind in ("input", "output"):
            if (count := attributes.get(f"gen_ai.usage.{kind}_tokens")) is not None:
                self._tokens.record(count, {**shared, "gen_ai.token.type": kind})
        if (first := attributes.get("gen_ai.response.time_to_first_chunk")) is not None:
            self._first.record(first, shared)

    def tell(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = Families(families)
        self._loop = asyncio.get_running_loop()

    def _told(self, data: MetricsData) -> MetricsData:
        """The data with the server's own metrics; called in the reader's thread."""
        if self._families is None:
            return data

        async def tell(own: Families) -> list[Metric]:
            return own.now()

        try:
            asked = asyncio.run_coroutine_threadsafe(tell(self._families), self._loop)
            told = asked.result(_TOLD)
        except (RuntimeError, TimeoutError, CancelledError):  # the loop ends, or is blocked
            return data
        return self._families.added(data, told)

    async def close(self) -> None:
        """Send what waits, for some seconds at most."""
        done = asyncio.Event()
        loop = asyncio.get_running_loop()

        def shut_down() -> None:
            with contextlib.suppress(Exception):  # what cannot be sent any more is lost
                self._figures.shutdown(_LAST * 1e3)
            with contextlib.suppress(Exception):
                self._traces.shutdown()
            with contextlib.suppress(RuntimeError):  # nobody waits any more
                loop.call_soon_threadsafe(done.set)

        threading.Thread(target=shut_down, name="otel shutdown", daemon=True).start()
        try:
            await asyncio.wait_for(done.wait(), _LAST)
        except TimeoutError:
            log_.warning("the last spans could not be sent in time")


class _WithFamilies(MetricExporter):
    """Sends the library's metrics with those that `add` adds."""

    def __init__(self, add: Callable[[MetricsData], MetricsData]) -> None:
        self._otlp = OTLPMetricExporter()
        super().__init__(self._otlp._preferred_temporality, self._otlp._preferred_aggregation)
        self._add = add

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **more: Any
    ) -> MetricExportResult:
        return self._otlp.export(self._add(metrics_data), timeout_millis, **more)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return self._otlp.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **more: Any) -> None:
        self._otlp.shutdown(timeout_millis, **more)


@contextlib.asynccontextmanager
async def sending(*, shows_content: bool) -> AsyncIterator[None]:
    """Make and send spans within the block. Raises StartupError."""
    made = OtelSpans(shows_content=shows_content)
    spans.begin(made)
    try:
        yield
    finally:
        spans.begin(None)
        await made.close()


def _without_none(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}


def _version() -> str:
    return version("resonantgenesis-server")


def _resource() -> Resource:
    """That of the variables, which may name the service otherwise."""
    own = {"service.name": _NAME, "service.version": _version()}
    named = OTELResourceDetector().detect().attributes
    return Resource.create({name: value for name, value in own.items() if name not in named})


def _is_wanted(signal: str) -> bool:
    return os.environ.get(f"OTEL_{signal}_EXPORTER", "otlp").strip().lower() != "none"


def _check_protocol() -> None:
    for name in ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
                 "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"):  # fmt: skip
        if os.environ.get(name, "http/protobuf") != "http/protobuf":
            raise StartupError(
                f"{name} must be http/protobuf, which is the only one that is spoken"
            )
