"""Whole logs as lines of JSON: a session's conversation, an organization's events.

What is exported is what was there when the export began: an export ends, whoever goes on writing.
Lines come in batches of bounded size, read as fast as they are taken.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from ..codec.events import event_json
from ..codec.json import dumps
from ..codec.sse import chunk_json
from ..events.service import EventService, events_expired
from ..feed.filter import CompiledFilter
from ..log.base import Entry, EventLog, Page
from ..model.errors import SessionNotFound
from ..model.events import event_stream
from ..model.principal import Principal
from .cache import take_in
from .range import expired
from .state import SessionState, TurnState
from .supervisor import Supervisor

#: What is read of the log at once: all that a reader who does not read costs.
_ENTRIES, _BYTES = 1_000, 128 * 1024
Batch = list[bytes]


class SessionExport:
    """A session: itself, then each turn before its chunks; made by `SessionService.export`.

    The first line is what `describe` says, with `type: session`, `position` (the last that is
    exported) and `earliest` (the first that is kept). A turn's line has `type: turn`, its number,
    its request and its status; a turn without chunks has only that line. Everything else is a
    chunk, as streams show it.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        session_id: str,
        state: SessionState,
        describe: Callable[[SessionState], Mapping[str, Any]],
    ) -> None:
        self._supervisor = supervisor
        self._log: EventLog = supervisor.log
        self._session_id = session_id
        self._state = state
        self._describe = describe

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """Raises SessionNotFound when the session is deleted, and PositionExpired when it is
        trimmed, faster than it is read; LogError."""
        first = await self._log.read(self._session_id, 0, limit=1)
        if first.info is None:
            await self._supervisor.check_there(self._session_id)
        head, earliest = (first.info.head, first.info.earliest) if first.info else (0, 1)
        # What was read may be ahead of its announcement.
        await take_in(self._log, self._session_id, self._state)
        session = self._describe(self._state)
        yield [dumps({"type": "session", **session, "position": head, "earliest": earliest})]
        waiting = [t for t in self._state.turns if not t.last or t.last >= earliest]
        waiting.reverse()
        after = earliest - 1
        while after < head:
            page = await self._page(after)
            lines: Batch = []
            for entry in page.entries:
                if entry.position > head:
                    break
                while waiting and 0 < waiting[-1].first <= entry.position:
                    lines.append(await self._turn(waiting.pop()))
                lines.append(chunk_json(entry))
            after = page.entries[-1].position
            yield lines
        while waiting:
            yield [await self._turn(waiting.pop())]

    async def _page(self, after: int) -> Page:
        page = await self._log.read(self._session_id, after, limit=_ENTRIES, max_bytes=_BYTES)
        if page.info is None or not page.entries:
            raise SessionNotFound("the session was deleted")
        if page.info.earliest > after + 1:
            raise expired(page.info.earliest, self._log.epoch)
        return page

    async def _turn(self, turn: TurnState) -> bytes:
        request = await self._supervisor.transcript.request(self._session_id, turn)
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


async def event_batches(
    events: EventService, principal: Principal, selection: CompiledFilter, after: int, end: int
) -> AsyncGenerator[Batch, None]:
    """The events that match, with positions over `after` up to `end`, as JSON. Raises
    PositionExpired when they are trimmed faster than they are read; LogError."""
    stream, log = event_stream(principal.organization_id), events.log
    while after < end:
        page = await log.read(stream, after, limit=_ENTRIES, max_bytes=_BYTES)
        if page.info is not None and page.info.earliest > after + 1:
            raise events_expired(page.info.earliest, log.epoch)
        if not page.entries:
            return
        yield [event_json(e, log.epoch) for e in page.entries if _wanted(e, selection, end)]
        after = page.entries[-1].position


def _wanted(entry: Entry, selection: CompiledFilter, end: int) -> bool:
    return entry.position <= end and selection.matches(entry)
