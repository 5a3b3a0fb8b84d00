"""A session's appends: its records, its chunks and the events beside them, in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import orjson
import structlog

from .. import metrics
from ..codec.events import events_append
from ..log.base import (
    Append,
    Entry,
    EventLog,
    LogError,
    LogOverloaded,
    NewEntry,
    StaleWriter,
    stream_info,
    trim_in_steps,
)
from ..model.chunks import Happened
from ..model.errors import Internal, SessionNotFound
from ..model.events import NewEvent, event_stream
from ..model.ids import event_id
from ..model.limits import KIB
from ..tracing import spans
from .answers import NewAnswer
from .asks import Stop
from .chunks import Encoded, TurnOutcome, beginning, input_chunk, waiting_chunk
from .ownership import Taken
from .state import (
    GivenAnswer,
    OpenAsk,
    SessionInfo,
    SessionState,
    TurnState,
    control_stream,
    deleted_record,
    ended_record,
    input_record,
    parked_record,
    resumed_record,
    started_record,
    waiting_record,
)
from .turn_writer import TimedTurnWriter, TurnWriter

log_ = structlog.get_logger("resonantgenesis.turns")

#: Takes the session of a control stream that was read up to a position; see `Ownership.take`.
TakeOver = Callable[[str, int], Awaitable[Taken | None]]


class SessionLog:
    """Appends to a session's two streams, each under the condition that they end where we think.

    `take` gave the `fence`, with which this process writes the session. The log's announcements
    keep `state` up to date: when an append has returned, `state` already shows it. `head` is the
    last position of the chunks' stream. A writer holds `lock`. All methods raise LogError.

    An append that failed may have succeeded all the same, with its answer lost. Then `unsure` is
    set, and `look_again` has to find out before anything else is written. Once another node
    writes the session, `lost` is set, for good.
    """

    def __init__(
        self,
        log: EventLog,
        session_id: str,
        state: SessionState,
        *,
        fence: int,
        take: TakeOver,
    ) -> None:
        self.session_id = session_id
        self.control = control_stream(session_id)
        self.state = state
        self.head = state.told
        #: Where the control stream ends as far as this writer knows. The state may be ahead of it,
        #: by what another node has written and a reader has taken in.
        self._position = state.position
        self.lock = asyncio.Lock()
        #: The turn that has lost its process, which was another one or died before; 0: none.
        self.orphan = orphan_of(state)
        #: A turn that ran before this process has chunks that the state does not tell.
        self.unsure = state.running is not None
        self.deleted = self.lost = False
        #: When somebody last read the session for a moment, in the loop's seconds.
        self.viewed_at = 0.0
        self._log = log
        self._fence = fence
        self._take = take
        self._deleting = False
        self._writer: TurnWriter | None = None

    @property
    def info(self) -> SessionInfo:
        if self.state.info is None:
            raise Internal("the session has no beginning")
        return self.state.info

    @property
    def announced(self) -> int | None:
        """The last position of the chunks that was announced; None if that is not known."""
        if self.unsure:
            return None
        if self._writer is None:
            return self.head
        return None if self._writer.error is not None else self._writer.durable

    def viewed(self) -> None:
        """Note that somebody has just read the session, if only for a moment."""
        self.viewed_at = asyncio.get_running_loop().time()

    async def look_again(self) -> None:
        """Read where the streams end, and whether this process may write them still."""
        if not self.unsure:
            return
        if self.lost:  # this process may write the session again by now, but not from here
            raise StaleWriter("another node has written the session")
        try:
            taken = None
            while taken is None or self._position != self.state.position:
                await self.state.take_in(self._log, self.session_id)
                self._position = self.state.position
                taken = await self._take(self.control, self._position)
        except StaleWriter:
            self.lost = True
            raise
        self._fence = taken.fence
        if not taken.is_ours:
            self.orphan = orphan_of(self.state)
        info = await stream_info(self._log, self.session_id)
        self._reached(0 if info is None else info.head)
        self.unsure = False

    async def check_kept(self) -> None:
        """Raise SessionNotFound if the session was deleted; waits for a deletion under way."""
        if self._deleting:
            async with self.lock:
                pass
        if self.deleted:
            raise SessionNotFound("no such session")

    # -- appends ---------------------------------------------------------------------------

    async def record(
        self,
        records: Sequence[NewEntry],
        *,
        pending: bool | None,
        events: Sequence[NewEvent] = (),
    ) -> None:
        """`pending`: whether turns are open then; None: as before."""
        organization = events[0].metadata["organization_id"] if events else ""
        await self._append(
            self._control_append(records, pending=pending),
            *events_append(organization, events),
        )

    async def begin(self, turn: TurnState, goal: str) -> None:
        """Record the start of a turn that waited."""
        events = TurnEvents.of(self.info, turn).begun(goal)
        record = started_record(turn.turn, self.head + 1)
        await self.record([record], pending=True, events=events)

    @contextmanager
    def writing(self) -> Iterator[TurnWriter]:
        """The writer of the running turn's chunks."""
        kind = TimedTurnWriter if spans.are_on() else TurnWriter
        writer = self._writer = kind(
            self._log,
            self.session_id,
            fence=self._fence,
            position=self.head,
            event_stream=event_stream(self.info.organization_id),
            organization_id=self.info.organization_id,
        )
        try:
            yield writer
        finally:
            self.head = writer.durable
            self.unsure = self.unsure or writer.error is not None
            self._writer = None

    async def stop(self, turn: TurnState, stop: Stop) -> None:
        """Append the chunks, the record and the event of a turn that asks. Its writer is held."""
        if self._writer is not None:
            self.head = self._writer.durable
        first = self.head + 1
        asks = [
            OpenAsk(each.call_id, each.ask.kind, each.ask.tool, first + index, each.expires_at)
            for index, each in enumerate(stop.asks)
        ]
        waiting = waiting_chunk(self.session_id, turn.turn, [each.call_id for each in asks])
        record = waiting_record(
            turn.turn,
            first + len(asks),
            asks,
            resume=stop.resume,
            held=stop.held,
            ran=stop.ran,
            input_tokens=stop.input_tokens,
            output_tokens=stop.output_tokens,
            kept=stop.kept,
        )
        events = TurnEvents.of(self.info, turn)
        await self._append_both(
            [record],
            [*(each.chunk for each in stop.asks), waiting],
            pending=stop.held,
            events=[events.waiting(first, asks)],
        )
        metrics.turn_asks(ask.kind for ask in asks)

    async def answer(
        self,
        turn: TurnState,
        answers: Sequence[NewAnswer],
        *,
        key_id: str | None = None,
        request_id: str | None = None,
    ) -> None:
        """Append answers to open asks of a turn. With the last one the turn goes on."""
        position = self.head
        records: list[NewEntry] = []
        for each in answers:
            position += 1
            given = GivenAnswer(position, each.status, each.digest)
            records.append(input_record(turn.turn, each.call_id, given, key_id, request_id))
        goes_on = {ask.call_id for ask in turn.asks} <= {each.call_id for each in answers}
        events: list[NewEvent] = []
        if goes_on:
            records.append(resumed_record(turn.turn))
            of_turn = TurnEvents.of(self.info, turn)
            events.append(of_turn.resumed(position, key_id, request_id))
        held = turn.waits is not None and turn.waits.held
        await self._append_both(
            records,
            [input_chunk(each.call_id, each.status, each.fields()) for each in answers],
            pending=goes_on or held,
            events=events,
        )
        for each in answers:
            metrics.input_given(each.status)

    async def park(self, turn: TurnState) -> None:
        """Record that no process holds a turn that waits."""
        await self.record([parked_record(turn.turn)], pending=False)

    async def _append_both(
        self,
        records: Sequence[NewEntry],
        chunks: Sequence[Encoded],
        *,
        pending: bool,
        events: Sequence[NewEvent],
    ) -> None:
        await self._append(
            self._control_append(records, pending=pending),
            Append(
                self.session_id,
                [NewEntry(chunk.kind, chunk.body) for chunk in chunks],
                fence=self._fence,
                expect=self.head,
            ),
            *events_append(self.info.organization_id, events),
        )
        self._reached(self.head + len(chunks))

    def _reached(self, position: int) -> None:
        self.head = position
        if self._writer is not None and self._writer.is_held:
            self._writer.skip_to(position)

    async def end(self, turn: TurnState, outcome: TurnOutcome) -> None:
        """Append a turn's last chunks, its record and its events together."""
        unanswered = [input_chunk(ask.call_id, "cancelled", {}) for ask in turn.asks]
        chunks = [*unanswered, *outcome.chunks]
        last = self.head + len(chunks)
        others = any(t.turn != turn.turn for t in self.state.open_turns)
        events = TurnEvents.of(self.info, turn)
        steps = [events.step_completed(*chunk.step) for chunk in chunks if chunk.step]
        failure = outcome.failure
        code, message = (failure.code, failure.message) if failure else (None, None)
        ended = events.ended(outcome.status, outcome.usage, code, message)
        with spans.append(len(chunks)):
            await self._append_both(
                [ended_record(turn.turn, outcome.status, last)],
                chunks,
                pending=others,
                events=[*steps, *ended],
            )
        for _ in unanswered:
            metrics.input_given("cancelled")
        metrics.turn_ended(outcome.status, code, self.info.organization_id)
        log = log_.info if failure else log_.debug
        log(
            "turn ended",
            agent=self.info.agent_id,
            status=outcome.status,
            code=code,
            duration_ms=outcome.usage["duration_ms"],
        )

    async def hide(self, deleted: NewEvent) -> None:
        """Record that the session is gone for everybody but its forks, with the event."""
        record = deleted_record(len(self.state.turns))
        await self.record([record], pending=False, events=[deleted])

    async def delete(self, deleted: NewEvent | None) -> None:
        """Remove both streams and append the event, if any, in one transaction. The deletion is
        announced when this returns."""
        self._deleting = True
        try:
            events = [] if deleted is None else [deleted]
            await self._log.delete(
                self.session_id,
                self.control,
                appends=events_append(self.info.organization_id, events),
            )
            self.deleted = True
        finally:
            self._deleting = False

    async def trim(self, limit: int) -> None:
        """Trim whole ended turns, oldest first, while the session holds more chunks than `limit`.

        A turn that cannot be trimmed now is trimmed after the next turn. Nothing is trimmed that
        forks may show.
        """
        surplus = self.head - limit
        if surplus < 1 or self.state.forks:
            return
        before = 0
        for turn in self.state.turns[:-1]:
            if not turn.last or turn.first > surplus:
                break
            before = turn.last + 1
        if not before:
            return
        try:
            info = await stream_info(self._log, self.session_id)
            earliest = 1 if info is None else info.earliest
            await trim_in_steps(self._log, self.session_id, earliest, before)
        except LogError as error:
            log_.error("session could not be trimmed", session=self.session_id, error=str(error))

    def _control_append(self, records: Sequence[NewEntry], *, pending: bool | None) -> Append:
        return Append(
            self.control,
            records,
            fence=self._fence,
            expect=self._position,
            pending=pending,
        )

    async def _append(self, *appends: Append) -> None:
        """The first one is of the control stream."""
        try:
            self._position, *_ = await self._log.append(*appends)
        except LogOverloaded:
            raise  # refused, so nothing was written
        except StaleWriter:
            self.lost = self.unsure = True
            raise
        except (LogError, asyncio.CancelledError):
            self.unsure = True
            raise


def orphan_of(state: SessionState) -> int:
    """The turn that has lost its process, if no living one runs the session: one that runs, or
    that cannot go on without the process that asked. 0: there is none."""
    turn = state.running or state.waiting
    if turn is None or turn.status == "running":
        return 0 if turn is None else turn.turn
    return turn.turn if turn.waits is not None and turn.waits.resume == "never" else 0


#: Bytes of JSON of the goal in session.started: a goal of the default limit always fits.
_GOAL = 6 * 64 * KIB
#: Error codes with which an agent fails; only these become an agent.error.
_AGENT_CODES = frozenset({"AGENT_FAILED", "MODEL_UNAVAILABLE", "MAX_STEPS", "RATE_LIMITED"})


#: Appended in the transaction that deletes a session's streams. Followers of the log do the rest,
#: now or at the next start.
SESSION_DELETED = "session.deleted"
#: The events of a change of the session itself.
SESSION_EVENTS = frozenset(
    {
        "session.created",
        "session.started",
        "session.waiting",
        "session.resumed",
        "session.completed",
        "session.failed",
        "session.cancelled",
        SESSION_DELETED,
    }
)


def _metadata(info: SessionInfo, key_id: str | None, request_id: str | None) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "organization_id": info.organization_id,
        "key_id": key_id,
        "request_id": request_id,
    }
    if info.subject is not None:
        metadata["subject"] = info.subject
    return metadata


def session_created(info: SessionInfo, key_id: str, request_id: str) -> NewEvent:
    data: dict[str, Any] = {
        "session_id": info.session_id,
        "agent_id": info.agent_id,
        "metadata": info.metadata,
    }
    if info.lineage:
        data["forked_from"] = info.lineage[-1]._asdict()
    return NewEvent(
        event_id(info.session_id, "session.created"),
        "session.created",
        data,
        _metadata(info, key_id, request_id),
    )


def session_deleted(info: SessionInfo, key_id: str | None, request_id: str | None) -> NewEvent:
    """`key_id` and `request_id` are None for a session that retention removes."""
    metadata = _metadata(info, key_id, request_id)
    data = {"session_id": info.session_id, "agent_id": info.agent_id}
    return NewEvent(event_id(info.session_id, SESSION_DELETED), SESSION_DELETED, data, metadata)


def session_of_event(entry: Entry) -> str:
    """The session that one of SESSION_EVENTS is about."""
    return str(orjson.loads(entry.body)["data"]["session_id"])


class TurnEvents:
    """Events of one turn."""

    def __init__(
        self, info: SessionInfo, turn: int, key_id: str, request_id: str, traceparent: str = ""
    ) -> None:
        self.organization_id = info.organization_id
        self._info = info
        self._turn = turn
        self._metadata = _metadata(info, key_id, request_id)
        if traceparent:
            self._metadata["traceparent"] = traceparent

    @classmethod
    def of(cls, info: SessionInfo, turn: TurnState) -> TurnEvents:
        return cls(info, turn.turn, turn.key_id, turn.request_id, turn.traceparent)

    def begun(self, goal: str) -> list[NewEvent]:
        """The events in the append of a turn's start."""
        return [self.started(goal), *self._of_team("started", {})]

    def started(self, goal: str) -> NewEvent:
        shown = beginning(goal, _GOAL)
        truncated = {} if shown == goal else {"goal_truncated": True}
        return self._event("session.started", {"goal": shown, **truncated})

    def step_completed(self, step: int, name: str, duration_ms: int) -> NewEvent:
        data = {"step": step, "name": name, "duration_ms": duration_ms}
        return self._event("session.step.completed", data, step)

    def waiting(self, position: int, asks: Sequence[OpenAsk]) -> NewEvent:
        """`position` tells the stops of a turn apart."""
        calls = [{"call_id": a.call_id, "kind": a.kind, "tool": a.tool or None} for a in asks]
        return self._event("session.waiting", {"calls": calls}, position)

    def resumed(self, position: int, key_id: str | None, request_id: str | None) -> NewEvent:
        """`key_id` and `request_id` are those of the last answer; None after an expiry."""
        event = self._event("session.resumed", {}, position)
        by = {"key_id": key_id, "request_id": request_id}
        return replace(event, metadata={**event.metadata, **by})

    def ended(
        self, status: str, usage: Mapping[str, int], error_code: str | None, error: str | None
    ) -> list[NewEvent]:
        """The events in the append of a turn's `done`."""
        tokens = usage["input_tokens"] + usage["output_tokens"]
        data: dict[str, Any] = {
            "status": status,
            "steps": usage["steps"],
            "duration_ms": usage["duration_ms"],
            "tokens_used": tokens,
        }
        kind = "session.completed"
        if status == "cancelled":
            kind = "session.cancelled"
        elif status != "success":
            kind = "session.failed"
            data |= {"error_code": error_code, "error": error}
        recorded = self._event("billing.usage.recorded", {"status": status, **usage})
        events = [self._event(kind, data), *self._of_team(kind, data), recorded]
        if error_code in _AGENT_CODES:
            events.append(self._event("agent.error", {"error_code": error_code, "error": error}))
        return events

    def happened(self, happened: Happened) -> NewEvent:
        data = {"team_id": self._info.agent_id, **happened.data}
        return self._event(happened.type, data, happened.name)

    def _of_team(self, kind: str, data: Mapping[str, Any]) -> list[NewEvent]:
        """The event of a team's turn beside that of its session, of the same last word."""
        if not self._info.is_team:
            return []
        named = {"team_id": self._info.agent_id, **data}
        return [self._event(f"team.execution.{kind.rpartition('.')[2]}", named)]

    def _event(self, kind: str, data: Mapping[str, Any], *detail: int | str) -> NewEvent:
        info = self._info
        named = {"session_id": info.session_id, "agent_id": info.agent_id, "turn": self._turn}
        return NewEvent(
            event_id(info.session_id, self._turn, kind, *detail),
            kind,
            {**named, **data},
            self._metadata,
        )
