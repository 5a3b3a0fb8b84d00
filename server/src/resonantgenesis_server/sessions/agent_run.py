"""One run of a turn's agent: its chunks are written until the turn ends, for whatever reason, or
stops to wait for answers with nobody in place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

import structlog

from ..agents.base import Agent, Answer, InboxMessage, Turn
from ..log.base import LogError, LogOverloaded, NewEntry, StaleWriter
from ..model.chunks import AgentChunk, Ask, Data, Happened, Keep, Step, Usage
from ..model.errors import AgentError
from ..model.limits import Limits
from .answers import NewAnswer
from .asks import Answers, Stop, TurnQuestions, check_kept
from .chunks import ChunkMaker, Status, TurnFailure, TurnOutcome
from .history import TurnHistory
from .inbox import TurnInbox
from .session_log import SessionLog
from .state import Resume, TurnState
from .turn_writer import Sealed, TurnWriter

log_ = structlog.get_logger("resonantgenesis.turns")

#: Seconds that an agent is kept in its place while its turn waits. Then the turn holds no process.
HOLD_SECONDS = 60.0
#: Seconds between two looks whether a held turn goes on, besides when it is told so.
_LOOK = 1.0
#: Seconds after which a stop is tried again that the log had no room for.
_PAUSE = 0.05


class TurnStops:
    """Records the stops of a turn whose agent runs in this process. `now` gives the time, in
    seconds since 1970."""

    def __init__(
        self,
        log: SessionLog,
        turn: TurnState,
        history: TurnHistory,
        now: Callable[[], float],
        is_draining: Callable[[], bool],
    ) -> None:
        self.turn = turn
        self.now = now
        self._log = log
        self._history = history
        self._draining = is_draining

    @property
    def is_draining(self) -> bool:
        return self._draining()

    async def record(self, stop: Stop, *, unless: Callable[[], bool]) -> bool:
        """Record that the turn waits. Returns False where it must not. Raises LogError."""
        async with self._log.lock:
            await self._log.look_again()
            if unless():
                return False
            await self._log.stop(self.turn, stop)
            return True

    async def park(self) -> bool:
        """Record that no process holds the turn. Returns False if it is held on: an answer has
        come, or the log fails now. Raises StaleWriter."""
        try:
            async with self._log.lock:
                await self._log.look_again()
                if self.turn.status != "waiting" or self.turn.stopped:
                    return False
                await self._log.park(self.turn)
                return True
        except StaleWriter:
            raise
        except LogError:
            return False

    async def withdraw(self, call_ids: Iterable[str]) -> None:
        """Record that the agent waits for these calls no more. Raises StaleWriter."""
        with suppress(LogOverloaded):  # it is looked at again
            async with self._log.lock:
                await self._log.look_again()
                open_ids = [ask.call_id for ask in self.turn.asks if ask.call_id in set(call_ids)]
                if open_ids:
                    given = [NewAnswer(call_id, "cancelled") for call_id in open_ids]
                    await self._log.answer(self.turn, given)

    async def look_again(self) -> None:
        """Find out what an append has done whose answer was lost. Raises StaleWriter."""
        if not self._log.unsure:
            return
        try:
            async with self._log.lock:
                await self._log.look_again()
        except StaleWriter:
            raise
        except LogError:
            return  # it is looked at again

    async def answers(self) -> Mapping[str, Answer]:
        """All answers of the turn up to now. Raises LogUnavailable."""
        return await self._history.answers(self._log.session_id, self.turn)


class AgentRun:
    """Runs an agent for one turn, or for the part of it behind its newest stop.

    `run` returns once everything but the outcome is durable; the session appends the outcome
    together with the turn's record. `cancel` may be called at any time, more than once.
    """

    def __init__(
        self,
        agent: Agent,
        turn: Turn,
        writer: TurnWriter,
        maker: ChunkMaker,
        stops: TurnStops,
        step_event: Callable[[int, str, int], NewEntry],
        happened: Callable[[Happened], NewEntry],
        *,
        replays: bool,
        timeout: float,
        limits: Limits,
        request_id: str,
        abandon: Callable[[asyncio.Task[None]], None],
    ) -> None:
        """`maker` has taken in what the turn has written before. `step_event` makes the platform
        event of a completed step: number, name, duration in ms; `happened` those of the agent
        itself. `replays`: the agent runs up to its
        asks once more. `abandon` is given the task of an agent that ignores its cancellation.
        `timeout` is in seconds of running."""
        self.number = turn.turn
        self._agent = agent
        self._writer = writer
        self._first = writer.position
        self._maker = maker
        self._stops = stops
        self._step_event = step_event
        self._happened = happened
        #: The event that goes with the next chunk.
        self._event: NewEntry | None = None
        self._timeout = timeout
        self._limits = limits
        self._request_id = request_id
        self._abandon = abandon
        #: Set when there is something to decide: the turn is cancelled or asks, its chunks cannot
        #: be stored, or answers have come.
        self._wake = asyncio.Event()
        writer.on_error = self._wake.set
        answers = Answers(turn.answers)
        numbering = maker
        if replays:  # it is numbered as the first run was, from the start, and is not written
            numbering = ChunkMaker(
                turn.session_id, turn.turn, turn.agent_id, turn.max_steps, limits
            )
        self._questions = TurnQuestions(
            turn.turn,
            answers,
            numbering,
            replays=replays,
            limits=limits,
            now=stops.now,
            ready=self._wake.set,
            show=self._write_chunk,
        )
        self._turn = replace(turn, answers=answers, asks=self._questions)
        self._kept = turn.kept
        self._cancelled = False
        #: The outcome is settled; a cancel comes too late.
        self._decided = False
        if isinstance(turn.inbox, TurnInbox):
            turn.inbox.connect(self._show_taken)

    @property
    def waits(self) -> bool:
        """Whether the turn waits for answers now."""
        return self._stops.turn.status == "waiting"

    @property
    def can_begin_again(self) -> bool:
        """Whether another process may run the turn from its start: it has no chunk yet."""
        is_empty = self._writer.position == self._first
        return is_empty and bool(getattr(self._agent, "can_begin_again", False))

    def cancel(self) -> bool:
        """Cancel the turn. Returns whether it ends as cancelled: False if it was over already."""
        if not self._decided:
            self._cancelled = True
            self._wake.set()
        return self._cancelled

    def look(self) -> None:
        """The turn may go on, or must let its agent go."""
        self._wake.set()

    async def run(self) -> TurnOutcome | None:
        """Run until the turn ends; None if it waits with nobody in place. An agent's exceptions
        become its outcome. Raises StaleWriter when another process writes the session."""
        if self._cancelled:
            self._decided = True
            return self._outcome_of("cancelled")  # the agent does not run
        agent_task = asyncio.create_task(self._run_agent(), name=f"agent {self._turn.session_id}")
        try:
            outcome = await self._until_decided(agent_task)
        finally:
            self._writer.seal()
            self._questions.close()
            # Else its references in a circle would keep the turn's output until the collector of
            # garbage comes, which is rare.
            if isinstance(self._turn.inbox, TurnInbox):
                self._turn.inbox.close()
            await self._stop(agent_task)
        if outcome is None:
            return None
        try:
            await self._writer.flush()
        except LogError as error:
            failed = self._log_failed(error)
            # The caller of the cancel has the answer already.
            outcome = replace(outcome, unstored=True) if self._cancelled else failed
        return outcome

    async def _until_decided(self, agent_task: asyncio.Task[None]) -> TurnOutcome | None:
        while True:
            await self._something(agent_task, self._timeout - self._maker.ran)
            # The first event decides. An agent that finishes after a cancel does not undo the
            # cancel. The caller of a later cancel learns that the turn is over.
            if self._cancelled or self._writer.error is not None:
                break
            if agent_task.done():
                if not self._has_asked(agent_task):
                    break
                if await self._record_stop("continue", held=False):
                    return None
                break
            if self._questions.are_ready:
                resume: Resume = "replay" if self._is_restartable else "never"
                if not await self._record_stop(resume, held=True):
                    break
                if not await self._held(agent_task, resume):
                    return None
                if self._cancelled or agent_task.done():
                    break
            elif self._maker.ran >= self._timeout:
                break
        self._decided = True
        return self._decision(agent_task)

    def _decision(self, agent_task: asyncio.Task[None]) -> TurnOutcome:
        if self._cancelled:
            if agent_task.done():  # the agent ended at the same time
                self._report(agent_task)
            return self._outcome_of("cancelled")
        if agent_task.done():
            return self._end_of(agent_task)
        if self._writer.error is not None:
            return self._log_failed(self._writer.error)
        return self._timed_out()

    async def _something(self, agent_task: asyncio.Task[None], seconds: float) -> None:
        """Wait for the agent's end or a wake-up."""
        if not self._wake.is_set() and seconds > 0:
            wake = asyncio.create_task(self._wake.wait())
            try:
                await asyncio.wait(
                    {agent_task, wake}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                wake.cancel()
        self._wake.clear()

    # -- stops -----------------------------------------------------------------------------

    @property
    def _is_restartable(self) -> bool:
        return bool(getattr(self._agent, "restartable", True))

    def _has_asked(self, agent_task: asyncio.Task[None]) -> bool:
        """Whether the agent has returned, and left asks."""
        if agent_task.cancelled() or agent_task.exception() is not None:
            return False
        return bool(self._questions.gathered)

    async def _record_stop(self, resume: Resume, *, held: bool) -> bool:
        """Record that the turn waits. Returns False if it ends instead."""
        maker = self._maker
        while True:
            try:
                await self._writer.flush()
                self._writer.hold()
                stop = Stop(
                    self._questions.gathered,
                    resume,
                    held,
                    maker.ran,
                    maker.input_tokens,
                    maker.output_tokens,
                    self._kept,
                )
                if not await self._stops.record(stop, unless=lambda: self._cancelled):
                    return False
            except LogOverloaded:
                await asyncio.sleep(_PAUSE)
                continue
            except StaleWriter:
                raise
            except LogError as error:
                self._writer.fail(error)
                return False
            self._questions.stopped()
            return True

    async def _held(self, agent_task: asyncio.Task[None], resume: Resume) -> bool:
        """Keep the agent in its place until the turn goes on or ends. Returns False if the turn
        waits without its agent from now on."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while self.waits and not self._cancelled and not agent_task.done():
            if self._questions.withdrawn:
                await self._stops.withdraw(self._questions.withdrawn)
                self._questions.withdrawn.clear()
                continue
            is_late = loop.time() - began >= HOLD_SECONDS or self._stops.is_draining
            if is_late and resume != "never" and await self._stops.park():
                return False
            await self._something(agent_task, _LOOK)
            await self._stops.look_again()
        self._maker.waited(loop.time() - began)
        if not self._cancelled and not agent_task.done():
            try:
                self._questions.answered(await self._stops.answers())
                self._writer.go_on()
            except LogError as error:
                self._writer.fail(error)
        return True

    # -- the agent -------------------------------------------------------------------------

    async def _run_agent(self) -> None:
        try:
            await self._write_chunks()
        except (KeyboardInterrupt, SystemExit) as error:
            # From a task these go on through the event loop, which would end the whole server.
            raise RuntimeError(f"the agent raised {type(error).__name__}") from error

    async def _write_chunks(self) -> None:
        chunks = self._agent.run(self._turn)
        maker, put = self._maker, self._writer.put
        last = self._writer.position + self._limits.chunks_per_session
        try:
            if self._questions.replaying:
                await self._replay(chunks)
            async for chunk in chunks:
                # The hot path: nearly every chunk is a token.
                if isinstance(chunk, str) and (token := maker.token(chunk)) is not None:
                    if not put("message", token):
                        await self._writer.write("message", token)
                    maker.add_output(chunk, token)
                else:
                    await self._write_chunk(chunk)
                if self._writer.position > last:
                    raise AgentError("the turn has too many chunks", "PAYLOAD_TOO_LARGE")
        finally:
            # An agent stopped by an error of ours still runs its cleanup here and now.
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()

    async def _replay(self, chunks: AsyncIterator[AgentChunk]) -> None:
        """Leave out what the agent yields before it has its answers: it was written before. Its
        tokens count, since it has used them again."""
        numbering = self._questions.maker
        async for chunk in chunks:
            if not self._questions.replaying:
                self._questions.maker = self._maker
                await self._write_chunk(chunk)
                return
            if isinstance(chunk, Usage):
                list(self._maker.encode(chunk))
            elif isinstance(chunk, Ask):
                await self._questions.yielded(chunk)
            elif not isinstance(chunk, Keep):
                list(numbering.encode(chunk))
        if self._questions.replaying:
            raise AgentError("the agent was started again, and did not ask as it had before")
        self._questions.maker = self._maker

    async def _write_chunk(self, chunk: AgentChunk) -> None:
        if isinstance(chunk, Data) and chunk.transient:
            self._writer.aside(self._maker.aside(chunk))
            await asyncio.sleep(0)  # no full buffer makes such an agent wait
            return
        if isinstance(chunk, Ask):
            await self._questions.yielded(chunk)
            return
        if isinstance(chunk, Keep):
            self._kept = check_kept(chunk.value)
            return
        if isinstance(chunk, Happened):
            self._event = self._happened(chunk)
            return
        try:
            for kind, body, step in self._maker.encode(chunk):
                if step is not None:
                    event: NewEntry | None = self._step_event(*step)
                else:
                    event, self._event = self._event, None
                # A step that the agent did not yield is followed by the chunk that implied it.
                implied = kind == "step" and not isinstance(chunk, Step)
                await self._writer.write(kind, body, event, more=implied)
        finally:
            self._writer.push()  # the implied step goes out even if its chunk was refused

    async def _show_taken(self, message: InboxMessage) -> None:
        """Write that the agent takes a message. Raises Sealed once the turn is over."""
        for kind, body, _ in self._maker.taken(message.message_id, message.content):
            await self._writer.write(kind, body, more=kind == "step")

    async def _stop(self, agent_task: asyncio.Task[None]) -> None:
        if agent_task.done():
            return
        agent_task.cancel()
        _, running = await asyncio.wait({agent_task}, timeout=self._limits.cancel_grace)
        if running:
            log_.warning(
                "agent ignores its cancellation",
                session=self._turn.session_id,
                turn=self.number,
                agent=self._turn.agent_id,
            )
            self._abandon(agent_task)
        else:
            self._report(agent_task)

    # -- outcomes --------------------------------------------------------------------------

    def _outcome_of(
        self, status: Status, failure: TurnFailure | None = None, *, unstored: bool = False
    ) -> TurnOutcome:
        self._writer.seal()
        chunks = list(self._maker.close_steps(status))
        if failure is not None:
            chunks.append(failure.chunk(self._request_id))
        usage = self._maker.usage()
        chunks.append(self._maker.done(status, usage))
        return TurnOutcome(status, chunks, usage, failure, unstored)

    def _timed_out(self) -> TurnOutcome:
        allowed = self._timeout < self._limits.max_timeout
        field = "timeout_seconds" if allowed else "the server's limits.max_timeout"
        words = f"the turn took longer than {self._timeout:g} s; raise {field}"
        lack_of = getattr(self._agent, "lack_of", None)
        if lack_of is not None and (lack := lack_of(self._turn)):
            words = f"the turn did not begin within {self._timeout:g} s: {lack}"
        return self._outcome_of("timeout", TurnFailure("TIMEOUT", words, retryable=True))

    def _end_of(self, agent_task: asyncio.Task[None]) -> TurnOutcome:
        if agent_task.cancelled():
            return self._failed(AgentError("the agent cancelled itself"))
        error = agent_task.exception()
        if error is None:
            return self._outcome_of("success")
        if isinstance(error, AgentError):
            return self._failed(error)
        if isinstance(error, LogError):
            return self._log_failed(error)
        self._report(agent_task)
        return self._failed(AgentError("the agent failed"))

    def _log_failed(self, error: LogError) -> TurnOutcome:
        # Another writer of the session is nothing that goes wrong here.
        say = log_.warning if isinstance(error, StaleWriter) else log_.error
        say("chunks refused by the log", session=self._turn.session_id, error=str(error))
        failure = TurnFailure("UNAVAILABLE", "the answer could not be stored", True, 1.0)
        return self._outcome_of("failed", failure, unstored=True)

    def _failed(self, error: AgentError) -> TurnOutcome:
        failure = TurnFailure.of(error)
        if failure.code == "RATE_LIMITED" and failure.retry_after is None:
            failure = replace(failure, retry_after=1.0)  # clients are promised a number
        return self._outcome_of("failed", failure)

    def _report(self, agent_task: asyncio.Task[None]) -> None:
        """Log an agent's exception, which clients must not see."""
        if agent_task.cancelled():
            return
        error = agent_task.exception()
        if error is None or isinstance(error, Sealed | AgentError | LogError):
            return
        log_.error(
            "agent failed",
            session=self._turn.session_id,
            turn=self.number,
            agent=self._turn.agent_id,
            request_id=self._request_id,
            exc_info=error,
        )
