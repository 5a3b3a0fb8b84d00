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
from .buffer import Intake
from .messages import Answer, Request, error_from_chunk
from .polling import Poller
from .progress import Mark
from .reconnect import LinkMachine
from .settings import Settings
from .stream_plan import StreamPlan


class StreamMachine(LinkMachine[Chunk]):
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
        self._intake = Intake(plan, settings.max_event)
        self._poller = Poller(plan, self._intake, clock)
        super().__init__(settings, self._intake, clock=clock, rng=rng, begun=plan.recalled)

    @property
    def mark(self) -> Mark:
        """Where the stream stands, as its caller has seen it."""
        return self._plan.mark

    @property
    def opened(self) -> bool:
        """Whether the session is named, and chunks are there or waited for."""
        return super().opened or (self._polling and self.mark.session_id is not None)

    def abandon(self) -> None:
        """Nobody reads any more; the turn goes on, and the mark says where it was left."""
        self.mark.broken = self._started and not self.mark.settled
        super().abandon()

    def _deliver(self) -> Action[Chunk]:
        raw, mark = self._intake.ready.popleft(), self.mark
        mark.position = raw["position"]
        if raw.get("type") == "error" and self._plan.raise_on_error:
            # The turn has failed for good: only its `done` would follow.
            self._intake.ready.clear()
            error = error_from_chunk(raw, session_id=mark.session_id, position=mark.position)
            self._action = self._finish(error, settled=True)
            return self._action
        mark.settled = mark.settled or self._plan.ends_with(raw)
        return Emit(Chunk(raw))

    def _stream_request(self) -> Request:
        return self._plan.open(self._intake.last)

    def _poll_request(self) -> Request:
        return self._poller.request()

    def _meet(self, headers: Mapping[str, str]) -> None:
        """Learns session, turn and epoch; another epoch than before raises PositionExpired."""
        mark = self.mark
        mark.session_id = mark.session_id or headers.get("x-session-id")
        turn = headers.get("x-turn", "")
        if turn.isascii() and turn.isdigit() and (self._plan.body is None or mark.turn is None):
            mark.turn = int(turn)
        epoch = headers.get("x-log-epoch")
        if epoch and mark.epoch and epoch != mark.epoch:
            mark.settled = True
            raise PositionExpired(
                "the server's store was replaced, positions from before mean nothing",
                details={"epoch": epoch},
                session_id=mark.session_id,
                position=mark.position,
            )
        mark.epoch = epoch or mark.epoch

    def _ended(self) -> Action[Chunk]:
        if self._intake.at_done and self._plan.target is None and not self._plan.follow:
            # The server ends a join when nothing is running or queued; one that drains ends it
            # earlier. Asking once more tells which (204), and costs one request.
            return self._connect() if self._intake.fresh else self._finish(None, settled=True)
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
        error.session_id = self.mark.session_id
        error.position = self._intake.last if received else self.mark.position

    def _finish(self, error: StreamError | None, *, settled: bool = False) -> Action[Chunk]:
        self.mark.settled = self.mark.settled or settled
        self.mark.broken = not self.mark.settled
        return super()._finish(error)
