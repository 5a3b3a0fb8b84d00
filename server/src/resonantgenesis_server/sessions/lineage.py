"""The sessions that a conversation consists of: a fork begins with turns of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .state import SessionState, TurnState


@dataclass(frozen=True, slots=True)
class FirstTurns:
    """The turns of one session that belong to a conversation: its first `count`."""

    session_id: str
    state: SessionState
    count: int

    @property
    def turns(self) -> Sequence[TurnState]:
        return self.state.turns[: self.count]

    def replaced_by(self, turn: TurnState) -> int:
        """The turn that stands in the place of this one, here; 0: none."""
        return turn.replaced_by if turn.replaced_by <= self.count else 0
