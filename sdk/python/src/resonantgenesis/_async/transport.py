"""The asynchronous transport: does what the machines ask, and nothing else."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import TypeVar

import httpx

from .._core.actions import Answered, Ended, Fetch, Finish, Lost, Opened, Outcome, Received, Silent
from .._core.actions import Waited as WaitedOutcome
from .._core.calls import Call, CallMachine
from .._core.messages import Request, is_opened
from .._core.settings import Settings
from .._http.adapter import (
    BodyCollector,
    client_options,
    hang_up,
    headers_of,
    outcome_of,
    request_parts,
    set_silence,
)
from .._process.fork import Owned, PerProcess, leave
from .._process.reachability import Reachability

T = TypeVar("T")
#: Makes the body of one attempt.
Content = Callable[[], AsyncIterator[bytes]]

#: Seconds that the end of a finished stream is waited for.
LAST_BYTES = 0.1


class _Links:
    """Connections of one process, pooled per event loop: a module's client outlives its loops."""

    def __init__(self, settings: Settings) -> None:
        self.reach = Reachability(settings)
        self.clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = (
            weakref.WeakKeyDictionary()
        )
        self._options = client_options(settings)

    def client(self) -> httpx.AsyncClient:
        """Of the running loop."""
        loop = asyncio.get_running_loop()
        client = self.clients.get(loop)
        if client is None:
            client = self.clients[loop] = httpx.AsyncClient(**self._options)
        return client


class AsyncTransport:
    """Connections of one client; loops and forked processes may share it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._closed = False
        self._links = PerProcess(lambda: _Links(self.settings))

    @property
    def reach(self) -> Reachability:
        """Whether the server can be reached from here."""
        return self._links.get().reach

    async def call(self, call: Call[T]) -> T:
        """Runs a call to its result. Raises StreamError."""
        return await self.run(CallMachine(call, self.settings))

    async def run(self, machine: CallMachine[T], content: Content | None = None) -> T:
        """Runs a machine to its result; `content` makes the body of each attempt, if it is not
        the request's own. Raises StreamError, and what `content` raises."""
        while True:
            action = machine.next()
            if isinstance(action, Finish):
                if action.error is not None:
                    raise action.error
                return machine.result()
            if isinstance(action, Fetch):
                machine.give(await self.fetch(action.request, content))
            else:
                await asyncio.sleep(action.seconds)
                machine.give(WaitedOutcome())

    async def fetch(
        self, request: Request, content: Content | None = None
    ) -> Answered | Lost | Silent:
        """Sends, and reads the whole answer."""
        try:
            response = await self._send(request, content)
            return await self._whole(response, request)
        except httpx.RequestError as error:
            return self._failed(error)

    async def open(self, request: Request) -> tuple[Outcome, AsyncConnection | None]:
        """Sends, and leaves the stream open that was asked for."""
        try:
            response = await self._send(request)
            headers = headers_of(response)
            if is_opened(request, response.status_code, headers):
                return Opened(headers, response.status_code), AsyncConnection(
                    response, self._failed
                )
            return await self._whole(response, request), None
        except httpx.RequestError as error:
            return self._failed(error), None

    async def aclose(self) -> None:
        """Closes this loop's connections; those of ended loops are gone already."""
        self._closed = True
        if not self._links.made:
            return
        client = self._links.get().clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    async def _send(self, request: Request, content: Content | None = None) -> httpx.Response:
        if self._closed:
            raise RuntimeError("the client is closed")
        links = self._links.get()
        client = links.client()
        body = request.content() if content is None else content()
        built = client.build_request(**request_parts(request, self.settings), content=body)
        response = await client.send(built, stream=True)
        links.reach.found()
        return response

    def _failed(self, error: httpx.RequestError) -> Lost | Silent:
        return outcome_of(error, self.settings, self.reach)

    async def _whole(self, response: httpx.Response, request: Request) -> Answered | Lost | Silent:
        body = BodyCollector(response, self.settings.timeouts.answer + request.patience)
        try:
            async for block in response.aiter_bytes():
                problem = body.add(block)
                if problem is not None:
                    return problem
        finally:
            await response.aclose()
        return body.done()


class AsyncConnection(Owned):
    """An open event stream."""

    def __init__(
        self, response: httpx.Response, failed: Callable[[httpx.RequestError], Lost | Silent]
    ) -> None:
        super().__init__()
        self._response = response
        self._failed = failed
        self._ended = False
        self._blocks: AsyncIterator[bytes] | None = None

    async def read(self, timeout: float) -> Received | Ended | Lost | Silent:
        """The next bytes; the first call's `timeout` holds for all."""
        if self.inherited:
            return Lost("the connection belongs to the process that this one was forked from")
        if self._blocks is None:
            set_silence(self._response, timeout)
            self._blocks = self._response.aiter_bytes()
        try:
            return Received(await anext(self._blocks))
        except StopAsyncIteration:
            self._ended = True
            return Ended()
        except httpx.RequestError as error:
            return self._failed(error)
        except httpx.StreamError:
            # Closed by another task while this one was about to read.
            return Lost("closed")

    async def finish(self) -> None:
        """Reads the rest of a stream whose last chunk has come, so that others can use the line.

        The end follows the last chunk at once; what takes longer is not worth waiting for.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_BYTES):
                while isinstance(await self.read(LAST_BYTES), Received):
                    continue
        await self.aclose()

    async def aclose(self) -> None:
        """Gives the connection up."""
        if self.inherited:
            leave(self._response, self._blocks)
            return
        if not self._ended:
            hang_up(self._response)
        await self._response.aclose()
