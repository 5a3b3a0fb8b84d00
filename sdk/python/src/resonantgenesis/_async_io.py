"""The asynchronous transport: does what the machines ask, and nothing else."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import TypeVar

import httpx

from ._actions import Answered, Ended, Fetch, Finish, Lost, Opened, Outcome, Received, Silent
from ._actions import Waited as WaitedOutcome
from ._calls import Call, CallMachine
from ._http import (
    BodyCollector,
    client_options,
    headers_of,
    outcome_of,
    request_parts,
    set_silence,
)
from ._settings import Settings
from ._wire import Request, is_opened

T = TypeVar("T")
#: Makes the body of one attempt.
Content = Callable[[], AsyncIterator[bytes]]

#: Seconds that the end of a finished stream is waited for.
LAST_BYTES = 0.1


class AsyncIO:
    """Connections of one client, pooled per event loop: a module's client outlives its loops."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._options = client_options(settings)
        self._closed = False
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = (
            weakref.WeakKeyDictionary()
        )

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
            return outcome_of(error)

    async def open(self, request: Request) -> tuple[Outcome, AsyncConnection | None]:
        """Sends, and leaves the stream open that was asked for."""
        try:
            response = await self._send(request)
            headers = headers_of(response)
            if is_opened(request, response.status_code, headers):
                return Opened(headers, response.status_code), AsyncConnection(response)
            return await self._whole(response, request), None
        except httpx.RequestError as error:
            return outcome_of(error), None

    async def aclose(self) -> None:
        """Closes this loop's connections; those of ended loops are gone already."""
        self._closed = True
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    async def _send(self, request: Request, content: Content | None = None) -> httpx.Response:
        client = self._client()
        body = request.content() if content is None else content()
        built = client.build_request(**request_parts(request, self.settings), content=body)
        return await client.send(built, stream=True)

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

    def _client(self) -> httpx.AsyncClient:
        if self._closed:
            raise RuntimeError("the client is closed")
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = httpx.AsyncClient(**self._options)
        return client


class AsyncConnection:
    """An open event stream."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._blocks: AsyncIterator[bytes] | None = None

    async def read(self, timeout: float) -> Received | Ended | Lost | Silent:
        """The next bytes; the first call's `timeout` holds for all."""
        if self._blocks is None:
            set_silence(self._response, timeout)
            self._blocks = self._response.aiter_bytes()
        try:
            return Received(await anext(self._blocks))
        except StopAsyncIteration:
            return Ended()
        except httpx.RequestError as error:
            return outcome_of(error)
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
        await self._response.aclose()
