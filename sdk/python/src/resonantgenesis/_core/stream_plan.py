"""The plan of a session's stream, and every request that it may need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .messages import POLL_LIMIT, POLL_WAIT, SSE, Request, segment
from .progress import ResumePoint


def execute_path(body: Mapping[str, Any]) -> str:
    """The path of an execute; without an agent the session's own runs."""
    session_id = body.get("session_id")
    if session_id is not None and body.get("agent_id") is None:
        return f"/v1/sessions/{segment(session_id)}/execute"
    return "/v1/sessions/execute"


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """An execute (`body` is its JSON, without `resume_from`) or, without body, a join.

    `resume_from` None: the server decides the start. `turn`: the join is for that turn alone.
    `recalled`: the stream was running before and is taken up again.
    """

    body: Mapping[str, Any] | None = None
    resume_point: ResumePoint = field(default_factory=ResumePoint)
    resume_from: int | None = None
    turn: int | None = None
    compact: bool = False
    follow: bool = False
    raise_on_error: bool = True
    recalled: bool = False

    @property
    def target(self) -> int | None:
        """The turn whose `done` ends the stream; None: the server says when it ends."""
        return self.turn if self.body is None else self.resume_point.turn

    @property
    def start(self) -> int | None:
        """The position before the first chunk that is due; None where only the server knows."""
        if self.resume_from is not None:
            return self.resume_from
        starts_session = self.body is not None and self.body.get("session_id") is None
        return 0 if starts_session else None

    def ends_with(self, raw: Mapping[str, Any]) -> bool:
        """Whether a chunk is the `done` of the requested turn."""
        target = self.target
        if raw.get("type") != "done" or target is None:
            return False
        turn = raw.get("turn")
        return not isinstance(turn, int) or turn >= target

    def open(self, last: int | None) -> Request:
        """The request that opens or reopens the stream behind `last`."""
        resume_point = self.resume_point
        if resume_point.session_id is None or (self.body is not None and resume_point.turn is None):
            return self._execute(last)
        params = self._place(last)
        if self.target is not None:
            params["turn"] = str(self.target)
        if self.compact:
            params["compact"] = "true"
        if self.follow:
            params["follow"] = "true"
        headers = SSE | self._epoch()
        return Request("GET", f"{self._session()}/stream", params, stream=True, headers=headers)

    def detached(self) -> Request:
        """The request that names the turn of an execute whose streamed answer never arrives."""
        body = {**(self.body or {}), "stream": False}
        headers = self._key() | {"Prefer": "respond-async"}
        return Request("POST", execute_path(body), body=body, headers=headers)

    def snapshot(self) -> Request:
        """The request for the session's snapshot."""
        return Request("GET", self._session())

    def poll(self, after: int, *, wait: bool) -> Request:
        """The request for the chunks after `after`; with `wait` the server waits for the first."""
        patience = POLL_WAIT if wait else 0
        params = {"after": str(after), "limit": str(POLL_LIMIT), "wait": str(patience)}
        if self.compact:
            params["compact"] = "true"
        path = f"{self._session()}/events"
        return Request("GET", path, params, headers=self._epoch(), patience=patience)

    def _execute(self, last: int | None) -> Request:
        body = {**(self.body or {}), "stream": True}
        if last:
            body["resume_from"] = last
        if self.compact:
            body["compact"] = True
        return Request(
            "POST", execute_path(body), body=body, headers=self._key() | SSE, stream=True
        )

    def _place(self, last: int | None) -> dict[str, str]:
        # Nothing received yet of a known turn: its own start is the place, not the session's.
        if last is None or (last == 0 and self.body is not None):
            return {}
        return {"resume_from": str(last)}

    def _session(self) -> str:
        return f"/v1/sessions/{segment(self.resume_point.session_id or '')}"

    def _epoch(self) -> dict[str, str]:
        # Another store refuses a position that is not its own, before it sends anything.
        epoch = self.resume_point.epoch
        return {"X-Log-Epoch": epoch} if epoch else {}

    def _key(self) -> dict[str, str]:
        key = self.resume_point.idempotency_key
        return {"Idempotency-Key": key} if key else {}
