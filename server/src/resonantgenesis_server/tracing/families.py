"""The metrics of `/metrics` in OpenTelemetry's form, under the same names."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Sequence

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.core import Metric as Family

_SCOPE = InstrumentationScope("resonantgenesis.server")
_TOTAL = AggregationTemporality.CUMULATIVE


class Families:
    """Metrics that are told when they are sent. Counters begin when this is made."""

    def __init__(self, families: Callable[[], Iterable[Family]]) -> None:
        self._families = families
        self._began = time.time_ns()

    def now(self) -> list[Family]:
        """To be called on the event loop, whose parts they read."""
        return list(self._families())

    def added(self, data: MetricsData, families: Sequence[Family]) -> MetricsData:
        at = time.time_ns()
        own = [self._metric(family, at) for family in families if family.samples]
        scope = ScopeMetrics(_SCOPE, own, "")
        # Of two parts with one resource the library sends the second alone.
        first = data.resource_metrics[:1]
        resource = first[0].resource if first else Resource.create()
        others = first[0].scope_metrics if first else []
        return MetricsData([ResourceMetrics(resource, [*others, scope], "")])

    def _metric(self, family: Family, at: int) -> Metric:
        if family.type == "histogram":
            points: Histogram | Sum | Gauge = Histogram(self._histograms(family, at), _TOTAL)
        else:
            numbers = [
                NumberDataPoint(dict(sample.labels), self._began, at, sample.value)
                for sample in family.samples
                if not sample.name.endswith("_created")
            ]
            points = Sum(numbers, _TOTAL, True) if family.type == "counter" else Gauge(numbers)
        return Metric(family.name, family.documentation, "", points)

    def _histograms(self, family: Family, at: int) -> list[HistogramDataPoint]:
        """Ours have no labels, so there is one."""
        buckets = [
            (float(sample.labels["le"]), int(sample.value))
            for sample in family.samples
            if sample.name.endswith("_bucket")
        ]
        total = next(s.value for s in family.samples if s.name.endswith("_sum"))
        counts = [count for _, count in buckets]
        apart = [after - before for before, after in itertools.pairwise([0, *counts])]
        bounds = [bound for bound, _ in buckets[:-1]]  # the last one is infinite
        return [
            HistogramDataPoint(
                {}, self._began, at, counts[-1], total, apart, bounds, min=0.0, max=0.0
            )
        ]
