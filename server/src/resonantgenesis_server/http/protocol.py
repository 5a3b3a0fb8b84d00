"""The HTTP protocol class of our own `serve`: hands each request its connection's transport.

Everything works without it, under any ASGI server; with it, a stream can see whether its client
takes bytes, and drop a connection that a polite close would wait on for ever.
"""

from __future__ import annotations

import asyncio

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

EXTENSION = "resonantgenesis.transport"


class StreamHttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol with the transport in `scope["extensions"]`."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: {"transport": self.transport}}


def transport_of(scope: Scope) -> asyncio.Transport | None:
    """The connection's transport, if the server gives it."""
    extension = scope.get("extensions", {}).get(EXTENSION)
    return None if extension is None else extension["transport"]
