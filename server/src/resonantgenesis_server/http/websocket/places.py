"""Where in a session's log a subscription begins."""

from __future__ import annotations

from dataclasses import dataclass

from ...sessions.state import SessionState


@dataclass(frozen=True, slots=True)
class Start:
    """Read after this position, and tell nothing before turn `skip` has ended (0: at once)."""

    after: int
    skip: int = 0


def start_of_turn(state: SessionState, number: int) -> Start:
    """The first chunk of a turn, which may still wait behind others."""
    turn = state.turn(number)
    if turn is not None and turn.first:
        return Start(turn.first - 1)
    begun = next((t for t in reversed(state.turns[: number - 1]) if t.first), None)
    if begun is None:
        return Start(0, number - 1)
    if begun.turn == number - 1 and begun.last:
        return Start(begun.last)
    return Start(begun.first - 1, number - 1)


def start_of_newest(state: SessionState) -> int:
    """The place before the running, else the newest turn's first chunk."""
    turn = state.current
    return 0 if turn is None or not turn.first else turn.first - 1
