"""Following a stream of server-sent events through cuts and restarts, from a place on."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import httpx

from .answers import check, network_error
from .backoff import BackOff, Notice, is_retryable
from .errors import CliError, NetworkError, from_server

#: Seconds of silence that mean a dead link, until the server has announced its heartbeat.
_SILENCE = 15.0

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Frame:
    """A block of the stream; one without data is a heartbeat."""

    event: str
    id: str | None
    data: str


class Link(ABC, Generic[Item]):
    """What a stream tells, in order and each once, over as many connections as it takes.

    Iterating again after an interruption goes on behind the last item that was yielded. A
    subclass says what to ask for, what a frame means and where the stream is.
    """

    def __init__(self, http: httpx.Client, *, patience: float, notice: Notice) -> None:
        self._http = http
        self._back_off = BackOff(patience, notice)
        self._silence = _SILENCE
        self._ended = False

    def __iter__(self) -> Iterator[Item]:
        """Raises CliError when it cannot go on: refused, or away for longer than the patience."""
        while not self._ended:
            try:
                yield from self._connection()
                problem: CliError = NetworkError("the stream broke off; try again")
            except httpx.HTTPError as error:
                problem = network_error(str(self._http.base_url).rstrip("/"), error)
            except CliError as error:
                if not is_retryable(error):
                    raise
                problem = error
            if not self._ended:
                self._back_off.wait(problem, f"connection lost, trying again from {self._place()}")

    def _connection(self) -> Iterator[Item]:
        """The items of one connection."""
        with self._request() as response:
            if response.status_code == 204:
                self._ended = True
                return
            if not response.is_success:
                response.read()
            check(response)
            if response.headers.get("Content-Type", "").partition(";")[0] != "text/event-stream":
                raise NetworkError(f"{response.url.host} sent no stream; check --url")
            self._take_headers(response.headers)
            for number, frame in enumerate(_frames(response.iter_lines())):
                item = self._take(frame)
                # A server that goes away still opens a stream: its first block proves nothing.
                if item is not None or (number and not frame.data):
                    self._back_off.worked()
                if item is not None:
                    yield item
                if self._ended:
                    return
        self._ended = self._is_complete()

    @abstractmethod
    def _request(self) -> AbstractContextManager[httpx.Response]:
        """Ask for what follows the place reached."""

    @abstractmethod
    def _take(self, frame: Frame) -> Item | None:
        """What a frame tells, if anything new; moves the place. Raises CliError."""

    @abstractmethod
    def _place(self) -> str:
        """The place reached, in a person's words."""

    @abstractmethod
    def _is_complete(self) -> bool:
        """Whether nothing more comes when a connection ends without an error."""

    def _timeout(self) -> httpx.Timeout:
        return httpx.Timeout(10.0, read=self._silence)

    def _take_headers(self, headers: httpx.Headers) -> None:
        heartbeat = headers.get("X-Heartbeat-Seconds", "")
        if heartbeat.isdecimal():
            self._silence = max(_SILENCE, 2.5 * int(heartbeat))


def json_data(frame: Frame) -> dict[str, Any]:
    """The JSON object of a frame. Raises NetworkError for what is none."""
    try:
        value = json.loads(frame.data)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise NetworkError(f"the server sent a frame {frame.event!r} without JSON; check --url")
    return value


def aside(frame: Frame) -> CliError:
    """The error that a frame outside the log stands for."""
    body = json_data(frame)
    if frame.event != "error":
        return NetworkError(f"the server sent an unknown frame {frame.event!r}; check --url")
    retry_after, details = body.get("retry_after"), body.get("details")
    return from_server(
        str(body.get("code", "INTERNAL")),
        str(body.get("message", "")),
        retry_after=retry_after if isinstance(retry_after, int | float) else None,
        details=details if isinstance(details, dict) else None,
    )


def _frames(lines: Iterable[str]) -> Iterator[Frame]:
    event, place, data = "message", None, ""
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            yield Frame(event, place, data)
            event, place, data = "message", None, ""
        elif name == "event":
            event = value
        elif name == "id":
            place = value
        elif name == "data":
            data += value
