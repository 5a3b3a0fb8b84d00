"""One running turn: the agent driven to its end, whatever ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

import structlog

from ..agents.base import Agent, Turn
from ..codec.events import entry_of
from ..log.base import LogError
from ..model.chunks import AgentChunk, Step
from ..model.errors import AgentError
from ..model.limits import Limits
from .chunks import ChunkMaker
from .events import TurnEvents
from .outcome import Status, TurnFailure, TurnOutcome
from .turn_writer import Sealed, TurnWriter

log_ = structlog.get_logger("resonantgenesis.turns")


class AgentRun:
    """Drives an agent through one turn.

    `run` returns once everything but the ending is durable; writing the ending together with the
    turn's record is the session's. `cancel` may be called at any time, more than once.
    """

    def __init__(
        self,
        agent: Agent,
        turn: Turn,
        writer: TurnWriter,
        events: TurnEvents,
        *,
        timeout: float,
        limits: Limits,
        request_id: str,
        abandon: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self.number = turn.turn
        self._agent = agent
        self._turn = turn
        self._writer = writer
        self._events = events
        self._timeout = timeout
        self._limits = limits
        self._request_id = request_id
        self._abandon = abandon
        self._maker = ChunkMaker(turn.session_id, turn.turn, turn.agent_id, turn.max_steps, limits)
        self._cancelled = False
        #: How it ends is settled; a cancel comes too late.
        self._decided = False
        #: Set when the agent is to be stopped: cancelled, or what it says cannot be stored.
        self._halt = asyncio.Event()
        writer.on_error = self._halt.set

    @property
    def durable(self) -> int | None:
        """The position up to which its chunks are stored and announced; None: that is not known."""
        return self._writer.durable if self._writer.error is None else None

    def cancel(self) -> bool:
        """Whether the turn ends as cancelled; not when it was over already."""
        if not self._decided:
            self._cancelled = True
            self._halt.set()
        return self._cancelled

    async def run(self) -> TurnOutcome:
        """The whole turn. Raises nothing an agent does; StaleWriter when the turn is another's."""
        if self._cancelled:
            self._decided = True
            return self._ending("cancelled")  # the agent is not even asked
        driver = asyncio.create_task(self._drive(), name=f"agent {self._turn.session_id}")
        stop = asyncio.create_task(self._halt.wait())
        try:
            await asyncio.wait(
                {driver, stop}, timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED
            )
            # Whatever had won when the wait returned has won: a cancel that came first is not
            # overtaken by an agent that finishes while it is being told, and one that comes later
            # is told that it does.
            self._decided = True
            if self._cancelled:
                ending = self._ending("cancelled")
                if driver.done():  # it failed in the same moment
                    self._report(driver)
            elif driver.done():
                ending = self._outcome(driver)
            elif self._writer.error is not None:
                ending = self._log_failed(self._writer.error)
            else:
                ending = self._timed_out()
        finally:
            self._writer.seal()
            stop.cancel()
            await self._stop(driver)
        try:
            await self._writer.flush()
        except LogError as error:
            failed = self._log_failed(error)
            # Who cancelled it was told so.
            ending = replace(ending, unstored=True) if self._cancelled else failed
        return ending

    async def _drive(self) -> None:
        try:
            await self._follow()
        except (KeyboardInterrupt, SystemExit) as error:
            # From a task these go on through the event loop, which would end the whole server.
            raise RuntimeError(f"the agent raised {type(error).__name__}") from error

    async def _follow(self) -> None:
        chunks = self._agent.run(self._turn)
        maker, put = self._maker, self._writer.put
        last = self._writer.position + self._limits.chunks_per_session
        try:
            async for chunk in chunks:
                # Nearly all that is said is a token, and what each costs is paid by every stream.
                if isinstance(chunk, str) and (token := maker.token(chunk)) is not None:
                    if not put("message", token):
                        await self._writer.write("message", token)
                    maker.said(chunk, token)
                else:
                    await self._take(chunk)
                if self._writer.position > last:
                    raise AgentError("the turn has too many chunks", "PAYLOAD_TOO_LARGE")
        finally:
            # An agent stopped by an error of ours still runs its cleanup here and now.
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()

    async def _take(self, chunk: AgentChunk) -> None:
        try:
            for kind, body, step in self._maker.encode(chunk):
                event = None if step is None else entry_of(self._events.step_completed(*step))
                # A step that the agent did not speak of is followed by what implied it.
                implied = kind == "step" and not isinstance(chunk, Step)
                await self._writer.write(kind, body, event, more=implied)
        finally:
            self._writer.push()  # unless that was refused

    async def _stop(self, driver: asyncio.Task[None]) -> None:
        if driver.done():
            return
        driver.cancel()
        _, running = await asyncio.wait({driver}, timeout=self._limits.cancel_grace)
        if running:
            log_.warning(
                "agent ignores its cancellation",
                session=self._turn.session_id,
                turn=self.number,
                agent=self._turn.agent_id,
            )
            self._abandon(driver)
        else:
            self._report(driver)

    # -- endings ---------------------------------------------------------------------------

    def _ending(
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
        return self._ending("timeout", TurnFailure("TIMEOUT", words, retryable=True))

    def _outcome(self, driver: asyncio.Task[None]) -> TurnOutcome:
        if driver.cancelled():
            return self._failed(AgentError("the agent cancelled itself"))
        error = driver.exception()
        if error is None:
            return self._ending("success")
        if isinstance(error, AgentError):
            return self._failed(error)
        if isinstance(error, LogError):
            return self._log_failed(error)
        self._report(driver)
        return self._failed(AgentError("the agent failed"))

    def _log_failed(self, error: LogError) -> TurnOutcome:
        log_.error("chunks refused by the log", session=self._turn.session_id, error=str(error))
        failure = TurnFailure("UNAVAILABLE", "the answer could not be stored", True, 1.0)
        return self._ending("failed", failure, unstored=True)

    def _failed(self, error: AgentError) -> TurnOutcome:
        failure = TurnFailure.of(error)
        if failure.code == "RATE_LIMITED" and failure.retry_after is None:
            failure = replace(failure, retry_after=1.0)  # clients are promised a number
        return self._ending("failed", failure)

    def _report(self, driver: asyncio.Task[None]) -> None:
        """What an agent's exception says is for the server's log, not for clients."""
        if driver.cancelled():
            return
        error = driver.exception()
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
