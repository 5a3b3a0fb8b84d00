"""`GET /metrics`: the metrics of the server, for Prometheus."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from starlette.responses import Response
from starlette.types import Scope

from ...metrics import METERS, PREFIX, Counter, Histogram
from ...model.errors import Unauthenticated
from ..errors import only_errors
from ..params import header
from ..routing import api_router
from ..worker_metrics import Telling

#: Headers that proxies add. The sender of such a request is not the one who connects.
_FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via")


#: The values of a gauge by its label; without a label one value, under "".
Values = Mapping[str, float]
#: For each gauge a function that returns its values. `build_info` is made here.
Gauges = Mapping[str, Callable[[], Values]]


def metrics_router(tellings: Callable[[], Sequence[Telling]], token: str | None) -> APIRouter:
    """`tellings`: what each process of this server tells. `token` is the required bearer. With
    None, programs on this machine need none."""
    router = api_router(tag="operations")

    @router.get(
        "/metrics",
        response_class=PlainTextResponse,
        responses=only_errors(401, 500),
        operation_id="metrics",
    )
    async def metrics(request: Request) -> Response:
        """For Prometheus, in its text format. With the setting `metrics_token` the request needs
        that token as a bearer; without it only programs on the server's machine may ask."""
        _check(request.scope, token)
        # /proc lists every open file, so it is read in a thread. The loop reads its own counters.
        body = await asyncio.to_thread(_exposed, tellings())
        return Response(
            body, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4, "Cache-Control": "no-store"}
        )

    return router


def _check(scope: Scope, token: str | None) -> None:
    """Raises Unauthenticated."""
    if token is None:
        if not _is_local(scope):
            raise Unauthenticated(
                "metrics are for programs on the server's machine; set metrics_token to read them"
                " from elsewhere or through a proxy, and send it as Authorization: Bearer"
            )
        return
    value = header(scope, b"authorization") or b""
    scheme, _, credential = value.strip().partition(b" ")
    matches = hmac.compare_digest(credential.strip(), token.encode())
    if scheme.lower() != b"bearer" or not matches:
        raise Unauthenticated("send Authorization: Bearer with the server's metrics_token")


def _is_local(scope: Scope) -> bool:
    """Whether the request comes from this machine, from no page and through no proxy.

    A proxy on this machine that adds no headers still sends another host than ours, unless it is
    configured not to. Then metrics_token is needed, as the documentation says.
    """
    client = scope.get("client")
    if client is None or not _is_loopback(client[0]):
        return False
    if header(scope, b"origin") is not None or any(header(scope, each) for each in _FORWARDED):
        return False
    host = (header(scope, b"host") or b"").decode("latin-1")
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == "localhost" or _is_loopback(name)


def _is_loopback(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


def _exposed(tellings: Sequence[Telling]) -> bytes:
    """All families of all processes, and those that the system tells of a process."""
    merged: dict[str, Metric] = {}
    for worker, pid, families in tellings:
        label = {} if worker is None else {"worker": worker}
        for family in (*families, *_of_process(pid)):
            whole = merged.get(family.name)
            if whole is None:
                whole = merged[family.name] = Metric(family.name, family.documentation, family.type)
            whole.samples += [
                sample._replace(labels={**label, **sample.labels}) for sample in family.samples
            ]
    return generate_latest(_Collected(merged.values()))


def _of_process(pid: int) -> Iterable[Metric]:
    """Nothing if it has ended."""
    return ProcessCollector(pid=lambda: pid, registry=None).collect()


class _Collected(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


class ServerMetrics:
    """Every metric of `metrics.METERS` and of the garbage collector, in the form of
    prometheus-client."""

    def __init__(self, gauges: Gauges) -> None:
        build = {version("resonantgenesis-server"): 1.0}
        self._gauges: Gauges = {**gauges, "build_info": lambda: build}
        self._garbage = GCCollector(registry=CollectorRegistry())

    def collect(self) -> Iterator[Metric]:
        yield from self._garbage.collect()
        for metric in METERS.table:
            name, labels = PREFIX + metric.name, [metric.label] if metric.label else []
            if isinstance(metric.counts, Histogram):
                yield _histogram(name, metric.help, metric.counts)
            elif isinstance(metric.counts, Counter):
                yield _labelled(
                    CounterMetricFamily(name, metric.help, labels=labels), metric.counts.counts
                )
            else:
                family = GaugeMetricFamily(name, metric.help, labels=labels)
                yield _labelled(family, self._gauges[metric.name]())


def _labelled(family: CounterMetricFamily | GaugeMetricFamily, values: Values) -> Metric:
    for word, value in values.items():
        family.add_metric([word] if word else [], value)
    return family


def _histogram(name: str, help: str, histogram: Histogram) -> Metric:
    # A bound with and without a point would be two series.
    bounds = [repr(float(bound)) for bound in histogram.bounds] + ["+Inf"]
    counts = [float(count) for count in histogram.cumulative]
    family = HistogramMetricFamily(name, help)
    family.add_metric([], list(zip(bounds, counts, strict=True)), sum_value=histogram.sum)
    return family
