"""Bodies that take long, up or down: each ends with its credential, with the server, and when
nothing moves for too long."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import ClassVar

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from ..files.base import BlobError
from ..log.base import LogError
from ..model.errors import ApiError
from ..model.principal import Principal
from ..records.base import StoreError
from .protocol import request_connection_of
from .watch import Watch

log_ = structlog.get_logger("resonantgenesis.http")
Headers = list[tuple[bytes, bytes]]

#: Seconds in which a server tells that a connection that was cut is lost.
_CUT = 5.0


class Stalled(Exception):
    """Nothing moved for as long as the limits allow."""


class Transfer:
    """One body under way, within `transferring`."""

    kind: ClassVar[str] = "transfer"

    def __init__(self, principal: Principal, scope: asyncio.Timeout, stall: float) -> None:
        self.principal = principal
        self.reason: Exception = Stalled()
        self._scope = scope
        self._stall = stall

    def moved(self) -> None:
        """Some of the body has gone through."""
        if isinstance(self.reason, Stalled):
            self._expire_in(self._stall)

    def leave(self) -> None:
        """The client is gone."""
        self._stop(ClientDisconnect())

    # -- called by the watch ---------------------------------------------------------------

    def end(self, error: ApiError) -> None:
        self._stop(error)

    def check_progress(self, now: float) -> None:
        """That is what the scope's own timer is for."""

    def _stop(self, reason: Exception) -> None:
        self.reason = reason
        self._expire_in(0)

    def _expire_in(self, seconds: float) -> None:
        if not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time() + seconds)


@contextlib.asynccontextmanager
async def transferring(principal: Principal, watch: Watch, stall: float) -> AsyncIterator[Transfer]:
    """The block is cancelled, and this raises why, when the credential or the server ends (an
    ApiError), the client has left (ClientDisconnect), or nothing `moved` for `stall` seconds
    (Stalled)."""
    scope = asyncio.timeout(stall)
    transfer = Transfer(principal, scope, stall)
    try:
        async with scope:
            watch.add(transfer)
            try:
                yield transfer
            finally:
                watch.discard(transfer)
    except TimeoutError:
        if not scope.expired():
            raise
        raise transfer.reason from None


async def read_pieces(receive: Receive, transfer: Transfer) -> AsyncGenerator[bytes, None]:
    """A request's body as it comes; nothing is read ahead. Raises ClientDisconnect when the client
    leaves before its end."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect()
        piece = message.get("body", b"")
        if piece:
            transfer.moved()
            yield piece
        if not message.get("more_body", False):
            return


@dataclass(frozen=True, slots=True)
class Answer:
    """A response whose body is read while it is sent: as fast as the client takes it."""

    status: int
    headers: Headers
    blocks: AsyncGenerator[bytes, None]


async def send_answer(
    answer: Answer,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    watch: Watch,
    stall: float,
) -> None:
    """Send it to its end. What fails in the middle can only be told by cutting the connection:
    the client sees that the body is not whole."""
    principal: Principal = scope["state"]["principal"]
    disconnect: asyncio.Task[None] | None = None
    try:
        async with transferring(principal, watch, stall) as transfer:
            disconnect = asyncio.create_task(_wait_for_disconnect(receive, transfer))
            async with contextlib.aclosing(answer.blocks):
                await send(
                    {
                        "type": "http.response.start",
                        "status": answer.status,
                        "headers": answer.headers,
                    }
                )
                async for block in answer.blocks:
                    await send({"type": "http.response.body", "body": block, "more_body": True})
                    transfer.moved()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
    except (ApiError, Stalled, LogError, StoreError, BlobError) as error:
        log_.info(
            "answer broken off",
            request_id=scope["state"]["request_id"],
            path=scope["path"],
            why=str(error) or type(error).__name__,
        )
        await _break_off(scope, error)
    finally:
        if disconnect is not None:
            disconnect.cancel()
            await asyncio.wait({disconnect}, timeout=5)


async def _wait_for_disconnect(receive: Receive, transfer: Transfer) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    transfer.leave()


async def _break_off(scope: Scope, error: Exception) -> None:
    """Cut the connection; where the server gives us none, it does so itself with what we raise."""
    connection = request_connection_of(scope)
    if connection is None:
        raise error
    lost = asyncio.Event()
    connection.on_lost = lost.set
    connection.transport.abort()
    if not connection.lost:  # the server is told in the loop's next round
        await asyncio.wait_for(lost.wait(), _CUT)
