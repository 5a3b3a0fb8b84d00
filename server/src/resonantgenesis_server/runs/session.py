"""One session with open turns: starts, queues, cancels and runs them, one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import structlog

from ..agents.base import Agent, Turn
from ..codec.events import events_append
from ..feed.hub import Hub
from ..log.base import (
    Append,
    EventLog,
    LogError,
    NewEntry,
    PositionConflict,
    StaleWriter,
)
from ..model.errors import ApiError, Internal, SessionBusy, Unavailable
from ..model.events import NewEvent, event_stream
from ..model.limits import Limits
from .chunks import ChunkMaker, Encoded, error_chunk
from .events import TurnEvents, session_created
from .retention import trim_oldest
from .state import (
    MAX_OPEN_TURNS,
    Request,
    SessionInfo,
    SessionState,
    TurnState,
    control_stream,
    ended_record,
    started_record,
    withdrawn_record,
)
from .turn import Ending, Status, TurnRun
from .writer import TurnWriter

log_ = structlog.get_logger("resonantgenesis.sessions")

_RETRY_FIRST, _RETRY_MAX = 0.2, 10.0


class Node(Protocol):
    """What a session needs of the process it runs in."""

    log: EventLog
    hub: Hub
    limits: Limits
    fence: int
    draining: bool
    stopped: asyncio.Event

    async def request(self, session_id: str, turn: TurnState) -> Request:
        """What a turn was asked for. Raises LogUnavailable."""
        ...

    async def prepare(
        self, info: SessionInfo, state: SessionState, turn: TurnState, request: Request
    ) -> Prepared:
        """The agent and its view of the turn; raises ApiError, e.g. when the agent is gone."""
        ...

    def own(self, task: asyncio.Task[None]) -> None:
        """Keep a task until it ends; it is cancelled when the process stops."""
        ...

    def retire(self, session: Session) -> None:
        """The session may have nothing left to do."""
        ...


class Prepared:
    """A turn ready to run."""

    __slots__ = ("agent", "request", "turn")

    def __init__(self, agent: Agent, turn: Turn, request: Request) -> None:
        self.agent = agent
        self.turn = turn
        self.request = request


class Session:
    """The single writer of a session's two streams, while it has open turns.

    `state` is kept by the supervisor from the log's announcements: when an append's future has
    resolved, `state` already shows it. `head` is the last position of the chunks' stream.
    """

    def __init__(self, session_id: str, state: SessionState, head: int, node: Node) -> None:
        self.session_id = session_id
        self.state = state
        self.head = head
        self.users = 0
        self._node = node
        self._lock = asyncio.Lock()
        self._run: TurnRun | None = None
        self._cancelled: set[int] = set()
        self.pump: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether nobody uses it and nothing is left to do."""
        return not self.users and (self.pump is None or self.pump.done())

    # -- asked for -------------------------------------------------------------------------

    async def create(self, info: SessionInfo, key_id: str, request_id: str) -> None:
        """Record a new session without a turn. Raises Unavailable while draining."""
        async with self._lock:
            if self._node.draining:
                raise Unavailable("the server is shutting down", retry_after=1)
            created = session_created(info, key_id, request_id)
            await self._record([info.record()], pending=False, events=[created])

    async def start(
        self,
        request: Request,
        *,
        if_busy: str,
        new: SessionInfo | None = None,
        turn: int | None = None,
    ) -> TurnState:
        """Record a turn durably and run it, or queue it behind those that are open.

        Raises SessionBusy, Unavailable, PositionConflict if `turn` is not the next number.
        """
        async with self._lock:
            state = self.state
            number = len(state.turns) + 1
            if turn is not None and turn != number:
                raise PositionConflict(f"turn {turn} is not the next one")
            self._check_room(if_busy)
            records: list[NewEntry] = []
            events: list[NewEvent] = []
            if new is not None:
                records.append(new.record())
                events.append(session_created(new, request.key_id, request.request_id))
            if if_busy == "interrupt":
                records += self._cancel_open()
            records.append(request.record(number))
            if not state.open_turns:
                records.append(started_record(number, self.head + 1))
                info = new or self._info
                told = TurnEvents(info, number, request.key_id, request.request_id)
                events.append(told.started(request.goal))
            await self._record(records, pending=True, events=events)
            self.resume()
            return state.turns[number - 1]

    def _check_room(self, if_busy: str) -> None:
        if self._node.draining:
            raise Unavailable("the server is shutting down", retry_after=1)
        if not self.state.busy:
            return
        if if_busy == "reject":
            raise SessionBusy("a turn is running; wait for its end, queue behind it or interrupt")
        waiting = [turn for turn in self.state.waiting if not turn.withdrawn]
        if if_busy == "enqueue" and len(waiting) >= self._node.limits.queued_turns:
            raise SessionBusy(f"{len(waiting)} turns wait already", retry_after=1)
        if len(self.state.waiting) >= MAX_OPEN_TURNS:
            raise SessionBusy("the interrupted turns have not ended yet", retry_after=1)

    async def cancel(self, number: int | None) -> list[int]:
        """Cancel the given turn, or all that are open now; the numbers of those it concerned."""
        async with self._lock:
            open_now = [t.turn for t in self._open() if number in {None, t.turn}]
            records = self._cancel_open(number)
            if records:
                await self._record(records, pending=True)
            return open_now

    def _open(self) -> list[TurnState]:
        running = self.state.running
        waiting = [turn for turn in self.state.waiting if not turn.withdrawn]
        return waiting if running is None else [running, *waiting]

    def _cancel_open(self, number: int | None = None) -> list[NewEntry]:
        """Stop the running turn; the records that withdraw the waiting ones."""
        records = []
        for turn in self._open():
            if number not in {None, turn.turn}:
                continue
            if turn.status == "queued":
                records.append(withdrawn_record(turn.turn))
            else:
                self._cancelled.add(turn.turn)
                if self._run is not None and self._run.number == turn.turn:
                    self._run.cancel()
        return records

    @property
    def _info(self) -> SessionInfo:
        if self.state.info is None:
            raise Internal("the session has no beginning")
        return self.state.info

    async def _record(
        self, records: Sequence[NewEntry], *, pending: bool, events: Sequence[NewEvent] = ()
    ) -> None:
        organization = events[0].metadata["organization_id"] if events else ""
        await self._node.log.append(
            Append(
                control_stream(self.session_id),
                records,
                fence=self._node.fence,
                expect=self.state.position,
                pending=pending,
            ),
            *events_append(organization, events),
        )

    # -- running ---------------------------------------------------------------------------

    async def close_orphan(self, ending: Ending, head: int) -> None:
        """End a turn whose process died; `head` is the last position of the chunks' stream."""
        running = self.state.running
        if running is not None:
            await self._finish(running, ending, head)

    def resume(self) -> None:
        """See to it that open turns are run."""
        if self.pump is None or self.pump.done():
            self.pump = asyncio.create_task(self._run_turns(), name=f"turns {self.session_id}")
            self.pump.add_done_callback(lambda _task: self._node.retire(self))
            self._node.own(self.pump)

    async def _run_turns(self) -> None:
        try:
            while (turn := self._next()) is not None:
                ending, durable = await self._one_turn(turn)
                await self._finish(turn, ending, durable)
                await trim_oldest(self._node, self.state, self.session_id, self.head)
        except StaleWriter:
            log_.warning("session taken over by another writer", session=self.session_id)
        except PositionConflict:
            log_.error("session moved under its writer", session=self.session_id)

    def _next(self) -> TurnState | None:
        running = self.state.running
        if running is not None:
            return running
        if self._node.draining and not any(t.withdrawn for t in self.state.waiting[:1]):
            return None  # what waits goes on at the next start
        return next(iter(self.state.waiting), None)

    async def _one_turn(self, turn: TurnState) -> tuple[Ending, int]:
        """Run the turn; how it ended, and the last durable position of its chunks."""
        failure: ApiError
        try:
            if turn.status == "queued":
                await self._begin(turn)
            if turn.withdrawn:
                return self._without_agent(turn, "cancelled"), self.head
            request = await self._node.request(self.session_id, turn)
            prepared = await self._node.prepare(self._info, self.state, turn, request)
            return await self._drive(turn, prepared)
        except (StaleWriter, PositionConflict):
            raise
        except LogError as error:
            log_.error("turn could not start", session=self.session_id, error=str(error))
            failure = Unavailable("the turn could not be stored")
        except ApiError as error:
            failure = error
        except Exception as error:  # a defect of ours must not leave the session running for ever
            log_.error("turn failed internally", session=self.session_id, exc_info=error)
            failure = Internal("the turn failed internally")
        chunk = error_chunk(failure.code, failure.message, retryable=failure.retryable)
        return self._without_agent(turn, "failed", chunk, failure), self.head

    async def _begin(self, turn: TurnState) -> None:
        """Record the start of a turn that waited, unless it was withdrawn meanwhile."""
        request = await self._node.request(self.session_id, turn)
        async with self._lock:
            if not turn.withdrawn:
                started = TurnEvents.of(self._info, turn).started(request.goal)
                record = started_record(turn.turn, self.head + 1)
                await self._record([record], pending=True, events=[started])

    async def _drive(self, turn: TurnState, prepared: Prepared) -> tuple[Ending, int]:
        node = self._node
        writer = TurnWriter(
            node.log,
            self.session_id,
            fence=node.fence,
            position=self.head,
            event_stream=event_stream(self._info.organization_id),
        )
        self._run = run = TurnRun(
            prepared.agent,
            prepared.turn,
            writer,
            TurnEvents.of(self._info, turn),
            timeout=prepared.request.timeout_seconds,
            limits=node.limits,
            request_id=prepared.request.request_id,
            abandon=node.own,
        )
        watch: asyncio.Task[None] | None = None
        if turn.turn in self._cancelled:
            run.cancel()
        if prepared.request.on_disconnect == "cancel":
            watch = asyncio.create_task(self._cancel_unwatched(run))
        try:
            return await run.run(), writer.durable
        finally:
            self.head = writer.durable
            self._run = None
            if watch is not None:
                watch.cancel()

    async def _cancel_unwatched(self, run: TurnRun) -> None:
        """Cancels the turn once nobody has read its stream for the whole grace."""
        loop = asyncio.get_running_loop()
        grace = self._node.limits.disconnect_grace
        last_seen = loop.time()
        while loop.time() - last_seen < grace:
            if self._node.hub.readers(self.session_id):
                last_seen = loop.time()
            await asyncio.sleep(min(0.5, grace / 4))
        run.cancel()

    def _without_agent(
        self,
        turn: TurnState,
        status: Status,
        error: Encoded | None = None,
        failure: ApiError | None = None,
    ) -> Ending:
        maker = ChunkMaker(self.session_id, turn.turn, "", max_steps=1, limits=self._node.limits)
        done = maker.done(status)
        code, words = (failure.code, failure.message) if failure else (None, None)
        return Ending(
            status, [done] if error is None else [error, done], maker.usage(), code, words
        )

    async def _finish(self, turn: TurnState, ending: Ending, durable: int) -> None:
        """Append `done` and the turn's record together; tries until the store takes it."""
        self.head = durable
        pause = _RETRY_FIRST
        while True:
            try:
                await self._append_ending(turn, ending)
            except (StaleWriter, PositionConflict):
                raise
            except LogError as error:
                log_.error("turn could not be ended", session=self.session_id, error=str(error))
                if self._node.stopped.is_set():
                    return  # the next start finds it open and closes it
                await asyncio.sleep(pause)
                pause = min(pause * 2, _RETRY_MAX)
            else:
                return

    async def _append_ending(self, turn: TurnState, ending: Ending) -> None:
        # Under the lock until the state shows it: an execute that follows the `done` at once
        # waits here instead of finding the session busy.
        async with self._lock:
            last = self.head + len(ending.chunks)
            others = any(t.turn != turn.turn for t in self._still_open())
            node = self._node
            told = TurnEvents.of(self._info, turn)
            steps = [told.step_completed(*chunk.step) for chunk in ending.chunks if chunk.step]
            ended = told.ended(ending.status, ending.usage, ending.error_code, ending.error)
            await node.log.append(
                Append(
                    control_stream(self.session_id),
                    [ended_record(turn.turn, ending.status, last)],
                    fence=node.fence,
                    expect=self.state.position,
                    pending=others,
                ),
                Append(
                    self.session_id,
                    [NewEntry(chunk.kind, chunk.body) for chunk in ending.chunks],
                    fence=node.fence,
                    expect=self.head,
                ),
                *events_append(told.organization_id, [*steps, *ended]),
            )
            self.head = last
            self._cancelled.discard(turn.turn)

    def _still_open(self) -> list[TurnState]:
        running = self.state.running
        return self.state.waiting if running is None else [running, *self.state.waiting]
