"""A request that is held open: whatever it waits for, it hears the end of its credential, of the
server and of its client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import ClassVar

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope

from ..model.errors import ApiError
from ..model.principal import Principal
from .serving.http_protocol import request_connection_of
from .watchdog import StreamWatchdog


class Held:
    """One request, within `holding`."""

    kind: ClassVar[str] = "wait"

    def __init__(self, principal: Principal, scope: asyncio.Timeout) -> None:
        self.principal = principal
        #: Whether its client is there. One that has ended its side is answered all the same: it
        #: may have left, or only have no more to say.
        self.here = True
        #: What ended it.
        self.reason: Exception | None = None
        self._scope = scope

    def leave(self) -> None:
        """The client is gone."""
        self.here = False
        self._stop(ClientDisconnect())

    def end_side(self) -> None:
        """The client will send nothing more."""
        self.here = False

    # -- called by the watch ---------------------------------------------------------------

    def end(self, error: ApiError) -> None:
        self._stop(error)

    def check_progress(self, now: float) -> None:
        """A wait has a time-out of its own."""

    def _stop(self, reason: Exception) -> None:
        if self.reason is None:
            self.reason = reason
            self._expire_in(0)

    def _expire_in(self, seconds: float) -> None:
        if not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time() + seconds)


@contextlib.asynccontextmanager
async def holding(held: Held, scope: asyncio.Timeout, watch: StreamWatchdog) -> AsyncIterator[None]:
    """The block is cancelled, and this raises why, when the credential or the server ends (an
    ApiError) or the client was told to have left (ClientDisconnect). `scope` is that of `held`;
    where it expires by itself, TimeoutError."""
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
    """The same for a request whose body was read, whose client is listened to."""
    limit = asyncio.timeout(None)
    held = Held(scope["state"]["principal"], limit)
    async with holding(held, limit, watch), listening(scope, receive, held):
        yield held


@contextlib.asynccontextmanager
async def reading(scope: Scope, watch: StreamWatchdog) -> AsyncIterator[None]:
    """The same while the body is read, which itself finds out that the client leaves."""
    principal = scope["state"].get("principal")
    connection = request_connection_of(scope)
    if principal is None or (connection is not None and not connection.unread):
        yield  # nothing has to be waited for
        return
    limit = asyncio.timeout(None)
    async with holding(Held(principal, limit), limit, watch):
        yield


def waiting_for(request: Request) -> contextlib.AbstractAsyncContextManager[Held]:
    """`waiting` for a route of the framework's."""
    return waiting(request.scope, request.receive, request.app.state.watch)


@contextlib.asynccontextmanager
async def listening(scope: Scope, receive: Receive, held: Held) -> AsyncIterator[None]:
    """Tell `held` that its client leaves: our own server does, another is asked by a task."""
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
