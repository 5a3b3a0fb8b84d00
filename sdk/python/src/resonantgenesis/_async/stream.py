"""The asynchronous stream of a session's chunks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Self, TypeVar

from .._core.actions import Emit, Fetch, Finish, Lost, Open, Outcome, Read, Wait, Waited
from .._core.reconnect import Reconnector
from .._core.retry import OnReconnect
from .._core.session_stream import SessionStreamMachine
from .._http.async_io import sleep
from .._http.reader import MakeMachine, Reader, StreamBase
from ..models import Chunk
from .transport import AsyncConnection, AsyncTransport

T = TypeVar("T")


class AsyncReader(Reader[T], ABC):
    """Connects when first iterated, or entered with `async with`."""

    def __init__(self, transport: AsyncTransport, on_reconnect: OnReconnect | None = None) -> None:
        super().__init__(on_reconnect)
        self._transport = transport
        self._connection: AsyncConnection | None = None

    def __aiter__(self) -> AsyncIterator[T]:
        """Iterate in one loop, which closes the stream however the loop ends; see `_items`."""
        self._enter_loop()
        return self._items()

    async def _items(self) -> AsyncIterator[T]:
        # An iterator of the loop's own ends with the loop, even if a variable holds the stream:
        # at `break`, `return` or an exception the block under `finally` runs.
        try:
            while (emitted := await self._run()) is not None:
                yield emitted.item
        except GeneratorExit:
            self._left = True
            raise
        finally:
            await self.aclose()

    async def __anext__(self) -> T:
        emitted = await self._run()
        if emitted is None:
            raise StopAsyncIteration
        return emitted.item

    async def __aenter__(self) -> Self:
        """Connect, so that the place is known."""
        await self._run(only_open=True)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection, and nothing else. May be repeated."""
        self._abandon()
        await self._disconnect()

    @abstractmethod
    async def _begin(self) -> Reconnector[T]:
        """The machine, made at the first call."""

    async def _run(self, *, only_open: bool = False) -> Emit[T] | None:
        """The next item; None at the end, or, with `only_open`, once the stream is there."""
        self._enter_read()
        try:
            machine = await self._begin()
            while not (self._closed or (only_open and machine.opened)):
                action = machine.next()
                if isinstance(action, Emit):
                    return action
                if isinstance(action, Finish):
                    await self._end(action)
                    return None
                machine.give(await self._perform(action))
                self._after_outcome(machine)
            if self._closed:
                await self._disconnect()
            return None
        except BaseException:
            # Cancelled from outside, or failed: either way nobody reads on.
            await self.aclose()
            raise
        finally:
            self._busy = False

    async def _end(self, action: Finish) -> None:
        if action.error is None and self._connection is not None:
            await self._connection.finish()
        await self._disconnect()
        self._closed = True
        if action.error is not None:
            raise action.error
        self._after_end()

    async def _perform(self, action: Open | Read | Fetch | Wait) -> Outcome:
        if isinstance(action, Read) and self._connection is not None:
            return await self._connection.read(action.timeout)
        await self._disconnect()
        if isinstance(action, Open):
            outcome, self._connection = await self._transport.open(action.request)
            return outcome
        if isinstance(action, Fetch):
            return await self._transport.fetch(action.request)
        if isinstance(action, Wait):
            self._before_wait(action)
            await sleep(action.seconds)
            return Waited()
        return Lost("closed")

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()

    def __del__(self) -> None:
        # Abandoned in mid-stream: the resume point must say so. A transport of asyncio closes
        # itself when it is collected.
        self._abandon()
        # sync: self._disconnect()


class AsyncStream(AsyncReader[Chunk], StreamBase):
    """Chunks of a session, in order, each once, over as many connections as it takes.

    Connects when first iterated (or entered with `async with`). Ends after the turn's `done`, or
    after a `waiting` behind which the turn asks; `join` goes on from `position` after the answer.
    Raises StreamError: an `error` chunk's own, the server's refusal, or ConnectionLost once the
    retries are spent. Leaving it, closing it or being cancelled closes the connection at once and
    never cancels the turn; `cancel` does that.
    """

    def __init__(
        self,
        transport: AsyncTransport,
        make_machine: MakeMachine,
        *,
        session_id: str | None = None,
        position: int = 0,
        prepare: Callable[[], Awaitable[str]] | None = None,
        on_reconnect: OnReconnect | None = None,
    ) -> None:
        super().__init__(transport, on_reconnect)
        self._set_out(make_machine, session_id, position)
        self._prepare = prepare

    async def cancel(self) -> None:
        """Cancel the turn; the stream goes on to its `done`. One that was not started just ends."""
        call = self._cancel_call()
        if call is None:
            await self.aclose()
        else:
            await self._transport.call(call)

    async def _begin(self) -> SessionStreamMachine:
        session_id = self._session_id
        if self._machine is None and self._prepare is not None:
            session_id = await self._prepare()
        return self._start(session_id)
