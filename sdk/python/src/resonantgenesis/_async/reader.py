"""The asynchronous shell around a machine: an iterator that outlives its connections."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self, TypeVar

from .._core.actions import Emit, Fetch, Finish, Lost, Open, Outcome, Read, Wait, Waited
from .._core.reconnect import LinkMachine
from .._http.reader import Reader
from .transport import AsyncConnection, AsyncIO

T = TypeVar("T")


class AsyncReader(Reader[T], ABC):
    """Connects when first iterated, or entered with `async with`."""

    def __init__(self, io: AsyncIO) -> None:
        super().__init__()
        self._io = io
        self._connection: AsyncConnection | None = None

    def __aiter__(self) -> AsyncIterator[T]:
        """For one loop, which closes the stream however it ends; see `_items`."""
        self._enter_loop()
        return self._items()

    async def _items(self) -> AsyncIterator[T]:
        # An iterator of the loop's own, which ends with the loop even if the stream has a name:
        # at `break`, `return` or an exception asyncio runs what stands under `finally`.
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
        """Connects, so that the place is known."""
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
        """Closes the connection, and nothing else. Harmless if repeated."""
        self._abandon()
        await self._disconnect()

    @abstractmethod
    async def _begin(self) -> LinkMachine[T]:
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

    async def _perform(self, action: Open | Read | Fetch | Wait) -> Outcome:
        if isinstance(action, Read) and self._connection is not None:
            return await self._connection.read(action.timeout)
        await self._disconnect()
        if isinstance(action, Open):
            outcome, self._connection = await self._io.open(action.request)
            return outcome
        if isinstance(action, Fetch):
            return await self._io.fetch(action.request)
        if isinstance(action, Wait):
            self._note(action)
            await asyncio.sleep(action.seconds)
            return Waited()
        return Lost("closed")

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()

    def __del__(self) -> None:
        # Left in mid-stream without a loop, or with the event loop: the transport closes itself
        # when it is collected, the mark must say so.
        self._abandon()
