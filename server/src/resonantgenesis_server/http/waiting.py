"""Requests that are held open, and hear the end of their credential, server and client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import ClassVar

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope

from ..model.errors import ApiError
from ..model.principal import Principal
from .serving.http_connection import request_connection_of
from .watchdog import StreamWatchdog


class Held:
    """One request that waits, within `holding`."""

    kind: ClassVar[str] = "wait"

    def __init__(self, principal: Principal, scope: asyncio.Timeout) -> None:
        self.principal = principal
        #: False if the client may have left. A client that has ended its side is answered all the
        #: same, since it may only have no more to send.
        self.here = True
        #: The reason of the end.
        self.reason: Exception | None = None
        self._scope = scope

    def leave(self) -> None:
        """The client has left."""
        self.here = False
        self._stop(ClientDisconnect())

    def end_side(self) -> None:
        """The client will send no more."""
        self.here = False

    # -- called by the watchdog ------------------------------------------------------------

    def end(self, error: ApiError) -> None:
        self._stop(error)

    def check_progress(self, now: float) -> None:
        """No check: a wait has a time-out of its own."""

    def _stop(self, reason: Exception) -> None:
        if self.reason is None:
            self.reason = reason
            self._expire_in(0)

    def _expire_in(self, seconds: float) -> None:
        if not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time() + seconds)


@contextlib.asynccontextmanager
async def holding(held: Held, scope: asyncio.Timeout, watch: StreamWatchdog) -> AsyncIterator[None]:
    """Cancel the block when `held` must end, and raise the reason.

    The reason is an ApiError (the credential or the server ends) or ClientDisconnect (the client
    has left). `scope` is the time-out of `held`; if it expires by itself, raises TimeoutError.
    """
    try:
        async with scope:
            watch.add(held)
            try:
                yield
            finally:
                watch.discard(held)
    except TimeoutError:
        if held.reason is None or not scope.expired():
            raise
        raise held.reason from None


@contextlib.asynccontextmanager
async def waiting(scope: Scope, receive: Receive, watch: StreamWatchdog) -> AsyncIterator[Held]:
    """Like `holding`, for a request whose body was read: it also hears its client leave."""
    limit = asyncio.timeout(None)
    held = Held(scope["state"]["principal"], limit)
    async with holding(held, limit, watch), listening(scope, receive, held):
        yield held


@contextlib.asynccontextmanager
async def reading(scope: Scope, watch: StreamWatchdog) -> AsyncIterator[None]:
    """Like `holding`, while the body is read. The reading itself hears the client leave."""
    principal = scope["state"].get("principal")
    connection = request_connection_of(scope)
    if principal is None or (connection is not None and not connection.unread):
        yield  # the whole body is here
        return
    limit = asyncio.timeout(None)
    async with holding(Held(principal, limit), limit, watch):
        yield


def waiting_for(request: Request) -> contextlib.AbstractAsyncContextManager[Held]:
    """Like `waiting`, for a route of the framework."""
    return waiting(request.scope, request.receive, request.app.state.watch)


@contextlib.asynccontextmanager
async def listening(scope: Scope, receive: Receive, held: Held) -> AsyncIterator[None]:
    """Make `held` hear its client leave: from our own server, or from a task that asks another."""
    connection = request_connection_of(scope)
    if connection is not None:
        with connection.telling(held):
            yield
        return
    task = asyncio.create_task(_wait_for_disconnect(receive, held))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=5)


async def _wait_for_disconnect(receive: Receive, held: Held) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    held.leave()
