"""How a turn ends whose end was not told by the agent's run: what the log holds is what it said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import orjson

from ..log.base import Entry
from ..model.limits import Limits
from .chunks import Encoded, Output, completed_step, cut_short, done_chunk
from .history import EntryGone, Transcript
from .state import TurnState
from .turn import Ending, Failure, Status

RUNNER_LOST = Failure(
    "RUNNER_LOST",
    "the server process that ran this turn died; what it had produced is kept",
    retryable=True,
)


class _Steps:
    """A turn's steps, folded from its chunks; times are those at which the log took them."""

    def __init__(self) -> None:
        self.count = 0
        #: Of the newest chunk, in microseconds since 1970.
        self.last_at = 0
        self._open: dict[int, tuple[str, int]] = {}

    def see(self, entry: Entry) -> None:
        self.last_at = entry.at
        if entry.kind != "step":
            return
        body = orjson.loads(entry.body)
        number = body["step"]
        if body["status"] == "started":
            self.count = max(self.count, number)
            self._open[number] = body["name"], entry.at
        elif body["status"] == "completed":
            self._open.pop(number, None)

    def close(self, status: str) -> Iterator[Encoded]:
        """Completes those that are open, the innermost first, as the turn ends so."""
        told = cut_short(status)
        for number in reversed(list(self._open)):
            name, began = self._open.pop(number)
            yield completed_step(number, name, _milliseconds(self.last_at - began), told)


async def ending_from_log(
    transcript: Transcript,
    session_id: str,
    turn: TurnState,
    failure: Failure | None,
    usage: Mapping[str, int] | None,
    limits: Limits,
) -> Ending:
    """The open steps completed, `error` and `done`, with what the log holds of the turn; without
    a failure it was cancelled.

    `usage` is what the turn's run counted. Without a run, its time is that up to its last chunk,
    and its tokens are 0: they are not told before the end. Raises LogUnavailable.
    """
    steps = _Steps()
    try:
        output, _ = await transcript.output_so_far(session_id, turn, limits, steps.see)
    except EntryGone:  # its process died before its first chunk
        output = Output(limits)
    counted = dict(usage) if usage is not None else _without_run(turn, steps)
    counted["steps"] = steps.count
    status: Status = "cancelled" if failure is None else "failed"
    done = done_chunk(session_id, turn.turn, status, output, counted)
    errors = [] if failure is None else [failure.chunk(turn.request_id)]
    return Ending(status, [*steps.close(status), *errors, done], counted, failure)


def _without_run(turn: TurnState, steps: _Steps) -> dict[str, int]:
    began = round(turn.started_at * 1e6)
    took = _milliseconds(steps.last_at - began) if steps.last_at else 0
    return {"input_tokens": 0, "output_tokens": 0, "steps": 0, "duration_ms": took}


def _milliseconds(micros: int) -> int:
    return max(0, round(micros / 1_000))
