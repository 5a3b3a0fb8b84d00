"""A session stream's life as a machine without I/O.

A chunk is passed on once, in order; anything missing means reading again from the last good
place. The rules of connections are `reconnect`'s.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping

from ..errors import ConnectionLost, PositionExpired, StreamError
from ..models import Chunk
from .actions import Action, Emit
from .buffer import ChunkBuffer
from .messages import Answer, Request, error_from_chunk
from .polling import Poller
from .progress import ResumePoint
from .reconnect import Reconnector
from .settings import Settings
from .stream_plan import StreamPlan


class SessionStreamMachine(Reconnector[Chunk]):
    """Chunks of one session."""

    def __init__(
        self,
        plan: StreamPlan,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._plan = plan
        self._buffer = ChunkBuffer(plan, settings.max_event)
        self._poller = Poller(plan, self._buffer, clock)
        super().__init__(settings, self._buffer, clock=clock, rng=rng, begun=plan.recalled)

    @property
    def resume_point(self) -> ResumePoint:
        """Where the stream stands, as its caller has seen it."""
        return self._plan.resume_point

    @property
    def opened(self) -> bool:
        """Whether the session is named, and chunks are there or waited for."""
        return super().opened or (self._polling and self.resume_point.session_id is not None)

    @property
    def place(self) -> int | None:
        """The position up to which everything has been received; None before the first chunk."""
        return self._buffer.last

    def abandon(self) -> None:
        """Nobody reads any more; the turn goes on, and the resume point says where it was left."""
        self.resume_point.broken = self._started and not self.resume_point.settled
        super().abandon()

    def _deliver(self) -> Action[Chunk]:
        raw, resume_point = self._buffer.ready.popleft(), self.resume_point
        resume_point.position = raw["position"]
        if raw.get("type") == "error" and self._plan.raise_on_error:
            # The turn has failed for good: only its `done` would follow.
            self._buffer.ready.clear()
            error = error_from_chunk(
                raw, session_id=resume_point.session_id, position=resume_point.position
            )
            self._action = self._finish(error, settled=True)
            return self._action
        resume_point.settled = resume_point.settled or self._plan.ends_with(raw)
        return Emit(Chunk(raw))

    def _stream_request(self) -> Request:
        return self._plan.open(self._buffer.last)

    def _poll_request(self) -> Request:
        return self._poller.request()

    def _meet(self, headers: Mapping[str, str]) -> None:
        """Learns session, turn and epoch; another epoch than before raises PositionExpired."""
        resume_point = self.resume_point
        resume_point.session_id = resume_point.session_id or headers.get("x-session-id")
        turn = headers.get("x-turn", "")
        if (
            turn.isascii()
            and turn.isdigit()
            and (self._plan.body is None or resume_point.turn is None)
        ):
            resume_point.turn = int(turn)
        epoch = headers.get("x-log-epoch")
        if epoch and resume_point.epoch and epoch != resume_point.epoch:
            resume_point.settled = True
            raise PositionExpired(
                "the server's store was replaced, positions from before mean nothing",
                details={"epoch": epoch},
                session_id=resume_point.session_id,
                position=resume_point.position,
            )
        resume_point.epoch = epoch or resume_point.epoch

    def _ended(self) -> Action[Chunk]:
        if self._buffer.at_done and self._plan.target is None and not self._plan.follow:
            # The server ends a join when nothing is running or queued; one that drains ends it
            # earlier. Asking once more tells which (204), and costs one request.
            return self._connect() if self._buffer.fresh else self._finish(None, settled=True)
        raise self._lost("the stream ended before its turn did")

    def _polled(self, answer: Answer) -> Action[Chunk] | None:
        self._meet(answer.headers)
        return self._poller.answer(answer)

    def _refused(self, answer: Answer) -> Action[Chunk]:
        if answer.status == 204:
            return self._finish(None, settled=True)
        return super()._refused(answer)

    def _locate(self, error: StreamError) -> None:
        received = isinstance(error, ConnectionLost)
        error.session_id = self.resume_point.session_id
        error.position = self._buffer.last if received else self.resume_point.position

    def _finish(self, error: StreamError | None, *, settled: bool = False) -> Action[Chunk]:
        self.resume_point.settled = self.resume_point.settled or settled
        self.resume_point.broken = not self.resume_point.settled
        return super()._finish(error)
