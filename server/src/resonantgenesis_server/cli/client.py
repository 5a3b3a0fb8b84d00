"""A small synchronous client for the commands."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import httpx

from .answers import check, json_object, network_error
from .backoff import PATIENCE, BackOff, Notice, is_retryable, no_notice
from .errors import CliError, NetworkError
from .event_feed import END, EVENTS, TAIL_PATIENCE, EventTail, Replay, Wanted
from .stream import Opening, Place, Stream, session_path
from .target import Target, is_loopback
from .transfers import Transfers

#: Seconds for an answer that is no stream.
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)
_PAGE = 200
#: Seconds that a call which is safe to repeat is repeated for.
_CALL_PATIENCE = 10.0


class Client:
    """Calls of one server. Raises CliError, with what to do next, for whatever goes wrong."""

    def __init__(
        self, target: Target, *, patience: float = PATIENCE, notice: Notice = no_notice
    ) -> None:
        """`patience`: seconds that a stream tries to come back for; `notice` is told when."""
        self.url = target.url
        self._patience = patience
        self._notice = notice
        self._http = httpx.Client(
            base_url=target.url,
            headers={"Authorization": f"Bearer {target.key}"},
            timeout=_TIMEOUT,
            # A proxy is for the network; what runs on this machine is not behind it.
            trust_env=not is_loopback(target.url),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """The JSON object of an answer; empty where there is none."""
        asked = {name: value for name, value in (query or {}).items() if value is not None}
        try:
            response = self._http.request(method, path, json=body, params=asked, headers=headers)
        except httpx.HTTPError as error:
            raise network_error(self.url, error) from error
        check(response)
        return {} if response.status_code == 204 else json_object(response)

    def repeat(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """`call` for what is safe to repeat: again for a while, where that may help."""
        back_off = BackOff(min(self._patience, _CALL_PATIENCE), self._notice)
        while True:
            try:
                return self.call(method, path, body, headers=headers)
            except CliError as error:
                if not is_retryable(error):
                    raise
                back_off.wait(error, f"no answer from {self.url}, trying again")

    def pages(
        self,
        path: str,
        query: Mapping[str, Any],
        limit: int,
        see: Callable[[dict[str, Any]], None] = lambda _answer: None,
    ) -> Iterator[dict[str, Any]]:
        """At most `limit` items of a list, over as many pages as it takes; `see` is shown each."""
        cursor: str | None = None
        while limit > 0:
            page = {**query, "limit": min(limit, _PAGE), "cursor": cursor}
            answer = self.call("GET", path, query=page)
            see(answer)
            items: list[dict[str, Any]] = answer["data"]
            yield from items
            limit -= len(items)
            cursor = answer.get("next_cursor")
            if cursor is None:
                return

    def transfers(self) -> Transfers:
        """Files up and down."""
        return Transfers(self._http, self.url, self._patience, self._notice)

    def session(self, session_id: str) -> dict[str, Any]:
        return self.call("GET", session_path(session_id))

    def create_session(self, agent_id: str) -> str:
        """The id of a new session without a turn."""
        session_id: str = self.call("POST", "/v1/sessions", {"agent_id": agent_id})["session_id"]
        return session_id

    def execute(self, agent_id: str, goal: str, session_id: str | None = None) -> Stream:
        """A turn's chunks; the turn starts when the stream is first read."""
        body: dict[str, Any] = {"agent_id": agent_id, "goal": goal, "stream": True}
        if session_id is not None:
            body["session_id"] = session_id
        opening = Opening("/v1/sessions/execute", body, str(uuid.uuid4()))
        return Stream(self._http, opening, patience=self._patience, notice=self._notice)

    def join(self, place: Place) -> Stream:
        """A session's chunks from a place on."""
        return Stream(self._http, place, patience=self._patience, notice=self._notice)

    def cancel(self, session_id: str, turn: int | None = None) -> dict[str, Any]:
        """Cancel a turn, or all that run or wait."""
        body = {} if turn is None else {"turn": turn}
        return self.call("POST", f"{session_path(session_id)}/cancel", body)

    def cancel_by_key(self, idempotency_key: str) -> None:
        """Cancel the turn whose answer never came; nothing happens if it never started."""
        try:
            self.call("POST", "/v1/sessions/cancel", {"idempotency_key": idempotency_key})
        except CliError as error:
            if error.code != "NOT_FOUND":
                raise

    def tail(self, wanted: Wanted, since: str | None) -> EventTail:
        """Events from a place (a cursor or a time), else from now on.

        That it cannot be had at all is said at once; the place of "now" is taken here, so that a
        first connection which breaks loses nothing.
        """
        place = self._reached(wanted, since or END)
        return EventTail(
            self._http, wanted, since or place, patience=TAIL_PATIENCE, notice=self._notice
        )

    def replay(self, wanted: Wanted, since: str, until: str | None, limit: int | None) -> Replay:
        """Events of the past; what happens while they are read does not lengthen it."""
        end = until or self._reached(Wanted(), END)
        return Replay(
            lambda body: self.repeat("POST", f"{EVENTS}/replay", body), wanted, since, end, limit
        )

    def _reached(self, wanted: Wanted, since: str) -> str:
        """The cursor behind the first event since a place; the end's if there is none."""
        query = {**wanted.query(), "since": since, "limit": 1}
        place = self.call("GET", EVENTS, query=query).get("next_cursor")
        if not isinstance(place, str):
            raise NetworkError(f"{self.url} did not say where its events end; check --url")
        return place

    def publish(self, kind: str, data: Mapping[str, Any], idempotency_key: str) -> dict[str, Any]:
        """The event as it was written, once whatever happens to the calls."""
        headers = {"Idempotency-Key": idempotency_key}
        try:
            return self.repeat("POST", EVENTS, {"type": kind, "data": data}, headers)
        except NetworkError as error:
            raise NetworkError(
                f"{error.message}; if it was written, --idempotency-key {idempotency_key}"
                " does not write it again"
            ) from error
