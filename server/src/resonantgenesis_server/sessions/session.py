"""One session with open turns: starts, queues and cancels them; its pump runs them one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from ..codec.events import events_append
from ..codec.json import dumps, has_more_values
from ..log.base import LogError, NewEntry, StaleWriter
from ..model.errors import PayloadTooLarge, SessionBusy, SessionNotFound, Unavailable
from ..model.events import NewEvent
from .events import TurnEvents, session_created, session_deleted
from .node import Node
from .outcome import TurnOutcome
from .session_log import SessionLog, trim_oldest
from .state import (
    MAX_OPEN_TURNS,
    Request,
    SessionInfo,
    SessionState,
    TurnState,
    control_stream,
    started_record,
    stopped_record,
    withdrawn_record,
)
from .turn_runner import TurnRunner

log_ = structlog.get_logger("resonantgenesis.sessions")

_RETRY_FIRST, _RETRY_MAX = 0.2, 10.0
#: How often a session without open turns is looked at again, when it cannot be read.
_LOOKS = 5


class Session:
    """The one place in this process where a session's streams are written.

    Kept by the supervisor while it has users or open turns.
    """

    def __init__(
        self, session_id: str, state: SessionState, node: Node, retire: Callable[[str], None]
    ) -> None:
        """`retire` is called with the session's id when it may have nothing left to do."""
        self.session_id = session_id
        self.users = 0
        self.pump: asyncio.Task[None] | None = None
        self.deleted = False
        self._deleting = False
        #: Set once no turn is left that ran in a process before this one.
        self.adopted = asyncio.Event()
        self._node = node
        self._retire = retire
        self._ledger = SessionLog(session_id, state, node)
        self._driver = TurnRunner(self._ledger, node)
        if state.running is None:
            self.adopted.set()
        else:
            self._driver.orphan = state.running.turn

    @property
    def state(self) -> SessionState:
        return self._ledger.state

    @property
    def idle(self) -> bool:
        """Whether nobody uses it and nothing is left to do."""
        return not self.users and (self.pump is None or self.pump.done())

    @property
    def unsure(self) -> bool:
        """Whether the state may be behind the log."""
        return self._ledger.unsure

    @property
    def announced(self) -> int | None:
        """The last position of the chunks that was announced; None: it is not known."""
        return self._driver.announced

    def viewed(self) -> None:
        """Somebody has just read the session, if only for a moment."""
        self._driver.viewed_at = asyncio.get_running_loop().time()

    # -- asked for -------------------------------------------------------------------------
    #
    # To be called in tasks that are not cancelled with the request that asked: between a record
    # and the pump that acts on it, nothing may get lost.

    async def create(self, info: SessionInfo, key_id: str, request_id: str) -> None:
        """Record a new session without a turn. Raises Unavailable while draining."""
        async with self._ledger.lock:
            self._check_open()
            created = session_created(info, key_id, request_id)
            await self._ledger.record([info.record()], pending=False, events=[created])

    async def start(
        self,
        request: Request,
        *,
        if_busy: str,
        new: SessionInfo | None = None,
        promise: Callable[[int], Awaitable[None]] | None = None,
    ) -> TurnState:
        """Record a turn durably and run it, or queue it behind those that are open.

        `promise` is called with the turn's number before it is recorded; nobody else can take
        that number meanwhile. Raises SessionBusy, SessionNotFound if it was deleted, Unavailable,
        and PositionConflict when the log is not where we thought.
        """
        async with self._ledger.lock:
            self._check_open()
            await self._ledger.look_again()
            number = len(self.state.turns) + 1
            self._check_room(if_busy)
            self._check_context(request)
            if promise is not None:
                await promise(number)
            records, events = self._beginning(request, number, new)
            concerned = self._open() if if_busy == "interrupt" else []
            try:
                await self._ledger.record(
                    [*_cancelled(concerned), *records], pending=True, events=events
                )
            finally:
                self.resume()  # also if nobody knows whether it was recorded
            for turn in concerned:
                self._stop(turn)
            return self.state.turns[number - 1]

    def _beginning(
        self, request: Request, number: int, new: SessionInfo | None
    ) -> tuple[list[NewEntry], list[NewEvent]]:
        """The records and events of a new turn, which runs at once unless others are open."""
        records: list[NewEntry] = []
        events: list[NewEvent] = []
        if new is not None:
            records.append(new.record())
            events.append(session_created(new, request.key_id, request.request_id))
        record = request.record(number)
        records.append(record)
        if not self.state.open_turns:
            self._driver.fresh = number, record
            records.append(started_record(number, self._ledger.head + 1))
            info = new or self._ledger.info
            told = TurnEvents(info, number, request.key_id, request.request_id)
            events.append(told.started(request.goal))
        return records, events

    def _check_open(self) -> None:
        if self.deleted:
            raise SessionNotFound("no such session")
        if self._node.draining:
            raise Unavailable("the server is shutting down", retry_after=1)

    def _check_room(self, if_busy: str) -> None:
        if len(self.state.unended) >= MAX_OPEN_TURNS:
            raise SessionBusy("the cancelled turns have not ended yet", retry_after=1)
        if not self.state.busy:
            return
        if if_busy == "reject":
            raise SessionBusy("a turn is running; wait for its end, queue behind it or interrupt")
        waiting = [turn for turn in self.state.waiting if not turn.withdrawn]
        if if_busy == "enqueue" and len(waiting) >= self._node.limits.queued_turns:
            wait = "a turn waits" if len(waiting) == 1 else f"{len(waiting)} turns wait"
            raise SessionBusy(f"{wait} already", retry_after=1)

    def _check_context(self, request: Request) -> None:
        """What turns add is merged into the session's context, which has the same bound."""
        if not request.context:
            return
        limits = self._node.limits
        merged = dumps({**self.state.context, **request.context})
        if len(merged) > limits.context:
            raise PayloadTooLarge(
                f"the session's context would take {len(merged)} bytes;"
                f" at most {limits.context} fit"
            )
        if has_more_values(merged, limits.json_values):
            raise PayloadTooLarge(
                f"the session's context would have more than {limits.json_values} values and names"
            )

    async def cancel(self, number: int | None) -> list[int]:
        """Cancel the given turn, or all that are open now; the numbers of those that end as
        cancelled for it, whatever becomes of this process."""
        async with self._ledger.lock:
            await self._ledger.look_again()
            asked = [turn for turn in self._open() if number in {None, turn.turn}]
            concerned = [turn for turn in asked if self._stop(turn)]
            records = _cancelled(concerned)
            if records:
                try:
                    await self._ledger.record(records, pending=True)
                finally:
                    self.resume()
            return [turn.turn for turn in concerned]

    async def delete(self, key_id: str | None, request_id: str | None) -> None:
        """Remove the session's streams for good, and tell of it in the same transaction; when
        this returns that was announced. Raises SessionBusy while turns are open."""
        async with self._ledger.lock:
            if self.deleted:
                return
            await self._ledger.look_again()
            if self.state.open_turns:
                raise SessionBusy("a turn is running")
            info = self._ledger.info
            told = session_deleted(info, key_id, request_id)
            self._deleting = True
            try:
                await self._node.log.delete(
                    self.session_id,
                    control_stream(self.session_id),
                    told=events_append(info.organization_id, [told]),
                )
                self.deleted = True
            finally:
                self._deleting = False

    async def settled(self) -> None:
        """Return when no deletion is under way."""
        if self._deleting:
            async with self._ledger.lock:
                return

    def _open(self) -> list[TurnState]:
        return [turn for turn in self.state.unended if not turn.withdrawn]

    def _stop(self, turn: TurnState) -> bool:
        """Stop the turn if it runs. False: it ends in another way already."""
        return turn.status != "running" or self._driver.cancel(turn.turn)

    # -- running ---------------------------------------------------------------------------

    def resume(self) -> None:
        """See to it that open turns are run."""
        if self.pump is None or self.pump.done():
            self.pump = asyncio.create_task(self._run_turns(), name=f"turns {self.session_id}")
            self.pump.add_done_callback(lambda _task: self._retire(self.session_id))
            self._node.own(self.pump)

    async def _run_turns(self) -> None:
        """Until nothing is left to run. What fails here is the log; that is tried again."""
        failures = 0
        while not self._node.stopped.is_set():
            try:
                turn = await self._next()
                if turn is None:
                    return
                await self._finish(turn, await self._driver.run(turn))
                self.adopted.set()
                await trim_oldest(self._node, self.state, self.session_id, self._ledger.head)
                failures = 0
            except StaleWriter:
                log_.warning("session taken over by another writer", session=self.session_id)
                return
            except LogError as error:
                failures += 1
                log_.error(
                    "turn could not start",
                    session=self.session_id,
                    error=str(error),
                    exc_info=error if error.is_defect else None,
                )
                if failures >= _LOOKS and not self.state.open_turns:
                    return  # it is read anew when somebody asks for it
                await asyncio.sleep(_pause(failures))

    async def _next(self) -> TurnState | None:
        if self._ledger.unsure:
            async with self._ledger.lock:
                await self._ledger.look_again()
        running = self.state.running
        if running is not None:
            return running
        if self._node.draining and not any(t.withdrawn for t in self.state.waiting[:1]):
            return None  # what waits goes on at the next start
        return next(iter(self.state.waiting), None)

    async def _finish(self, turn: TurnState, ending: TurnOutcome) -> None:
        """Append `done` and the turn's record together; tries until the store takes it."""
        failures = 0
        while not turn.last:
            try:
                # Under the lock until the state shows it: an execute that follows the `done` at
                # once waits here instead of finding the session busy.
                async with self._ledger.lock:
                    await self._ledger.look_again()
                    if not turn.last:  # else an append whose answer was lost has taken
                        ending = await self._driver.complete(turn, ending)
                        await self._ledger.end(turn, ending)
            except StaleWriter:
                raise
            except LogError as error:
                failures += 1
                log_.error(
                    "turn could not be ended",
                    session=self.session_id,
                    error=str(error),
                    exc_info=error if error.is_defect else None,
                )
                if self._node.stopped.is_set():
                    return  # the next start finds it open and closes it
                await asyncio.sleep(_pause(failures))
            except Exception as error:
                # A defect of ours must not leave the session running for ever.
                failures += 1
                log_.error("turn ended internally", session=self.session_id, exc_info=error)
                ending = self._driver.internal(turn)
                await asyncio.sleep(_pause(failures))
        self._driver.forget(turn.turn)


def _cancelled(turns: list[TurnState]) -> list[NewEntry]:
    """The records that say so of turns that wait or run, unless it is said already."""
    return [
        withdrawn_record(turn.turn) if turn.status == "queued" else stopped_record(turn.turn)
        for turn in turns
        if not turn.stopped
    ]


def _pause(failures: int) -> float:
    return float(min(_RETRY_FIRST * 2 ** min(failures - 1, 10), _RETRY_MAX))
