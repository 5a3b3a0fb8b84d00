"""Runs one turn of a session at a time, from its record to its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import structlog
from structlog.contextvars import bind_contextvars

from ..agents.base import Agent, InboxMessage, Turn, TurnFiles
from ..codec.events import entry_of
from ..log.base import LogError, NewEntry, StaleWriter
from ..model.errors import (
    ApiError,
    Internal,
    Unavailable,
)
from ..tracing import spans
from .agent_run import AgentRun, TurnStops
from .chunks import ChunkMaker, Status, TurnFailure, TurnOutcome
from .history import RUNNER_LOST, ending_from_log
from .host import SessionHost
from .inbox import TurnInbox, waiting_messages
from .request import TurnRequest
from .session_log import SessionLog, TurnEvents
from .state import (
    TurnState,
)

log_ = structlog.get_logger("resonantgenesis.sessions")

#: Seconds to look up the agent and the history, which are local, before the agent runs.
_PREPARE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A turn that can run: its request, its agent, the agent's view of it, and the maker of its
    chunks, which knows what the turn has written before."""

    request: TurnRequest
    agent: Agent
    view: Turn
    maker: ChunkMaker


class TurnRunner:
    """Runs one turn of a session at a time, from its record to its outcome."""

    def __init__(self, log: SessionLog, host: SessionHost, adopted: Callable[[], None]) -> None:
        """`adopted` is called when the orphan runs again."""
        self._log = log
        self._host = host
        self._adopted = adopted
        #: Number and record of the newest turn, if it runs at once.
        self._expected: tuple[int, NewEntry] | None = None
        self._run: AgentRun | None = None
        self._inbox: TurnInbox | None = None
        self._cancelled: set[int] = set()
        #: The turn whose outcome is settled, and is being written.
        self._decided = 0

    def expect(self, number: int, record: NewEntry) -> None:
        """Keep the record of a turn that runs at once: it need not be read from the log."""
        self._expected = number, record

    @property
    def can_begin_again(self) -> bool:
        """Whether the running turn can be left to the next start."""
        return self._run is not None and self._run.can_begin_again

    def cancel(self, number: int) -> bool:
        """Stop a running turn, whether or not its agent was asked yet.

        Returns False for a turn that is over and ends in another way, even if its `done` is not in
        the log yet.
        """
        if self._run is not None and self._run.number == number:
            succeeds = self._run.cancel()
        else:
            succeeds = number in self._cancelled or number not in {self._decided, self._log.orphan}
        if succeeds:
            self._cancelled.add(number)
        return succeeds

    def deliver(self, number: int, message: InboxMessage) -> None:
        """Give the turn a message, if it runs."""
        if self._inbox is not None and self._inbox.turn == number:
            self._inbox.deliver(message)

    def forget(self, number: int) -> None:
        """The turn has ended."""
        self._cancelled.discard(number)

    def look(self) -> None:
        """Answers have come."""
        if self._run is not None:
            self._run.look()

    def has_lost(self, turn: TurnState) -> bool:
        """Whether the turn cannot go on without its process, which has died."""
        return turn.turn == self._log.orphan

    async def run(self, turn: TurnState) -> TurnOutcome | None:
        """Run the turn; None if it waits with nobody in place. Raises LogError if it could not
        even be started, and may be later."""
        outcome = await self._run_turn(turn)
        if outcome is not None:
            self._decided = turn.turn  # without an await in between: nobody can cancel it meanwhile
        return outcome

    async def _run_turn(self, turn: TurnState) -> TurnOutcome | None:
        # The session's task has the context variables of the request that started it.
        bind_contextvars(
            session=self._log.session_id,
            turn=turn.turn,
            request_id=turn.request_id,
            key_id=turn.key_id,
        )
        if turn.turn == self._log.orphan:
            if not await self._can_begin_again(turn):
                return await self._from_log(turn, None if turn.stopped else RUNNER_LOST)
            self._log.orphan = 0
            self._adopted()
        if turn.status == "waiting":
            return await self._from_log(turn, None)  # it was cancelled, and no agent runs
        if turn.status == "queued":
            await self._begin(turn)
        if turn.withdrawn:
            return self._without_agent(turn, "cancelled")
        try:
            with self._host.files(self._log.info) as files:
                prepared = await self._prepare(turn, files)
                return await self._run_agent(turn, prepared)
        except StaleWriter:
            raise
        except LogError as error:
            log_.error("turn could not start", session=self._log.session_id, error=str(error))
            failure = TurnFailure.of(Unavailable("the turn could not be stored", retry_after=1))
        except ApiError as error:
            failure = TurnFailure.of(error)
        except Exception as error:  # a defect of ours must not leave the session running for ever
            log_.error("turn failed internally", session=self._log.session_id, exc_info=error)
            failure = TurnFailure.of(Internal("the turn failed internally"))
        return self._failed(turn, failure)

    async def complete(self, turn: TurnState, outcome: TurnOutcome) -> TurnOutcome:
        """The outcome with the output that viewers can read. Raises LogUnavailable."""
        if not outcome.unstored:
            return outcome
        return await self._from_log(turn, outcome.failure, outcome.usage)

    def internal_error(self, turn: TurnState) -> TurnOutcome:
        """For a turn whose own outcome cannot be stored."""
        return self._failed(turn, TurnFailure.of(Internal("the turn failed internally")))

    async def _from_log(
        self, turn: TurnState, failure: TurnFailure | None, usage: Mapping[str, int] | None = None
    ) -> TurnOutcome:
        history, limits = self._host.history, self._host.limits
        return await ending_from_log(history, self._log.session_id, turn, failure, usage, limits)

    # -- inside ----------------------------------------------------------------------------

    async def _can_begin_again(self, turn: TurnState) -> bool:
        """Whether a turn whose process died has no chunk yet, and its agent takes it once more."""
        if turn.stopped or self._log.head >= turn.first:
            return False
        info = self._log.info
        try:
            resolved = await self._host.agents.resolve(info.organization_id, info.agent_id)
        except ApiError:
            return False
        return getattr(resolved.agent, "can_begin_again", False)

    async def _begin(self, turn: TurnState) -> None:
        """Record the start of a turn that waited, unless it was withdrawn meanwhile."""
        while True:
            record = turn.record
            request = await self._host.history.request(self._log.session_id, turn)
            await self._host.log.room(self._log.session_id)
            async with self._log.lock:
                if not turn.withdrawn and turn.record == record:
                    await self._log.begin(turn, request.goal)
            if turn.withdrawn or turn.record == record:
                break  # else it was edited meanwhile

    async def _prepare(self, turn: TurnState, files: TurnFiles) -> _Prepared:
        """Raises ApiError, e.g. when the agent is gone."""
        info, host = self._log.info, self._host
        try:
            async with asyncio.timeout(_PREPARE_SECONDS):
                request = await self._request(turn)
                agent = await host.agents.resolve(info.organization_id, info.agent_id)
                maker = ChunkMaker(
                    info.session_id, turn.turn, info.agent_id, request.max_steps, host.limits
                )
                before = await host.history.before_stop(info.session_id, turn, maker)
                view = await host.history.prepare(
                    info, self._log.state, turn, request, agent, files, before
                )
                return _Prepared(request, agent.agent, view, maker)
        except TimeoutError as error:
            raise Unavailable("the turn could not be prepared in time", retry_after=1) from error

    async def _request(self, turn: TurnState) -> TurnRequest:
        expected, self._expected = self._expected, None
        if expected is not None and expected[0] == turn.turn:
            return TurnRequest.of(expected[1].body)
        return await self._host.history.request(self._log.session_id, turn)

    async def _run_agent(self, turn: TurnState, prepared: _Prepared) -> TurnOutcome | None:
        host, events = self._host, TurnEvents.of(self._log.info, turn)
        request = prepared.request
        spans.current().show(gen_ai__input__messages=lambda: spans.messages("user", request.goal))
        stops = TurnStops(self._log, turn, host.history, host.now, lambda: host.draining)
        watch: asyncio.Task[None] | None = None
        inbox = self._inbox = TurnInbox(turn.turn)
        slot = partial(host.slot, self._log.info.organization_id)
        view = replace(prepared.view, inbox=inbox, slot=slot)
        for message in await waiting_messages(host.log, self._log.session_id, turn):
            inbox.deliver(message)
        with self._log.writing() as writer:
            writer.on_aside = partial(host.show_aside, self._log.session_id)
            self._run = run = AgentRun(
                prepared.agent,
                view,
                writer,
                prepared.maker,
                stops,
                lambda *step: entry_of(events.step_completed(*step)),
                lambda happened: entry_of(events.happened(happened)),
                replays=turn.waits is not None and turn.waits.resume == "replay",
                timeout=request.timeout_seconds,
                limits=host.limits,
                request_id=request.request_id,
                abandon=host.own,
            )
            if turn.turn in self._cancelled or turn.stopped:
                run.cancel()
            if request.on_disconnect == "cancel":
                watch = asyncio.create_task(self._cancel_unwatched(run), name="on_disconnect")
                host.own(watch)
            try:
                return await run.run()
            finally:
                self._run = self._inbox = None
                if watch is not None:
                    watch.cancel()

    async def _cancel_unwatched(self, run: AgentRun) -> None:
        """Cancel the turn once nobody has read its session for the whole grace.

        A client that waits for the turn's end reads the records instead of the chunks, and counts
        as long as it is there. A poll counts for its moment.
        """
        loop, hub, log = asyncio.get_running_loop(), self._host.hub, self._log
        grace = self._host.limits.disconnect_grace
        log.viewed()
        while True:
            while run.waits or loop.time() - log.viewed_at < grace:
                if run.waits:  # nobody has to look on while the turn waits
                    log.viewed()
                if hub.is_watched(log.session_id) or hub.is_watched(log.control):
                    log.viewed()
                await asyncio.sleep(min(0.5, grace / 4))
            if not await self._host.is_viewed_elsewhere(log.session_id, grace):
                break
            log.viewed()
        run.cancel()

    def _failed(self, turn: TurnState, failure: TurnFailure) -> TurnOutcome:
        """The outcome of a turn whose agent was not run to its end. A cancelled turn ends as
        cancelled, since the caller of the cancel has that answer already."""
        if turn.turn in self._cancelled:
            return self._without_agent(turn, "cancelled")
        return self._without_agent(turn, "failed", failure)

    def _without_agent(
        self, turn: TurnState, status: Status, failure: TurnFailure | None = None
    ) -> TurnOutcome:
        session_id, limits = self._log.session_id, self._host.limits
        maker = ChunkMaker(session_id, turn.turn, "", max_steps=1, limits=limits)
        usage = maker.usage()
        done = maker.done(status, usage)
        chunks = [done] if failure is None else [failure.chunk(turn.request_id), done]
        return TurnOutcome(status, chunks, usage, failure)
