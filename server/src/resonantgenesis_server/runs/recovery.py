"""How a turn ends whose process died."""

from __future__ import annotations

from ..codec.json import dumps
from ..model.limits import Limits
from .chunks import Encoded, error_chunk
from .state import TurnState
from .transcript import Transcript
from .turn import Ending

_WORDS = "the server process that ran this turn died; what it had produced is kept"


async def lost_runner_ending(
    transcript: Transcript, session_id: str, turn: TurnState, limits: Limits
) -> Ending:
    """RUNNER_LOST and `done`, with the output that the log holds. Raises LogUnavailable."""
    output, _, truncated = await transcript.output_so_far(session_id, turn, limits.output)
    usage = {"input_tokens": 0, "output_tokens": 0, "steps": 0, "duration_ms": 0}
    body = {
        "type": "done",
        "session_id": session_id,
        "turn": turn.turn,
        "status": "failed",
        "output": output,
        "usage": usage,
    }
    if truncated:
        body["output_truncated"] = True
    error = error_chunk("RUNNER_LOST", _WORDS, retryable=True)
    done = Encoded("done", dumps(body))
    return Ending("failed", [error, done], usage, "RUNNER_LOST", _WORDS)
