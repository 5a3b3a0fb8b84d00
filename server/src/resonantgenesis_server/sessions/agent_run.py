"""One running turn: the agent's chunks are written until the turn ends, for whatever reason."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

import structlog

from ..agents.base import Agent, InboxMessage, Turn
from ..log.base import LogError, NewEntry, StaleWriter
from ..model.chunks import AgentChunk, Data, Step
from ..model.errors import AgentError
from ..model.limits import Limits
from .chunks import ChunkMaker, Status, TurnFailure, TurnOutcome
from .inbox import TurnInbox
from .turn_writer import Sealed, TurnWriter

log_ = structlog.get_logger("resonantgenesis.turns")


class AgentRun:
    """Runs an agent for one turn.

    `run` returns once everything but the outcome is durable; the session appends the outcome
    together with the turn's record. `cancel` may be called at any time, more than once.
    """

    def __init__(
        self,
        agent: Agent,
        turn: Turn,
        writer: TurnWriter,
        step_event: Callable[[int, str, int], NewEntry],
        *,
        timeout: float,
        limits: Limits,
        request_id: str,
        abandon: Callable[[asyncio.Task[None]], None],
    ) -> None:
        """`step_event` makes the platform event of a completed step: number, name, duration in ms.
        `abandon` is given the task of an agent that ignores its cancellation. `timeout` is in
        seconds."""
        self.number = turn.turn
        self._agent = agent
        self._turn = turn
        self._writer = writer
        self._step_event = step_event
        self._timeout = timeout
        self._limits = limits
        self._request_id = request_id
        self._abandon = abandon
        self._maker = ChunkMaker(turn.session_id, turn.turn, turn.agent_id, turn.max_steps, limits)
        self._cancelled = False
        #: The outcome is settled; a cancel comes too late.
        self._decided = False
        #: Set when the agent must stop: the turn is cancelled, or its chunks cannot be stored.
        self._halt = asyncio.Event()
        writer.on_error = self._halt.set
        if isinstance(turn.inbox, TurnInbox):
            turn.inbox.connect(self._show_taken)

    def cancel(self) -> bool:
        """Cancel the turn. Returns whether it ends as cancelled: False if it was over already."""
        if not self._decided:
            self._cancelled = True
            self._halt.set()
        return self._cancelled

    async def run(self) -> TurnOutcome:
        """Run the whole turn. An agent's exceptions become its outcome. Raises StaleWriter when
        another process writes the session."""
        if self._cancelled:
            self._decided = True
            return self._outcome_of("cancelled")  # the agent does not run
        agent_task = asyncio.create_task(self._run_agent(), name=f"agent {self._turn.session_id}")
        stop = asyncio.create_task(self._halt.wait())
        try:
            await asyncio.wait(
                {agent_task, stop}, timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED
            )
            # The first event decides. An agent that finishes after a cancel does not undo the
            # cancel. The caller of a later cancel learns that the turn is over.
            self._decided = True
            if self._cancelled:
                outcome = self._outcome_of("cancelled")
                if agent_task.done():  # the agent ended at the same time
                    self._report(agent_task)
            elif agent_task.done():
                outcome = self._end_of(agent_task)
            elif self._writer.error is not None:
                outcome = self._log_failed(self._writer.error)
            else:
                outcome = self._timed_out()
        finally:
            self._writer.seal()
            stop.cancel()
            await self._stop(agent_task)
        try:
            await self._writer.flush()
        except LogError as error:
            failed = self._log_failed(error)
            # The caller of the cancel has the answer already.
            outcome = replace(outcome, unstored=True) if self._cancelled else failed
        return outcome

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

    async def _write_chunk(self, chunk: AgentChunk) -> None:
        if isinstance(chunk, Data) and chunk.transient:
            self._writer.aside(self._maker.aside(chunk))
            await asyncio.sleep(0)  # no full buffer makes such an agent wait
            return
        try:
            for kind, body, step in self._maker.encode(chunk):
                event = None if step is None else self._step_event(*step)
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
        words = f"the turn took longer than {self._timeout:g} s"
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
