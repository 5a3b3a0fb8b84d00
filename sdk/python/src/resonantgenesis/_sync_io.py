"""The synchronous transport: does what the machines ask, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import httpx

from ._actions import (
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
Content = Callable[[], Iterator[bytes]]


class SyncIO:
    """Connections of one client; threads may share it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._client = httpx.Client(**client_options(settings))

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
            return outcome_of(error)

    def open(self, request: Request) -> tuple[Outcome, SyncConnection | None]:
        """Sends, and leaves the stream open that was asked for."""
        try:
            response = self._send(request)
            headers = headers_of(response)
            if is_opened(request, response.status_code, headers):
                return Opened(headers, response.status_code), SyncConnection(response)
            return self._whole(response, request), None
        except httpx.RequestError as error:
            return outcome_of(error), None

    def close(self) -> None:
        """Closes all connections."""
        self._client.close()

    def _send(self, request: Request, content: Content | None = None) -> httpx.Response:
        if self._client.is_closed:
            raise RuntimeError("the client is closed")
        body = request.content() if content is None else content()
        built = self._client.build_request(**request_parts(request, self.settings), content=body)
        return self._client.send(built, stream=True)

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


class SyncConnection:
    """An open event stream."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._blocks: Iterator[bytes] | None = None

    def read(self, timeout: float) -> Received | Ended | Lost | Silent:
        """The next bytes; the first call's `timeout` holds for all."""
        if self._blocks is None:
            set_silence(self._response, timeout)
            self._blocks = self._response.iter_bytes()
        try:
            block = next(self._blocks, None)
        except httpx.RequestError as error:
            return outcome_of(error)
        return Ended() if block is None else Received(block)

    def close(self) -> None:
        """Gives the connection up."""
        self._response.close()
