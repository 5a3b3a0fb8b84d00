"""Reading a session's stream, through cuts and restarts, each chunk once and in order."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from .answers import check, network_error
from .errors import CliError, NetworkError, from_server

Chunk = dict[str, Any]
#: Told in a person's words that the stream waits to come back.
Notice = Callable[[str], None]

#: Seconds without a chunk after which a broken stream is given up.
PATIENCE = 30.0
_FIRST_DELAY, _LAST_DELAY = 0.2, 3.0
#: Seconds of silence that mean a dead link, until the server has announced its heartbeat.
_SILENCE = 15.0
_RETRYABLE = frozenset({"UNAVAILABLE", "RATE_LIMITED"})


def no_notice(_: str) -> None:
    """For those who need not know."""


def session_path(session_id: str) -> str:
    return f"/v1/sessions/{quote(session_id, safe='')}"


@dataclass(frozen=True, slots=True)
class Opening:
    """An execute; the key makes it safe to repeat."""

    path: str
    body: Mapping[str, Any]
    idempotency_key: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where to join a session: after `resume_from`, else at the start of the current turn.

    `turn`: that turn, to its end. `follow`: stay for the turns to come.
    """

    session_id: str
    resume_from: int | None = None
    turn: int | None = None
    follow: bool = False


class Stream:
    """The chunks of a turn or a session, as they come.

    Iterating again after an interruption goes on behind the last chunk that was yielded.
    `session_id` and `turn` are None until the server has said them, `position` until a chunk came.
    """

    def __init__(
        self,
        http: httpx.Client,
        start: Opening | Place,
        *,
        patience: float = PATIENCE,
        notice: Notice = no_notice,
    ) -> None:
        self._http = http
        self._opening = start if isinstance(start, Opening) else None
        place = start if isinstance(start, Place) else None
        self.session_id: str | None = place.session_id if place else None
        self.position: int | None = place.resume_from if place else None
        self.turn: int | None = place.turn if place else None
        self._follow = place is not None and place.follow
        self._one_turn = place is None or place.turn is not None
        self._patience = patience
        self._notice = notice
        self._epoch: str | None = None
        self._silence = _SILENCE
        self._at_done = False
        self._ended = False

    @property
    def idempotency_key(self) -> str | None:
        """Names the turn while nothing else does."""
        return None if self._opening is None else self._opening.idempotency_key

    def __iter__(self) -> Iterator[Chunk]:
        """Raises CliError when it cannot go on: refused, or away for longer than the patience."""
        attempts = 0
        since = time.monotonic()
        while not self._ended:
            try:
                for chunk in self._connection():
                    attempts, since = 0, time.monotonic()
                    yield chunk
                problem: CliError = NetworkError("the stream broke off; try again")
            except httpx.HTTPError as error:
                problem = network_error(str(self._http.base_url).rstrip("/"), error)
            except CliError as error:
                if not isinstance(error, NetworkError) and error.code not in _RETRYABLE:
                    raise
                problem = error
            if self._ended:
                return
            attempts += 1
            delay = _delay(attempts, problem.retry_after)
            if time.monotonic() - since + delay > self._patience:
                raise problem
            if attempts > 1:  # the first comes at once and is mostly all it takes
                self._notice(f"connection lost, trying again from position {self.position or 0}")
            time.sleep(delay)

    def _connection(self) -> Iterator[Chunk]:
        """The chunks of one connection; sets `_ended` when nothing more is to come."""
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
            for event, is_entry, data in _frames(response.iter_lines()):
                if not is_entry:
                    raise _stream_error(event, data)
                chunk, position = _parse(data)
                if self.position is not None and position <= self.position:
                    continue
                self.position = position
                self._at_done = chunk["type"] == "done"
                self._ended = self._at_done and self._one_turn
                yield chunk
                if self._ended:
                    return
        self._ended = self._at_done and not self._follow

    def _request(self) -> AbstractContextManager[httpx.Response]:
        timeout = httpx.Timeout(10.0, read=self._silence)
        headers = {"Accept": "text/event-stream"}
        if self.session_id is None and self._opening is not None:
            headers["Idempotency-Key"] = self._opening.idempotency_key
            return self._http.stream(
                "POST",
                self._opening.path,
                json=self._opening.body,
                headers=headers,
                timeout=timeout,
            )
        if self._epoch is not None:
            headers["X-Log-Epoch"] = self._epoch
        asked: dict[str, str | int] = {}
        if self.position is not None:
            asked["resume_from"] = self.position
        if self._one_turn and self.turn is not None:
            asked["turn"] = self.turn
        if self._follow:
            asked["follow"] = "true"
        path = f"{session_path(self.session_id or '')}/stream"
        return self._http.stream("GET", path, params=asked, headers=headers, timeout=timeout)

    def _take_headers(self, headers: httpx.Headers) -> None:
        self.session_id = headers.get("X-Session-Id", self.session_id)
        self._epoch = headers.get("X-Log-Epoch", self._epoch)
        turn, heartbeat = headers.get("X-Turn", ""), headers.get("X-Heartbeat-Seconds", "")
        if turn.isdecimal() and self._one_turn:
            self.turn = int(turn)
        if heartbeat.isdecimal():
            self._silence = max(_SILENCE, 2.5 * int(heartbeat))


def _frames(lines: Iterable[str]) -> Iterator[tuple[str, bool, str]]:
    """(event, whether it is an entry of the log, data) of every frame that has data."""
    event, is_entry, data = "message", False, ""
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield event, is_entry, data
            event, is_entry, data = "message", False, ""
        elif name == "event":
            event = value
        elif name == "id":
            is_entry = True
        elif name == "data":
            data += value


def _parse(data: str) -> tuple[Chunk, int]:
    """A chunk and its position. Raises NetworkError for what is none."""
    try:
        chunk = json.loads(data)
        if isinstance(chunk["type"], str):
            return chunk, int(chunk["position"])
    except (ValueError, KeyError, TypeError):
        pass
    raise NetworkError("the server sent what is no chunk; check --url")


def _stream_error(event: str, data: str) -> CliError:
    try:
        body = json.loads(data) if event == "error" else None
    except ValueError:
        body = None
    if not isinstance(body, dict):
        return NetworkError(f"the server sent a frame {event!r} that is no chunk; check --url")
    retry_after = body.get("retry_after")
    return from_server(
        str(body.get("code", "INTERNAL")), str(body.get("message", "")), retry_after=retry_after
    )


def _delay(attempt: int, retry_after: float | None) -> float:
    """Exponential with full jitter; never less than the server asked for."""
    longest = min(_LAST_DELAY, _FIRST_DELAY * 2.0 ** (attempt - 1))
    return max(random.uniform(0, longest), retry_after or 0.0)  # noqa: S311 - spreads load
