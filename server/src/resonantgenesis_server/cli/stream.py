"""Reading a session's stream, through cuts and restarts, each chunk once and in order."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from .backoff import PATIENCE, Notice, no_notice
from .errors import NetworkError
from .link import Frame, Link, aside, json_data

Chunk = dict[str, Any]


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


class Stream(Link[Chunk]):
    """The chunks of a turn or a session, as they come.

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
        super().__init__(http, patience=patience, notice=notice)
        self._opening = start if isinstance(start, Opening) else None
        place = start if isinstance(start, Place) else None
        self.session_id: str | None = place.session_id if place else None
        self.position: int | None = place.resume_from if place else None
        self.turn: int | None = place.turn if place else None
        self._follow = place is not None and place.follow
        self._one_turn = place is None or place.turn is not None
        self._epoch: str | None = None
        self._at_done = False

    @property
    def idempotency_key(self) -> str | None:
        """Names the turn while nothing else does."""
        return None if self._opening is None else self._opening.idempotency_key

    def _place(self) -> str:
        return f"position {self.position or 0}"

    def _take(self, frame: Frame) -> Chunk | None:
        if not frame.data:
            return None
        if frame.id is None:
            raise aside(frame)
        chunk = json_data(frame)
        position = chunk.get("position")
        if not isinstance(chunk.get("type"), str) or not isinstance(position, int):
            raise NetworkError("the server sent what is no chunk; check --url")
        if self.position is not None and position <= self.position:
            return None
        self.position = position
        self._at_done = chunk["type"] == "done"
        self._ended = self._at_done and self._one_turn
        return chunk

    def _is_complete(self) -> bool:
        return self._at_done and not self._follow

    def _request(self) -> AbstractContextManager[httpx.Response]:
        headers = {"Accept": "text/event-stream"}
        if self.session_id is None and self._opening is not None:
            headers["Idempotency-Key"] = self._opening.idempotency_key
            return self._http.stream(
                "POST",
                self._opening.path,
                json=self._opening.body,
                headers=headers,
                timeout=self._timeout(),
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
        return self._http.stream(
            "GET", path, params=asked, headers=headers, timeout=self._timeout()
        )

    def _take_headers(self, headers: httpx.Headers) -> None:
        super()._take_headers(headers)
        self.session_id = headers.get("X-Session-Id", self.session_id)
        self._epoch = headers.get("X-Log-Epoch", self._epoch)
        turn = headers.get("X-Turn", "")
        if turn.isdecimal() and self._one_turn:
            self.turn = int(turn)
