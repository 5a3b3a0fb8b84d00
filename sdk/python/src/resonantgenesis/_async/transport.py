"""The asynchronous transport: does what the machines ask, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import httpx

from .._core.actions import (
    Answered,
    Ended,
    Finish,
    Lost,
    Opened,
    Outcome,
    Received,
    Silent,
    Wait,
    Waited,
)
from .._core.call_machine import CallMachine
from .._core.messages import Call, Request, is_opened
from .._core.retry import OnReconnect, ReconnectNotifier
from .._core.settings import Settings
from .._http.adapter import (
    BodyCollector,
    hang_up,
    headers_of,
    outcome_of,
    request_parts,
    set_silence,
)
from .._http.async_io import AsyncConnections, read_rest, sleep
from .._process.fork import Owned, PerProcess, leave
from .._process.reachability import Reachability

T = TypeVar("T")
#: Makes the body of one attempt.
MakeBody = Callable[[], AsyncIterator[bytes]]


class AsyncTransport:
    """The connections of one client, which event loops, threads and forked processes may share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._closed = False
        self._connections = PerProcess(lambda: AsyncConnections(self.settings))

    @property
    def reach(self) -> Reachability:
        """Whether the server can be reached from this process."""
        return self._connections.get().reach

    async def call(self, call: Call[T], on_reconnect: OnReconnect | None = None) -> T:
        """Run a call to its result. Raises StreamError, and what `on_reconnect` raises."""
        return await self.run(
            CallMachine(call, self.settings), notifier=ReconnectNotifier(on_reconnect)
        )

    async def run(
        self,
        machine: CallMachine[T],
        make_body: MakeBody | None = None,
        notifier: ReconnectNotifier | None = None,
    ) -> T:
        """Run a machine to its result.

        `make_body` makes the body of each attempt, if the request has none of its own; `notifier`
        is told of failed attempts. Raises StreamError, and what either of them raises.
        """
        while True:
            action = machine.next()
            if isinstance(action, Finish):
                if action.error is not None:
                    raise action.error
                if notifier is not None:
                    notifier.connected()
                return machine.result()
            if isinstance(action, Wait):
                if notifier is not None:
                    notifier.waiting(action)
                await sleep(action.seconds)
                machine.give(Waited())
            else:
                machine.give(await self.fetch(action.request, make_body))

    async def fetch(
        self, request: Request, make_body: MakeBody | None = None
    ) -> Answered | Lost | Silent:
        """Send a request and read its whole answer."""
        try:
            return await self._whole(await self._send(request, make_body), request)
        except httpx.RequestError as error:
            return self._failed(error)

    async def open(self, request: Request) -> tuple[Outcome, AsyncConnection | None]:
        """Send a request and leave the stream open that it asks for; any other answer is read."""
        try:
            response = await self._send(request)
            headers = headers_of(response)
            if is_opened(request, response.status_code, headers):
                opened = Opened(headers, response.status_code)
                return opened, AsyncConnection(response, self._failed)
            return await self._whole(response, request), None
        except httpx.RequestError as error:
            return self._failed(error), None

    async def aclose(self) -> None:
        """Close the connections."""
        self._closed = True
        if self._connections.made:
            await self._connections.get().aclose()

    async def _send(self, request: Request, make_body: MakeBody | None = None) -> httpx.Response:
        if self._closed:
            raise RuntimeError("the client is closed")
        connections = self._connections.get()
        client = connections.client()
        body = request.content() if make_body is None else make_body()
        built = client.build_request(**request_parts(request, self.settings), content=body)
        response = await client.send(built, stream=True)
        connections.reach.found()
        return response

    def _failed(self, error: httpx.RequestError) -> Lost | Silent:
        outcome = outcome_of(error, self.settings)
        if isinstance(outcome, Lost) and not outcome.reached:
            self.reach.lost(outcome.reason)
        return outcome

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
    """An open event stream, or the content of a file on its way."""

    def __init__(
        self, response: httpx.Response, failed: Callable[[httpx.RequestError], Lost | Silent]
    ) -> None:
        super().__init__()
        self._response = response
        self._failed = failed
        self._ended = False
        self._blocks: AsyncIterator[bytes] | None = None

    async def read(self, timeout: float) -> Received | Ended | Lost | Silent:
        """Read the next bytes. The first call's `timeout`, in seconds, holds for all."""
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
            # Closed by another task or thread while this one was about to read.
            return Lost("closed")

    async def finish(self) -> None:
        """Close a stream whose last chunk has come, and keep the connection if it ends in time."""
        await read_rest(self.read)
        await self.aclose()

    async def aclose(self) -> None:
        """Give the connection up."""
        if self.inherited:
            leave(self._response, self._blocks)
            return
        if not self._ended:
            hang_up(self._response)
        await self._response.aclose()
