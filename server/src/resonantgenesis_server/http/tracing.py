"""A span for each request that has a credential, in the trace that its headers name."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from ..logging.setup import request_fields
from ..tracing import spans


def traced(app: ASGIApp) -> ASGIApp:
    """The app of a route, or the framework's, within a span; the app itself where none are made."""
    if not spans.are_on():
        return app

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["state"].get("principal") is None:  # probes, pages
            await app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): of.decode("latin-1") for name, of in scope["headers"]}
        with spans.request(scope["method"], scope["path"], headers) as span:
            request_fields.set({**request_fields.get(), **span.log_fields})
            await app(scope, receive, send)

    return run
