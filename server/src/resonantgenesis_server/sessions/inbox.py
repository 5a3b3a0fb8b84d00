"""Messages to an open turn: recorded before they are answered, taken by the agent or left.

A message is a record of the control stream. When the agent takes it, the chunk `user_message` says
so, at that place of the turn. Messages that have no such chunk when the turn ends get one then, in
the append of its `done`: they are left, for the history of the next turn. So the log tells at any
time which messages still wait, whatever process died.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import orjson

from ..agents.base import InboxMessage
from ..log.base import EventLog
from .chunks import TurnOutcome, user_message_chunk
from .state import TurnState, control_stream
from .turn_writer import Sealed

#: Entries of a page that is read.
_PAGE = 5_000
#: Seconds that an agent's thread waits until its message is shown.
_THREAD_WAIT = 60.0

Show = Callable[[InboxMessage], Awaitable[None]]


class TurnInbox:
    """The `Inbox` of a turn that runs in this process."""

    def __init__(self, turn: int) -> None:
        self.turn = turn
        self._waiting: deque[InboxMessage] = deque()
        self._known: set[str] = set()
        self._arrived = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._show: Show = _nobody

    def connect(self, show: Show) -> None:
        """`show` writes the chunk that a message was taken."""
        self._show = show

    def close(self) -> None:
        """The turn is over: no message can be taken any more."""
        self._show = _over

    def deliver(self, message: InboxMessage) -> None:
        """Add a recorded message, unless it was added before."""
        if message.message_id not in self._known:
            self._known.add(message.message_id)
            self._waiting.append(message)
            self._arrived.set()

    async def take(self) -> Sequence[InboxMessage]:
        taken: list[InboxMessage] = []
        while self._waiting:
            message = self._waiting.popleft()
            await self._show(message)
            taken.append(message)
        return taken

    async def wait(self) -> Sequence[InboxMessage]:
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        return await self.take()

    def take_from_thread(self) -> Sequence[InboxMessage]:
        if threading.get_ident() == self._thread:
            raise RuntimeError("this is the event loop: await take instead")
        if not self._waiting:
            return ()
        return asyncio.run_coroutine_threadsafe(self.take(), self._loop).result(_THREAD_WAIT)


async def _over(_message: InboxMessage) -> None:
    raise Sealed


async def _nobody(_message: InboxMessage) -> None:
    raise RuntimeError("the turn does not run yet")


async def waiting_messages(log: EventLog, session_id: str, turn: TurnState) -> list[InboxMessage]:
    """The messages to a turn that no chunk shows yet, in their order. Raises LogUnavailable."""
    if not turn.messages:
        return []
    shown = await _shown(log, session_id, turn)
    messages: list[InboxMessage] = []
    for posted in turn.messages:
        if posted.message_id in shown:
            continue
        page = await log.read(control_stream(session_id), posted.record - 1, limit=1)
        for entry in page.entries:
            messages.append(InboxMessage(posted.message_id, orjson.loads(entry.body)["content"]))
    return messages


async def _shown(log: EventLog, session_id: str, turn: TurnState) -> set[str]:
    """The ids of the messages that chunks of the turn show."""
    shown: set[str] = set()
    after = max(turn.first - 1, 0)
    while turn.first:
        page = await log.read(session_id, after, limit=_PAGE)
        for entry in page.entries:
            after = entry.position
            if entry.kind == "user_message":
                shown.add(orjson.loads(entry.body)["message_id"])
            elif entry.kind == "done":
                return shown
        if page.at_end:
            break
    return shown


async def with_left(
    log: EventLog, session_id: str, turn: TurnState, outcome: TurnOutcome
) -> TurnOutcome:
    """The outcome with the messages that were not taken, before its `error` and `done`. Raises
    LogUnavailable."""
    left = await waiting_messages(log, session_id, turn)
    if not left:
        return outcome
    chunks = outcome.chunks
    ends = next(n for n, chunk in enumerate(chunks) if chunk.kind in {"error", "done"})
    shown = [user_message_chunk(each.message_id, each.content, taken=False) for each in left]
    return replace(outcome, chunks=[*chunks[:ends], *shown, *chunks[ends:]])
