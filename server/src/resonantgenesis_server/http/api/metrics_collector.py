"""What the server counts and how it stands, as a collector of prometheus-client."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from ...observe import METERS, Counter, Histogram, Meters
from .metrics_table import PREFIX, TABLE, Described

#: Values of a gauge by its label's value; without a label the only one, under "".
Values = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Gauges:
    """Whom to ask how things stand, at the moment of a scrape."""

    streams: Callable[[], Values]
    viewers: Callable[[], Values]
    turns: Callable[[], Values]
    log_queue: Callable[[], int]
    list_queue: Callable[[], int]
    draining: Callable[[], bool]

    def values(self) -> dict[str, Values]:
        return {
            "build_info": {version("resonantgenesis-server"): 1},
            "draining": {"": float(self.draining())},
            "streams_open": self.streams(),
            "viewers": self.viewers(),
            "turns_open": self.turns(),
            "log_queue_bytes": {"": self.log_queue()},
            "session_list_queue": {"": self.list_queue()},
        }


def _counters(meters: Meters) -> dict[str, Counter]:
    return {
        "entries_appended_total": meters.appended,
        "chunks_delivered_total": meters.chunks_delivered,
        "events_delivered_total": meters.events_delivered,
        "commit_failures_total": meters.commit_failures,
        "turns_total": meters.turns,
        "turn_errors_total": meters.turn_errors,
        "model_failures_total": meters.model_failures,
        "request_errors_total": meters.refusals,
        "limits_hit_total": meters.limits,
        "log_lines_dropped_total": meters.log_dropped,
        "defects_total": meters.defects,
        "damaged_total": meters.damaged,
    }


def _histograms(meters: Meters) -> dict[str, Histogram]:
    return {
        "append_to_socket_seconds": meters.append_to_socket,
        "commit_seconds": meters.commit_seconds,
        "commit_entries": meters.commit_entries,
        "commit_bytes": meters.commit_bytes,
        "event_loop_lag_seconds": meters.loop_lag,
    }


class OurMetrics(Collector):
    """Everything in TABLE."""

    def __init__(self, gauges: Gauges, meters: Meters = METERS) -> None:
        self._gauges = gauges
        self._counters = _counters(meters)
        self._histograms = _histograms(meters)

    def collect(self) -> Iterator[Metric]:
        gauges = self._gauges.values()
        for metric in TABLE:
            if metric.kind == "histogram":
                yield _histogram(metric, self._histograms[metric.name])
            elif metric.kind == "counter":
                yield _counter(metric, self._counters[metric.name].counts)
            else:
                yield _gauge(metric, gauges[metric.name])


def _gauge(metric: Described, values: Values) -> Metric:
    labels = [metric.label] if metric.label else []
    family = GaugeMetricFamily(PREFIX + metric.name, metric.help, labels=labels)
    for word, value in values.items():
        family.add_metric([word] if metric.label else [], value)
    return family


def _counter(metric: Described, values: Mapping[str, int]) -> Metric:
    labels = [metric.label] if metric.label else []
    family = CounterMetricFamily(PREFIX + metric.name, metric.help, labels=labels)
    for word, value in values.items():
        family.add_metric([word] if metric.label else [], value)
    return family


def _histogram(metric: Described, histogram: Histogram) -> Metric:
    names = [_bound(bound) for bound in histogram.bounds] + ["+Inf"]
    counts = [float(count) for count in histogram.cumulative]
    family = HistogramMetricFamily(PREFIX + metric.name, metric.help)
    family.add_metric([], list(zip(names, counts, strict=True)), sum_value=histogram.sum)
    return family


def _bound(value: float) -> str:
    """Whole numbers without a point would be another series to a query than with one."""
    return repr(float(value))
