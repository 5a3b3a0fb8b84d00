"""How a turn ends whose end was not told by the agent's run: what the log holds is what it said."""

from __future__ import annotations

from collections.abc import Mapping

from ..codec.json import dumps
from ..model.limits import Limits
from .chunks import Encoded
from .state import TurnState
from .transcript import Transcript
from .turn import Ending, Failure

RUNNER_LOST = Failure(
    "RUNNER_LOST",
    "the server process that ran this turn died; what it had produced is kept",
    retryable=True,
)
#: Of a turn whose process died nobody knows them.
NO_USAGE = {"input_tokens": 0, "output_tokens": 0, "steps": 0, "duration_ms": 0}


async def ending_from_log(
    transcript: Transcript,
    session_id: str,
    turn: TurnState,
    failure: Failure,
    usage: Mapping[str, int],
    limits: Limits,
) -> Ending:
    """`error` and `done`, with the output that the log holds. Raises LogUnavailable."""
    output, _ = await transcript.output_so_far(session_id, turn, limits)
    body = {
        "type": "done",
        "session_id": session_id,
        "turn": turn.turn,
        "status": "failed",
        "output": output.text,
        "usage": usage,
    }
    if output.truncated:
        body["output_truncated"] = True
    return Ending("failed", [failure.chunk(), Encoded("done", dumps(body))], usage, failure)
