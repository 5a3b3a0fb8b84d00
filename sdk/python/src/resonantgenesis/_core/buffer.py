"""From bytes or polled objects to chunks in order, each once."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from typing import Any

from ..errors import ConnectionLost, InvalidRequest
from .messages import error_from_chunk
from .progress import ChunkSequence, Verdict, position_of
from .sse import Frame, FrameTooLarge, SSEDecoder
from .stream_plan import StreamPlan

_EVENTS = frozenset({"message", "tool_call", "tool_result", "step", "error", "done"})


class StreamBuffer(ABC):
    """What was received and not yet handed on: `ready`, oldest first.

    `fresh` counts what came since `connected`; `complete`: nothing more is due. `feed` raises a
    StreamError where the connection is no good: retryable, if another one may be.
    """

    def __init__(self, max_event: int) -> None:
        self._max_event = max_event
        self._decoder = self._new_decoder()
        self.ready: deque[dict[str, Any]] = deque()
        self.fresh = 0
        self.complete = False

    @property
    def retry(self) -> float:
        """The reconnection time that the stream named, in seconds."""
        return self._decoder.retry or 0.0

    def connected(self) -> None:
        """A new connection: nothing of the old one's unfinished bytes counts."""
        self._decoder = self._new_decoder()
        self.fresh = 0

    def feed(self, data: bytes) -> None:
        """Takes what `data` completes."""
        try:
            frames = self._decoder.feed(data)
        except FrameTooLarge as error:
            raise InvalidRequest(str(error), code="PAYLOAD_TOO_LARGE") from error
        for frame in frames:
            if self.complete:
                return
            self._frame(frame)

    @abstractmethod
    def _frame(self, frame: Frame) -> None:
        """Takes one frame."""

    def _new_decoder(self) -> SSEDecoder:
        return SSEDecoder(max_line=self._max_event, max_event=self._max_event)


class ChunkBuffer(StreamBuffer):
    """Chunks of a session. `at_done`: the last one was a `done`; `complete`: it was the `done`
    that the plan waits for."""

    def __init__(self, plan: StreamPlan, max_event: int) -> None:
        super().__init__(max_event)
        self._plan = plan
        self._sequence = ChunkSequence(plan.start)
        self.at_done = False

    @property
    def last(self) -> int | None:
        """Everything up to here has been received; None: the start is not known yet."""
        return self._sequence.last

    def feed(self, data: bytes) -> None:
        """Takes the chunks that `data` completes."""
        try:
            super().feed(data)
        except InvalidRequest as error:
            error.session_id = self._plan.resume_point.session_id
            raise

    def begin(self, position: int) -> None:
        """The first chunk that is due stands right behind `position`."""
        self._sequence.last = position

    def take(self, raw: dict[str, Any], position: int) -> None:
        """Takes one chunk, unless it has been taken before. Raises ConnectionLost for a gap."""
        verdict = self._sequence.take(raw, position)
        if verdict is Verdict.GAP:
            raise self._lost(f"chunks before position {position} are missing")
        if verdict is Verdict.NEW:
            self.fresh += 1
            self.at_done = raw.get("type") == "done"
            self.complete = self._plan.ends_with(raw)
            self.ready.append(raw)

    def _frame(self, frame: Frame) -> None:
        raw = json_object(frame.data)
        if raw is None:
            if frame.event in _EVENTS:
                raise self._lost("garbled event")
            return
        position = position_of(raw, frame.id if frame.own_id else "")
        if position is None:
            self._aside(frame, raw)
            return
        raw["position"] = position
        raw.setdefault("type", "text" if frame.event == "message" else frame.event)
        self.take(raw, position)

    def _aside(self, frame: Frame, raw: Mapping[str, Any]) -> None:
        # No part of the log: the server's word about this connection, or something newer than us.
        if frame.event == "error":
            raise error_from_chunk(
                raw, session_id=self._plan.resume_point.session_id, position=self.last
            )

    def _lost(self, reason: str) -> ConnectionLost:
        return ConnectionLost(
            reason, session_id=self._plan.resume_point.session_id, position=self.last
        )


def json_object(text: str | bytes) -> dict[str, Any] | None:
    """The JSON object of `text`; None for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
