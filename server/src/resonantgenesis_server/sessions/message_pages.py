"""A session's messages, in pages: what its users and its agent said, turn by turn.

A fork begins with turns of other sessions; they are read where they are. A page is what the log
held up to one position. A reader that follows the session from there misses nothing and gets
nothing twice.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from ..codec.json import dumps
from ..codec.messages import AnswerFold
from ..codec.times import rfc3339
from ..feed.shares import SHARED
from ..log.base import EventLog, stream_info
from ..model.errors import InvalidRequest
from ..model.limits import PAGE_BYTES
from .cache import SessionCache
from .history import EntryGone, TurnHistory
from .lineage import FirstTurns
from .state import SessionState, TurnState

Json = dict[str, Any]
#: Entries of a page that is read, and their bytes.
_ENTRIES, _BYTES = 2_000, 1 << 20
#: Chunks that are looked at for one page of messages, unless a single turn has more.
_LOOKED = 100_000


@dataclass(frozen=True, slots=True)
class MessagePage:
    """Messages as JSON, the oldest first; the cursor of older ones; and the position that the
    messages reach, on the page with the newest ones."""

    messages: list[Json]
    next_cursor: str | None
    position: int | None


@dataclass(frozen=True, slots=True)
class _Place:
    """Before this turn of the span of this number."""

    span: int
    turn: int

    @property
    def cursor(self) -> str:
        return f"{self.span}.{self.turn}"

    @classmethod
    def of(cls, cursor: str) -> _Place:
        span, dot, turn = cursor.partition(".")
        if not (dot and span.isdecimal() and turn.isdecimal()) or len(cursor) > 20:
            raise InvalidRequest.field("cursor", "is not one that a page of messages gave")
        return cls(int(span), int(turn))


class MessageFold(Protocol):
    """Takes the chunks of a turn, in order; see `AnswerFold`."""

    status: str
    truncated: bool

    def add(self, chunk: Mapping[str, Any]) -> None: ...

    def message(self) -> Json:
        """At least `status` and `parts`."""
        ...


#: A fold for this turn of this session.
FoldOf = Callable[[str, int], MessageFold]


def answer_fold(_session_id: str, _turn: int) -> MessageFold:
    """The fold of our own messages."""
    return AnswerFold()


class MessagePages:
    """Reads messages of sessions. Raises LogUnavailable and RateLimited."""

    def __init__(self, sessions: SessionCache, history: TurnHistory) -> None:
        self._sessions = sessions
        self._history = history

    async def page(
        self,
        session_id: str,
        state: SessionState,
        *,
        limit: int,
        cursor: str | None,
        fold_of: FoldOf = answer_fold,
    ) -> MessagePage:
        """The newest messages, or those before the cursor: at most `limit`, but at least those of
        one turn. `fold_of` makes the answers."""
        place = None if cursor is None else _Place.of(cursor)
        head: int | None = None
        if place is None:
            info = await stream_info(self._sessions.log, session_id)
            head = 0 if info is None else info.head
            # The records must not be older than the chunks.
            await state.take_in(self._sessions.log, session_id)
        own = FirstTurns(session_id, state, len(state.turns))
        spans = [*await self._sessions.inherited(state), own]
        newest_first: list[list[Json]] = []
        count = size = looked = 0
        next_place: _Place | None = None
        async with aclosing(self._turns(spans, place, head, fold_of)) as turns:
            async for at, messages, chunks in turns:
                newest_first.append(messages)
                count += len(messages)
                size += len(dumps(messages))
                looked += chunks
                if count + 2 > limit or size >= PAGE_BYTES or looked >= _LOOKED:
                    next_place = at
                    break
        if next_place is not None and not self._has_more(spans, next_place):
            next_place = None
        return MessagePage(
            [message for messages in reversed(newest_first) for message in messages],
            None if next_place is None else next_place.cursor,
            head,
        )

    @staticmethod
    def _has_more(spans: Sequence[FirstTurns], place: _Place) -> bool:
        return place.turn > 1 or any(span.count for span in spans[: place.span])

    async def _turns(
        self, spans: Sequence[FirstTurns], place: _Place | None, head: int | None, fold_of: FoldOf
    ) -> AsyncGenerator[tuple[_Place, list[Json], int], None]:
        """Each turn's place, messages, and how many chunks were read for them; the newest first.

        Ends before a turn that is not kept any more: neither are all older ones.
        """
        for number in range(len(spans) - 1, -1, -1):
            span = spans[number]
            if place is not None and place.span < number:
                continue
            is_own = number == len(spans) - 1
            before = place.turn - 1 if place is not None and place.span == number else span.count
            for turn in reversed(span.turns[:before]):
                try:
                    seen = head if is_own else None
                    messages, chunks = await self._messages(span, turn, seen, fold_of)
                except EntryGone:
                    return
                yield _Place(number, turn.turn), messages, chunks

    async def _messages(
        self, span: FirstTurns, turn: TurnState, head: int | None, fold_of: FoldOf
    ) -> tuple[list[Json], int]:
        """The goal and the answer of a turn, as far as the log had it at `head`. Raises EntryGone
        and LogUnavailable."""
        request = await self._history.request(span.session_id, turn)
        last = turn.last or head or 0
        if head is not None:
            last = min(last, head)
        answer: Json | None = None
        status = "cancelled" if turn.withdrawn else "queued"
        chunks = 0
        if turn.first:
            fold = fold_of(span.session_id, turn.turn)
            await self._fold(fold, span, turn.first - 1, last)
            chunks = max(0, last - turn.first + 1)
            status = fold.status
            if last >= turn.first:
                answer = {
                    **_head(span, turn, "assistant"),
                    **fold.message(),
                    "created_at": rfc3339(turn.started_at or turn.ended_at),
                    "position": last,
                }
        goal = {
            **_head(span, turn, "user"),
            "status": status,
            "parts": [{"type": "text", "content": request.goal}],
            "metadata": request.metadata,
            "created_at": rfc3339(turn.queued_at),
        }
        return [goal] if answer is None else [goal, answer], chunks

    async def _fold(self, fold: MessageFold, span: FirstTurns, after: int, last: int) -> None:
        organization = "" if span.state.info is None else span.state.info.organization_id
        log = self._sessions.log
        while after < last:
            async with SHARED.alone(organization):
                after = await _fold_page(fold, log, span.session_id, after, last, organization)


async def _fold_page(
    fold: MessageFold, log: EventLog, stream: str, after: int, last: int, organization: str
) -> int:
    """Add the next chunks up to `last`; returns the position that the fold reaches."""
    page = await log.read(stream, after, limit=min(_ENTRIES, last - after), max_bytes=_BYTES)
    if not page.entries or page.entries[0].position != after + 1:
        raise EntryGone(stream, after + 1, 1 if page.info is None else page.info.earliest)
    with SHARED.measured(organization):
        for entry in page.entries:
            if fold.truncated and entry.kind == "message":
                continue  # no text fits any more
            fold.add(orjson.loads(entry.body))
    return page.entries[-1].position


def message_id(session_id: str, turn: int) -> str:
    """The id of a turn's answer."""
    return f"msg_{session_id}.{turn}"


def _head(span: FirstTurns, turn: TurnState, role: str) -> Json:
    name = message_id(span.session_id, turn.turn)
    head: Json = {
        "id": name if role == "assistant" else f"{name}.goal",
        "role": role,
        "session_id": span.session_id,
        "turn": turn.turn,
    }
    replaced_by = span.replaced_by(turn)
    if replaced_by:
        head["replaced_by"] = replaced_by
    return head
