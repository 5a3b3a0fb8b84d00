"""How a turn ends: its status, its last chunks, and why it is no success."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..model.errors import AgentError, ApiError
from .chunks import Encoded, error_chunk

Status = Literal["success", "failed", "cancelled", "timeout"]
#: Characters of an error's message; an agent's can be anything.
_WORDS = 4_000


@dataclass(frozen=True, slots=True)
class TurnFailure:
    """Why a turn is no success, as its `error` chunk says it."""

    code: str
    message: str
    retryable: bool
    retry_after: float | None = None

    @classmethod
    def of(cls, error: ApiError | AgentError) -> TurnFailure:
        return cls(error.code, error.message[:_WORDS], error.retryable, error.retry_after)

    def chunk(self, request_id: str) -> Encoded:
        """`request_id` is that of the request that asked for the turn."""
        return error_chunk(
            self.code,
            self.message,
            retryable=self.retryable,
            request_id=request_id,
            retry_after=self.retry_after,
        )


@dataclass(frozen=True, slots=True)
class TurnOutcome:
    """How a turn ended: its last chunks, `done` being the very last.

    `unstored`: the log refused some of what the agent said, so `output` has to be read from it.
    """

    status: Status
    chunks: list[Encoded]
    usage: Mapping[str, int]
    failure: TurnFailure | None = None
    unstored: bool = False
