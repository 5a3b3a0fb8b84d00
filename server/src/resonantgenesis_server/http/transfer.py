"""Bodies that take long, up or down: each ends with its credential, with the server, and when
nothing moves for too long."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass
from typing import ClassVar

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from ..files.base import BlobError
from ..log.base import LogError
from ..model.errors import ApiError
from ..model.limits import Limits
from ..model.principal import Principal
from ..records.base import StoreError
from .serving.http_protocol import request_connection_of
from .waiting import Held, holding, listening
from .watchdog import Watch

log_ = structlog.get_logger("resonantgenesis.http")
Headers = list[tuple[bytes, bytes]]

#: Seconds in which a server tells that a connection that was cut is lost.
_CUT = 5.0


class Stalled(Exception):
    """Nothing moved, or too little, for as long as the limits allow; the message is for people."""


class Transfer(Held):
    """One body under way, within `transferring`."""

    kind: ClassVar[str] = "transfer"

    def __init__(self, principal: Principal, scope: asyncio.Timeout, limits: Limits) -> None:
        super().__init__(principal, scope)
        self._stall = limits.stall
        self._rate = limits.transfer_rate
        #: What the client took, or gave, in the seconds that it was waited for, of one window.
        self._size, self._seconds = 0, 0.0

    def moved(self) -> None:
        """Some of the body has gone through."""
        if self.reason is None:
            self._expire_in(self._stall)

    @contextlib.contextmanager
    def waiting_for_client(self) -> Iterator[None]:
        """Time in this block is the client's, all other is ours: a disk, a search in a log."""
        began = time.monotonic()
        yield
        self._seconds += time.monotonic() - began

    def passed(self, size: int) -> None:
        """So many bytes have gone through. Raises Stalled when they are too few for the time that
        the client took; over a window, since on a bad link nothing comes for seconds."""
        self.moved()
        self._size += size
        if self._seconds >= self._stall:
            if self._size < self._rate * self._seconds:
                raise Stalled(f"less than {self._rate} bytes a second, over {self._stall:g} s")
            self._size, self._seconds = 0, 0.0


@contextlib.asynccontextmanager
async def transferring(
    principal: Principal, watch: Watch, limits: Limits
) -> AsyncIterator[Transfer]:
    """The block is cancelled, and this raises why, when the credential or the server ends (an
    ApiError), the client has left (ClientDisconnect), or nothing `moved` for so long, or too
    little (Stalled). Raises RateLimited when no more may be open."""
    watch.check_room(principal)
    scope = asyncio.timeout(limits.stall)
    transfer = Transfer(principal, scope, limits)
    try:
        async with holding(transfer, scope, watch):
            yield transfer
    except TimeoutError:
        if not scope.expired():
            raise
        raise Stalled(f"nothing moved for {limits.stall:g} s") from None


async def read_pieces(receive: Receive, transfer: Transfer) -> AsyncGenerator[bytes, None]:
    """A request's body as it comes; nothing is read ahead. Raises ClientDisconnect when the client
    leaves before its end."""
    while True:
        with transfer.waiting_for_client():
            message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect()
        piece = message.get("body", b"")
        if piece:
            transfer.passed(len(piece))
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
    limits: Limits,
) -> None:
    """Send it to its end. What fails in the middle can only be told by cutting the connection:
    the client sees that the body is not whole. Raises RateLimited before its beginning."""
    principal: Principal = scope["state"]["principal"]
    watch.check_room(principal)  # here, where it can still be told
    try:
        async with (
            transferring(principal, watch, limits) as transfer,
            listening(scope, receive, transfer),
        ):
            async with contextlib.aclosing(answer.blocks):
                await send(
                    {
                        "type": "http.response.start",
                        "status": answer.status,
                        "headers": answer.headers,
                    }
                )
                async for block in answer.blocks:
                    with transfer.waiting_for_client():
                        await send({"type": "http.response.body", "body": block, "more_body": True})
                    transfer.passed(len(block))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
    except (ApiError, Stalled, LogError, StoreError, BlobError) as error:
        log_.info(
            "answer broken off",
            request_id=scope["state"]["request_id"],
            path=scope["path"],
            why=str(error) or type(error).__name__,
        )
        await _break_off(scope, error)


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
