"""The synchronous transport: does what the machines ask, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import httpx

from .._core.actions import (
    Answered,
    Ended,
    Fetch,
    Finish,
    Lost,
    Opened,
    Outcome,
    Received,
    Silent,
    Waited,
)
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
Content = Callable[[], Iterator[bytes]]


class _Links:
    """Connections of one process."""

    def __init__(self, settings: Settings) -> None:
        self.client = httpx.Client(**client_options(settings))
        self.reach = Reachability(settings)


class SyncTransport:
    """Connections of one client; threads and forked processes may share it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._closed = False
        self._links = PerProcess(lambda: _Links(self.settings))

    def call(self, call: Call[T]) -> T:
        """Runs a call to its result. Raises StreamError."""
        return self.run(CallMachine(call, self.settings))

    def run(self, machine: CallMachine[T], content: Content | None = None) -> T:
        """Runs a machine to its result; `content` makes the body of each attempt, if it is not
        the request's own. Raises StreamError, and what `content` raises."""
        while True:
            action = machine.next()
            if isinstance(action, Finish):
                if action.error is not None:
                    raise action.error
                return machine.result()
            if isinstance(action, Fetch):
                machine.give(self.fetch(action.request, content))
            else:
                time.sleep(action.seconds)
                machine.give(Waited())

    def fetch(self, request: Request, content: Content | None = None) -> Answered | Lost | Silent:
        """Sends, and reads the whole answer."""
        try:
            return self._whole(self._send(request, content), request)
        except httpx.RequestError as error:
            return self._failed(error)

    def open(self, request: Request) -> tuple[Outcome, SyncConnection | None]:
        """Sends, and leaves the stream open that was asked for."""
        try:
            response = self._send(request)
            headers = headers_of(response)
            if is_opened(request, response.status_code, headers):
                return Opened(headers, response.status_code), SyncConnection(response, self._failed)
            return self._whole(response, request), None
        except httpx.RequestError as error:
            return self._failed(error), None

    def close(self) -> None:
        """Closes all connections of this process."""
        self._closed = True
        if self._links.made:
            self._links.get().client.close()

    def _send(self, request: Request, content: Content | None = None) -> httpx.Response:
        if self._closed:
            raise RuntimeError("the client is closed")
        links = self._links.get()
        body = request.content() if content is None else content()
        built = links.client.build_request(**request_parts(request, self.settings), content=body)
        response = links.client.send(built, stream=True)
        links.reach.found()
        return response

    def _failed(self, error: httpx.RequestError) -> Lost | Silent:
        return outcome_of(error, self.settings, self._links.get().reach)

    def _whole(self, response: httpx.Response, request: Request) -> Answered | Lost | Silent:
        body = BodyCollector(response, self.settings.timeouts.answer + request.patience)
        try:
            for block in response.iter_bytes():
                problem = body.add(block)
                if problem is not None:
                    return problem
        finally:
            response.close()
        return body.done()


class SyncConnection(Owned):
    """An open event stream."""

    def __init__(
        self, response: httpx.Response, failed: Callable[[httpx.RequestError], Lost | Silent]
    ) -> None:
        super().__init__()
        self._response = response
        self._failed = failed
        self._ended = False
        self._blocks: Iterator[bytes] | None = None

    def read(self, timeout: float) -> Received | Ended | Lost | Silent:
        """The next bytes; the first call's `timeout` holds for all."""
        if self.inherited:
            return Lost("the connection belongs to the process that this one was forked from")
        if self._blocks is None:
            set_silence(self._response, timeout)
            self._blocks = self._response.iter_bytes()
        try:
            block = next(self._blocks, None)
        except httpx.RequestError as error:
            return self._failed(error)
        self._ended = block is None
        return Ended() if block is None else Received(block)

    def close(self) -> None:
        """Gives the connection up."""
        if self.inherited:
            leave(self._response, self._blocks)
            return
        if not self._ended:
            hang_up(self._response)
        self._response.close()
