"""What clients change about open turns: messages to them, and the turns that wait in the queue.

All of it is recorded, under the session's lock, before it is answered. Against the start of a turn
that waits there is one winner: the record that comes first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..agents.base import InboxMessage
from ..model.errors import Conflict, NotFound, PayloadTooLarge
from ..model.limits import MIB
from .session import Session
from .state import (
    SessionState,
    TurnState,
    digest,
    edited_record,
    message_record,
    withdrawn_record,
)

#: Messages to one turn, and bytes of their records: those that are left go out with the `done`.
MAX_MESSAGES, MAX_BYTES = 100, MIB
#: Fields of a request that a waiting turn can still change.
EDITABLE = frozenset({"goal", "metadata", "model", "tools", "max_steps", "timeout_seconds"})


async def post_message(session: Session, message_id: str, content: str) -> int:
    """Record a message to the turn that runs, waits for answers, or comes next. Returns the turn.

    The same message again, under its id, changes nothing. Raises Conflict when no turn is open or
    the id is that of another message, PayloadTooLarge beyond the bounds of a turn, and
    SessionNotFound.
    """
    log = session.log
    async with log.lock:
        await log.check_kept()
        await log.look_again()
        state = log.state
        known = _known_turn(state, message_id, content)
        if known:
            return known
        turn = next((each for each in state.open_turns if not each.withdrawn), None)
        if turn is None:
            raise Conflict("no turn runs or waits; execute starts one")
        record = message_record(turn.turn, message_id, content)
        _check_room(turn, len(record.body))
        try:
            await log.record([record], pending=None)
        finally:
            session.resume()  # also if nobody knows whether it was recorded
        session.deliver(turn.turn, InboxMessage(message_id, content))
        return turn.turn


def _known_turn(state: SessionState, message_id: str, content: str) -> int:
    """The turn that has got this message already; 0: none. Raises Conflict."""
    number = state.message_turns.get(message_id, 0)
    turn = state.turn(number)
    if turn is not None:
        posted = next(each for each in turn.messages if each.message_id == message_id)
        if posted.digest != digest(content):
            raise Conflict("this message_id, or Idempotency-Key, was used for another message")
    return number


def _check_room(turn: TurnState, size: int) -> None:
    if len(turn.messages) >= MAX_MESSAGES:
        raise PayloadTooLarge(
            f"the turn has {MAX_MESSAGES} messages already", details={"limit": MAX_MESSAGES}
        )
    if sum(each.size for each in turn.messages) + size > MAX_BYTES:
        raise PayloadTooLarge(
            f"the messages to the turn would take over {MAX_BYTES} bytes",
            details={"limit": MAX_BYTES},
        )


async def edit_turn(session: Session, number: int, changes: Mapping[str, Any]) -> None:
    """Record these fields of EDITABLE as those of a turn that waits. Raises NotFound, Conflict when
    the turn waits no more, and SessionNotFound."""
    log = session.log
    async with log.lock:
        await log.check_kept()
        await log.look_again()
        turn = _queued(log.state, number)
        request = replace(await session.request(turn), **changes)
        record = edited_record(request.record(number))
        try:
            await log.record([record], pending=None)
        finally:
            session.resume()


async def remove_turn(session: Session, number: int) -> None:
    """Withdraw a turn that waits; a second time nothing happens. Raises as `edit_turn` does."""
    log = session.log
    async with log.lock:
        await log.check_kept()
        await log.look_again()
        known = log.state.turn(number)
        if known is not None and known.withdrawn:
            return
        turn = _queued(log.state, number)
        try:
            await log.record([withdrawn_record(turn.turn)], pending=None)
        finally:
            session.resume()


def _queued(state: SessionState, number: int) -> TurnState:
    """The turn, which waits in the queue. Raises NotFound and Conflict."""
    turn = state.turn(number)
    if turn is None:
        raise NotFound("the session has no such turn")
    if turn.withdrawn:
        raise Conflict(f"turn {number} was cancelled")
    if turn.status != "queued":
        begun = "has ended" if turn.last else "has started"
        raise Conflict(f"turn {number} {begun}; only a turn that waits can be changed")
    return turn
