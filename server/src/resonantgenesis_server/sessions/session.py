"""A session that this process writes: turns are started, queued, cancelled and run one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import orjson
import structlog
from structlog.contextvars import bind_contextvars

from ..agents.base import InboxMessage
from ..codec.json import dumps, has_more_values
from ..log.base import LogError, NewEntry, PositionConflict, StaleWriter
from ..model.errors import (
    Conflict,
    NotFound,
    PayloadTooLarge,
    SessionBusy,
    SessionNotFound,
    Unavailable,
)
from ..model.events import NewEvent
from ..tracing import spans
from .agent_slots import SlotTicket
from .answers import InputRequest, InputResult, NewAnswer, check_answer
from .chunks import TurnOutcome
from .host import SessionHost
from .inbox import with_left
from .request import IfBusy, TurnRequest
from .session_log import SessionLog, TurnEvents, session_created, session_deleted
from .state import (
    MAX_OPEN_TURNS,
    SessionInfo,
    SessionState,
    TurnState,
    started_record,
    stopped_record,
    withdrawn_record,
)
from .turn_runner import TurnRunner

log_ = structlog.get_logger("resonantgenesis.sessions")

_RETRY_FIRST, _RETRY_MAX = 0.2, 10.0
#: Attempts to read a session without open turns.
_LOOKS = 5


class Session:
    """The one place in this process where a session's streams are written.

    The supervisor keeps it while it has users or open turns.
    """

    def __init__(self, log: SessionLog, host: SessionHost, retire: Callable[[str], None]) -> None:
        """`retire` is called with the session's id when it may have nothing left to do."""
        self.session_id = log.session_id
        self.log = log
        self.users = 0
        self.pump: asyncio.Task[None] | None = None
        #: Set once the orphan has its end.
        self.adopted = asyncio.Event()
        self._host = host
        self._retire = retire
        self._runner = TurnRunner(log, host, self.adopted.set)
        #: The place of the turn that runs or is next, if its agent has a bounded number.
        self._slot: SlotTicket | None = None
        self._changed = asyncio.Event()
        if not log.orphan:
            self.adopted.set()

    @property
    def state(self) -> SessionState:
        return self.log.state

    @property
    def idle(self) -> bool:
        """Whether it has no users and nothing is left to do."""
        return not self.users and (self.pump is None or self.pump.done())

    # -- called by requests ----------------------------------------------------------------
    #
    # Callers run these in tasks that outlive their requests: nothing may get lost between a record
    # and the pump that acts on it.

    async def create(self, info: SessionInfo, key_id: str, request_id: str) -> None:
        """Record a new session without a turn. Raises Unavailable while draining."""
        async with self.log.lock:
            self._check_open()
            self._check_new(info)
            created = session_created(info, key_id, request_id)
            await self.log.record([info.record()], pending=False, events=[created])

    async def start(
        self,
        request: TurnRequest,
        *,
        new: SessionInfo | None = None,
        claim_key: Callable[[int], Awaitable[None]] | None = None,
    ) -> TurnState:
        """Record a turn durably and run it, or queue it behind the open turns.

        `claim_key` is called with the turn's number before the turn is recorded; no other turn can
        take that number meanwhile. Raises SessionBusy, SessionNotFound if the session was deleted,
        Unavailable, and PositionConflict when the log is not where we thought or the session is not
        new any more.
        """
        async with self.log.lock:
            self._check_open()
            await self.log.look_again()
            self._check_new(new)
            number = len(self.state.turns) + 1
            self._check_queue(request.if_busy)
            self._check_replaced(request.replace_turn)
            self._check_context(request)
            if claim_key is not None:
                await claim_key(number)
            records, events = self._beginning(request, number, new)
            interrupted = self._wanted_turns() if request.if_busy == "interrupt" else []
            # Behind a turn that rests nothing is to be done yet, by nobody.
            pending = not self.state.rests or bool(interrupted)
            try:
                await self.log.record(
                    [*_cancelled(interrupted), *records], pending=pending, events=events
                )
                if records[-1].kind == "started":
                    self._runner.expect(number, records[-2])
            finally:
                self.resume()  # also if nobody knows whether it was recorded
            for turn in interrupted:
                self._stop(turn)
            return self.state.turns[number - 1]

    def _beginning(
        self, request: TurnRequest, number: int, new: SessionInfo | None
    ) -> tuple[list[NewEntry], list[NewEvent]]:
        """The records and events of a new turn, which runs at once unless others are open."""
        records: list[NewEntry] = []
        events: list[NewEvent] = []
        if new is not None:
            records.append(new.record())
            events.append(session_created(new, request.key_id, request.request_id))
        records.append(request.record(number))
        if not self.state.open_turns and not request.needs_slot:
            records.append(started_record(number, self.log.head + 1))
            info = new or self.log.info
            turn_events = TurnEvents(
                info, number, request.key_id, request.request_id, request.traceparent
            )
            events += turn_events.begun(request.goal)
        return records, events

    def _check_open(self) -> None:
        if self.log.deleted or self.state.deleted:
            raise SessionNotFound("no such session")
        if self._host.draining:
            raise Unavailable("the server is shutting down", retry_after=1)

    def _check_new(self, new: SessionInfo | None) -> None:
        if new is not None and self.state.info is not None:
            raise PositionConflict("another request has just made the session")

    def _check_queue(self, if_busy: IfBusy) -> None:
        if len(self.state.open_turns) >= MAX_OPEN_TURNS:
            raise SessionBusy("the cancelled turns have not ended yet", retry_after=1)
        if not self.state.busy:
            return
        if if_busy == "reject":
            if self.state.waiting is not None:
                raise SessionBusy("a turn waits for an answer; give it, queue behind or interrupt")
            raise SessionBusy("a turn is running; wait for its end, queue behind it or interrupt")
        waiting = sum(turn.status == "queued" for turn in self._wanted_turns())
        if if_busy == "enqueue" and waiting >= self._host.limits.queued_turns:
            wait = "a turn waits" if waiting == 1 else f"{waiting} turns wait"
            raise SessionBusy(f"{wait} already", retry_after=1)

    def _check_replaced(self, replaced: int) -> None:
        """Only the last turn can be regenerated."""
        last = next((each for each in reversed(self.state.turns) if not each.withdrawn), None)
        if replaced and (last is None or last.turn != replaced):
            raise Conflict(f"turn {replaced} is not the last turn of the session")

    def _check_context(self, request: TurnRequest) -> None:
        """The contexts of turns are merged into the session's, which has the same bound."""
        if not request.context:
            return
        limits = self._host.limits
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

    def deliver(self, turn: int, message: InboxMessage) -> None:
        """Give a recorded message to the turn, if its agent runs here."""
        self._runner.deliver(turn, message)

    async def request(self, turn: TurnState) -> TurnRequest:
        """The request of a turn. Raises LogUnavailable."""
        return await self._host.history.request(self.session_id, turn)

    async def cancel(self, number: int | None) -> list[int]:
        """Cancel this turn, or all that are open. Returns the numbers of the turns that end as
        cancelled, whatever becomes of this process."""
        async with self.log.lock:
            await self.log.look_again()
            asked = [turn for turn in self._wanted_turns() if number in {None, turn.turn}]
            cancelled = [turn for turn in asked if self._stop(turn)]
            records = _cancelled(cancelled)
            if records:
                first = self.state.first_open
                try:
                    await self.log.record(
                        records, pending=not self.state.rests or first in cancelled
                    )
                finally:
                    self.resume()
            return [turn.turn for turn in cancelled]

    # -- answers ---------------------------------------------------------------------------

    async def answer(self, request: InputRequest, key_id: str, request_id: str) -> InputResult:
        """Record an answer to what a turn asks; with the last one the turn goes on.

        The first answer stands: an equal one gets it once more. Raises NotFound for a call that
        nobody asked about, Conflict for another answer, or one that comes too late, InvalidRequest
        for one that does not fit, and Unavailable while draining.
        """
        async with self.log.lock:
            self._check_open()
            await self.log.look_again()
            turn = self._turn_that_asked(request)
            ask = None if turn.waits is None else turn.waits.asks.get(request.call_id)
            if ask is None:
                self._check_equal(turn, request)
            else:
                asked = await self._host.history.ask(self.session_id, ask.position)
                answer = check_answer(request, ask, asked, self._host.limits)
                if ask.expires_at <= self._host.now():
                    await self._give(turn, self._expired(turn))
                    raise Conflict("nobody answered in time: the ask has expired")
                await self._give(turn, [answer], key_id=key_id, request_id=request_id)
            return InputResult(self.session_id, turn.turn, request.call_id, self.state.status)

    async def expire(self) -> int:
        """Record that asks have expired. Returns how many."""
        async with self.log.lock:
            if self.log.deleted or self._host.draining:
                return 0
            await self.log.look_again()
            turn = self.state.waiting
            expired = [] if turn is None or turn.stopped else self._expired(turn)
            if turn is not None and expired:
                await self._give(turn, expired)
            return len(expired)

    def _expired(self, turn: TurnState) -> list[NewAnswer]:
        now = self._host.now()
        return [NewAnswer(ask.call_id, "expired") for ask in turn.asks if ask.expires_at <= now]

    async def _give(
        self,
        turn: TurnState,
        answers: list[NewAnswer],
        *,
        key_id: str | None = None,
        request_id: str | None = None,
    ) -> None:
        try:
            await self.log.answer(turn, answers, key_id=key_id, request_id=request_id)
        finally:  # also if nobody knows whether it was recorded
            self._runner.look()
            self.resume()

    def _turn_that_asked(self, request: InputRequest) -> TurnState:
        """Raises NotFound."""
        turns = reversed(self.state.turns)
        if request.turn is not None:
            named = self.state.turn(request.turn)
            turns = iter(() if named is None else (named,))
        for turn in turns:
            waits = turn.waits
            if waits is not None and (
                request.call_id in waits.asks or request.call_id in waits.answers
            ):
                return turn
        raise NotFound("no turn of the session asks, or has asked, for this call_id")

    def _check_equal(self, turn: TurnState, request: InputRequest) -> None:
        """Raises Conflict unless this very answer was given before."""
        given = None if turn.waits is None else turn.waits.answers.get(request.call_id)
        if given is None or given.status == "cancelled":
            over = "" if turn in self.state.open_turns else f": it has ended ({turn.status})"
            raise Conflict(f"turn {turn.turn} does not wait for this answer any more{over}")
        if given.status == "expired":
            raise Conflict("nobody answered in time: the ask has expired")
        if given.digest != NewAnswer.of(request).digest:
            raise Conflict("another answer was given first")

    async def delete(self, key_id: str | None, request_id: str | None) -> None:
        """Remove the session, and its streams unless forks show them. Raises SessionBusy while
        turns are open."""
        async with self.log.lock:
            if self.log.deleted:
                return
            await self.log.look_again()
            if self.state.open_turns:
                raise SessionBusy("a turn is running")
            deleted = session_deleted(self.log.info, key_id, request_id)
            if not self.state.forks and not (self._host.is_shared and self.state.turns):
                await self.log.delete(deleted)
                return
            # Its forks keep its streams. Of many nodes another one might just be forking it: the
            # record decides between the two.
            await self.log.hide(deleted)
            if not self.state.forks:
                await self.log.delete(None)

    def _wanted_turns(self) -> list[TurnState]:
        """The open turns, without those that were withdrawn."""
        return [turn for turn in self.state.open_turns if not turn.withdrawn]

    def _stop(self, turn: TurnState) -> bool:
        """Stop the turn if it runs. Returns False if it ends in another way already."""
        return turn.status == "queued" or self._runner.cancel(turn.turn)

    @property
    def can_begin_again(self) -> bool:
        """Whether the running turn can be left to the next start: nothing of it is there yet."""
        return self._runner.can_begin_again

    # -- running ---------------------------------------------------------------------------

    def resume(self) -> None:
        """Run the open turns, unless they are run already."""
        self.look()
        if self.pump is None or self.pump.done():
            self.pump = asyncio.create_task(self._run_turns(), name=f"turns {self.session_id}")
            self.pump.add_done_callback(lambda _task: self._retire(self.session_id))
            self._host.own(self.pump)

    def look(self) -> None:
        """Look again whether the turn that waits for a slot is to wait any more."""
        self._changed.set()

    async def _run_turns(self) -> None:
        try:
            await self._run_all()
        finally:
            self._leave_slot()

    async def _run_all(self) -> None:
        """Run turns until none is left. Only the log can fail here; it is tried again."""
        failures = 0
        while not self._host.stopped.is_set():
            try:
                turn = await self._next()
                if turn is None:
                    return
                outcome = await self._run_turn(turn)
                self._leave_slot()
                if outcome is None:
                    continue  # it waits, with nobody in place
                self.adopted.set()
                await self.log.trim(self._host.limits.chunks_per_session)
                failures = 0
            except StaleWriter:
                log_.warning("session taken over by another writer", session=self.session_id)
                return
            except LogError as error:
                failures += 1
                self._log_failure("turn could not start", error)
                if failures >= _LOOKS and not self.state.open_turns:
                    return  # the next request for the session reads it anew
                await asyncio.sleep(_pause(failures))

    async def _run_turn(self, turn: TurnState) -> TurnOutcome | None:
        """Run the turn and write its end; None if it waits with nobody in place."""
        agent_id = self.log.info.agent_id
        with spans.turn(agent_id, self.session_id, turn.turn, turn.traceparent) as span:
            bind_contextvars(**span.log_fields)
            outcome = await self._runner.run(turn)
            if outcome is None:
                span.set(resonantgenesis__status="waiting")
                return None
            span.set(
                resonantgenesis__status=outcome.status,
                gen_ai__usage__input_tokens=outcome.usage["input_tokens"],
                gen_ai__usage__output_tokens=outcome.usage["output_tokens"],
            )
            if outcome.failure is not None:
                span.fail(outcome.failure.code)
            done = outcome.chunks[-1].body
            span.show(
                gen_ai__output__messages=lambda: spans.messages(
                    "assistant", orjson.loads(done)["output"]
                )
            )
            await self._finish(turn, outcome)
        return outcome

    async def _next(self) -> TurnState | None:
        """The running turn, else the first queued one."""
        if self.log.unsure:
            async with self.log.lock:
                await self.log.look_again()
        turn = self.state.first_open
        if turn is not None and turn.status == "waiting":
            return await self._next_of_waiting(turn)
        if turn is not None and turn.status == "queued":
            await self._take_slot(turn)
            if self._host.draining:
                return turn if turn.withdrawn else None  # a queued turn goes on at the next start
        return turn

    async def _next_of_waiting(self, turn: TurnState) -> TurnState | None:
        """The turn if it is to be ended: it was cancelled, or has lost its process."""
        if turn.stopped or self._runner.has_lost(turn):
            return turn
        if not turn.rests:  # the process that held it has died
            async with self.log.lock:
                await self.log.look_again()
                if turn.status == "waiting" and not turn.stopped:
                    await self.log.park(turn)
        return None if turn.rests else turn

    async def _take_slot(self, turn: TurnState) -> None:
        """Wait until the agent may run one more turn, or the turn is withdrawn, or the drain
        begins."""
        if self._slot is None:
            self._slot = await self._host.ask_slot(
                self.log.info.organization_id, self.log.info.agent_id, self.look
            )
        while self._slot is not None and not self._slot.has_slot:
            self._changed.clear()
            if turn.withdrawn or self._host.draining:
                return
            await self._changed.wait()

    def _leave_slot(self) -> None:
        if self._slot is not None:
            self._slot.leave()
            self._slot = None

    async def _finish(self, turn: TurnState, outcome: TurnOutcome) -> None:
        """Append `done` and the turn's record together; tries until the store takes them."""
        failures = 0
        while not turn.last:
            try:
                # Under the lock until the state shows the end: an execute right after the `done`
                # waits here, and does not find the session busy.
                async with self.log.lock:
                    await self.log.look_again()
                    if not turn.last:  # else an append whose answer was lost has succeeded
                        outcome = await self._runner.complete(turn, outcome)
                        log, name = self._host.log, self.session_id
                        await self.log.end(turn, await with_left(log, name, turn, outcome))
            except StaleWriter:
                raise
            except LogError as error:
                failures += 1
                self._log_failure("turn could not be ended", error)
                if self._host.stopped.is_set():
                    return  # the next start finds it open and closes it
                await asyncio.sleep(_pause(failures))
            except Exception as error:
                # A defect of ours must not leave the session running for ever.
                failures += 1
                log_.error("turn ended internally", session=self.session_id, exc_info=error)
                outcome = self._runner.internal_error(turn)
                await asyncio.sleep(_pause(failures))
        self._runner.forget(turn.turn)

    def _log_failure(self, event: str, error: LogError) -> None:
        # Of two nodes that adopt a session at once, one comes second.
        say = log_.warning if isinstance(error, PositionConflict) else log_.error
        say(
            event,
            session=self.session_id,
            error=str(error),
            exc_info=error if error.is_defect else None,
        )


def _cancelled(turns: list[TurnState]) -> list[NewEntry]:
    """The records that these turns are cancelled, unless they have one already."""
    return [
        withdrawn_record(turn.turn) if turn.status == "queued" else stopped_record(turn.turn)
        for turn in turns
        if not turn.stopped
    ]


def _pause(failures: int) -> float:
    return float(min(_RETRY_FIRST * 2 ** min(failures - 1, 10), _RETRY_MAX))
