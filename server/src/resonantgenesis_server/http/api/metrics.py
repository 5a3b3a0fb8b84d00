"""`GET /metrics`: what the server counts, and how it stands now, for Prometheus."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from starlette.responses import Response
from starlette.types import Scope

from ...model.errors import Unauthenticated
from ..body import api_router, header
from ..errors import only_errors
from .metrics_collector import Gauges, OurMetrics

#: What proxies add: who sends them is not the one who connects.
_FORWARDED = (b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via")


def metrics_router(gauges: Gauges, token: str | None) -> APIRouter:
    """`token`: what must be sent as a bearer; None: who asks from this machine needs nothing."""
    router = api_router(tag="operations")
    ours = OurMetrics(gauges)
    process = CollectorRegistry()
    ProcessCollector(registry=process)
    GCCollector(registry=process)

    @router.get(
        "/metrics",
        response_class=PlainTextResponse,
        responses=only_errors(401, 500),
        operation_id="metrics",
    )
    async def metrics(request: Request) -> Response:
        """For Prometheus, in its text format. With the setting `metrics_token` it needs that as
        a bearer; without, only programs on the server's own machine may ask."""
        _check(request.scope, token)
        # Reading /proc lists every open file; the rest is read on the loop, where it changes.
        of_process = await asyncio.to_thread(generate_latest, process)
        body = generate_latest(ours) + of_process
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
    given = header(scope, b"authorization") or b""
    scheme, _, credential = given.strip().partition(b" ")
    right = hmac.compare_digest(credential.strip(), token.encode())
    if scheme.lower() != b"bearer" or not right:
        raise Unauthenticated("send Authorization: Bearer with the server's metrics_token")


def _is_local(scope: Scope) -> bool:
    """Whether it comes from this machine, from no browser's page and through no proxy. A proxy
    on this machine that hides itself still gives another host than ours away, unless it is told
    not to: then metrics_token is needed, as the documentation says."""
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
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback
