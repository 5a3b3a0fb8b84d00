"""Whole logs as lines of JSON: a session's conversation, an organization's events.

An export has an end: it gives what the log held when it began, whatever is written meanwhile.
Lines come in batches of bounded size, read as fast as they are taken.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from ..codec.events import event_json
from ..codec.json import dumps
from ..codec.sse import chunk_json
from ..events.service import EventService
from ..feed.filter import CompiledFilter
from ..log.base import stream_info
from ..model.errors import SessionNotFound
from ..model.principal import Principal
from .range import ReadFrom
from .service import SessionService, described
from .state import SessionState, TurnState
from .subscription import SessionSubscription

Batch = list[bytes]
#: Seconds between two looks at a log that is slower than its reader. No export waits for entries.
_SILENCE = 5.0


class SessionExport:
    """A session: itself, then each turn before its chunks; made by `open_session_export`.

    The first line is the session, with `type: session`, `position` (the last that is exported) and
    `earliest` (the first that is kept). A turn's line has `type: turn`, its number, its request and
    its status; a turn without chunks has only this line. Every other line is a chunk, as streams
    show it.
    """

    def __init__(self, service: SessionService, session_id: str, state: SessionState) -> None:
        self._service = service
        self._session_id = session_id
        self._state = state

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """Raises SessionNotFound when the session is deleted, and PositionExpired when it is
        trimmed, faster than it is read; LogError."""
        sessions, session_id, state = self._service.states, self._session_id, self._state
        info = await stream_info(sessions.log, session_id)
        if info is None:
            await sessions.check_kept(session_id)
        head, earliest = (info.head, info.earliest) if info else (0, 1)
        # The chunks may be ahead of the announcements that keep the state.
        await state.take_in(sessions.log, session_id)
        bounds = {"position": head, "earliest": earliest}
        yield [dumps({"type": "session", **described(state), **bounds})]
        turns = [t for t in reversed(state.turns) if not t.last or t.last >= earliest]
        after = earliest - 1
        start = ReadFrom(after=after, follow=True)
        subscription = SessionSubscription(sessions, session_id, state, start, after)
        subscription.end = head
        async with aclosing(subscription.batches(_SILENCE)) as batches:
            async for entries in batches:
                lines: Batch = []
                for entry in entries:
                    while turns and 0 < turns[-1].first <= entry.position:
                        lines.append(await self._turn(turns.pop()))
                    lines.append(chunk_json(entry))
                    after = entry.position
                yield lines
        if after < head:
            raise SessionNotFound("the session was deleted")
        while turns:
            yield [await self._turn(turns.pop())]

    async def _turn(self, turn: TurnState) -> bytes:
        request = await self._service.supervisor.history.request(self._session_id, turn)
        return dumps(
            {
                "type": "turn",
                "turn": turn.turn,
                "goal": request.goal,
                "context": request.context,
                "metadata": request.metadata,
                "status": turn.status,
            }
        )


async def open_session_export(
    service: SessionService, principal: Principal, session_id: str
) -> SessionExport:
    """An export of the session as it is now. Raises SessionNotFound."""
    return SessionExport(service, session_id, await service.authorize(principal, session_id))


async def event_batches(
    events: EventService, principal: Principal, selection: CompiledFilter, after: int, end: int
) -> AsyncGenerator[Batch, None]:
    """The matching events with positions over `after` up to `end`, as JSON. Raises
    PositionExpired when they are trimmed faster than they are read; LogError."""
    subscription = events.subscribe(principal, selection, after)
    subscription.end = end
    async with aclosing(subscription.batches(_SILENCE)) as batches:
        async for entries in batches:
            yield [event_json(entry, events.epoch) for entry in entries]
