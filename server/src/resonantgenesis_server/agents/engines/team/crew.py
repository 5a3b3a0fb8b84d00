"""The agents of a team at work side by side: their chunks in one order, their time, their asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import contextmanager

import structlog

from ....model.chunks import AgentChunk, Ask
from ....model.errors import AgentError, ApiError
from ...base import (
    NO_INBOX,
    AgentSource,
    Answer,
    Inbox,
    InboxMessage,
    ResolvedAgent,
    Turn,
)
from ...threads import result_in_thread
from .part import MemberPart

log_ = structlog.get_logger("resonantgenesis.teams")

#: Members that work at once.
AT_ONCE = 8
#: Chunks that wait for the turn to take them.
_QUEUE = 64
#: Seconds that cancelled members get to end.
_STOP_SECONDS = 5.0


class Crew:
    """Runs parts of one turn. The owner closes it."""

    def __init__(self, turn: Turn, organization_id: str, agents: AgentSource) -> None:
        self._turn = turn
        self._organization_id = organization_id
        self._agents = agents
        self._loop = asyncio.get_running_loop()
        #: Chunks of a part that belong together; an event that waits for its place; a part's end.
        self._queue: asyncio.Queue[tuple[AgentChunk, ...] | asyncio.Event | MemberPart] = (
            asyncio.Queue(_QUEUE)
        )
        self._places = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._clocks: dict[MemberPart, asyncio.Timeout] = {}
        #: Agents that wait for an answer in their place, since when, and for how long before.
        self._waiting = 0
        self._waits_since = self._waited = 0.0

    async def work(
        self, parts: Sequence[MemberPart], *, fails: bool
    ) -> AsyncGenerator[AgentChunk, None]:
        """Yield the chunks of these parts, until each has ended or stopped for answers.

        Chunks of one part keep their order. `fails`: the first part that fails ends the rest, and
        its AgentError is raised.
        """
        for part in parts:
            task = asyncio.create_task(self._run(part), name=f"member {part.member.agent_id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        running = len(parts)
        while running:
            item = await self._queue.get()
            if isinstance(item, asyncio.Event):
                item.set()
            elif isinstance(item, MemberPart):
                running -= 1
                if fails and item.failure is not None:
                    raise item.failure
            else:
                for chunk in item:
                    yield chunk

    async def close(self) -> None:
        """End all that is at work."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            _, deaf = await asyncio.wait(tasks, timeout=_STOP_SECONDS)
            for task in deaf:
                log_.error("a member of a team ignores its cancellation", task=task.get_name())

    async def taken(self) -> None:
        """Return once the turn has taken all chunks up to now."""
        place = asyncio.Event()
        await self._queue.put(place)
        await place.wait()

    # -- one part --------------------------------------------------------------------------

    async def _run(self, part: MemberPart) -> None:
        async with self._places:
            await self._put(part.begin())
            try:
                await self._run_agent(part)
            except AgentError as error:
                part.error = error
            except ApiError as error:
                part.error = AgentError(error.message)
            except (Exception, KeyboardInterrupt, SystemExit) as error:
                turn, agent = self._turn, part.member.agent_id
                log_.error(
                    "member of a team failed",
                    session=turn.session_id,
                    turn=turn.turn,
                    agent=agent,
                    exc_info=error,
                )
                part.error = AgentError("the agent failed")
            await self._put(part.end())
        await self._queue.put(part)

    async def _run_agent(self, part: MemberPart) -> None:
        """Raises what the agent raises, and AgentError where the part is out of time."""
        agent_id = part.member.agent_id
        resolved = await self._agents.resolve(self._organization_id, agent_id)
        if resolved.is_team:
            raise AgentError(f"{agent_id} is a team; the members of a team are agents")
        began = self._now()
        part.deadline = began + resolved.timeout_seconds - part.ran
        try:
            async with asyncio.timeout(part.deadline - began) as clock:
                self._clocks[part] = clock
                async with self._turn.slot(agent_id):
                    await self._take_chunks(part, resolved)
        except TimeoutError:
            if not clock.expired():
                raise
            words = f"it took longer than {resolved.timeout_seconds:g} s; raise timeout_seconds"
            raise AgentError(f"{words} of the agent", "TIMEOUT") from None
        finally:
            del self._clocks[part]
            part.ran += self._now() - began

    async def _take_chunks(self, part: MemberPart, resolved: ResolvedAgent) -> None:
        inbox = NO_INBOX if part.call_id else _LeadInbox(self, part, self._turn.inbox)
        chunks = resolved.agent.run(part.view(resolved, _PartAsks(self, part), inbox))
        try:
            async for chunk in chunks:
                shown = part.outward(chunk)
                if shown is not None:
                    await self._queue.put((shown,))
        finally:
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()

    async def _put(self, chunks: Iterable[AgentChunk]) -> None:
        together = tuple(chunks)
        if together:
            await self._queue.put(together)

    # -- asks ------------------------------------------------------------------------------

    async def ask(self, part: MemberPart, ask: Ask) -> Answer:
        """The answer to what an agent asks in its place."""
        asked = part.named(ask)
        await self.taken()
        with self._paused():
            try:
                return part.of_part(await self._turn.asks.ask(asked))
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                # Nobody answers any more: the turn is over, and cancels the member in a moment.
                await asyncio.Event().wait()
                raise

    def _now(self) -> float:
        """The loop's time without that in which the turn waited."""
        now = self._waits_since if self._waiting else self._loop.time()
        return now - self._waited

    @contextmanager
    def _paused(self) -> Iterator[None]:
        """Time in which the turn waits is nobody's running time."""
        if not self._waiting:
            self._waits_since = self._loop.time()
            for clock in self._clocks.values():
                clock.reschedule(None)
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._waited += self._loop.time() - self._waits_since
                for part, clock in self._clocks.items():
                    if not clock.expired():
                        clock.reschedule(part.deadline + self._waited)


class _PartAsks:
    """The `TurnAsks` of an agent of the team."""

    def __init__(self, crew: Crew, part: MemberPart) -> None:
        self._crew = crew
        self._part = part
        self._loop = asyncio.get_running_loop()

    async def ask(self, ask: Ask) -> Answer:
        return await self._crew.ask(self._part, ask)

    def ask_from_thread(self, ask: Ask) -> Answer:
        return result_in_thread(self.ask(ask), self._loop)


class _LeadInbox:
    """The turn's inbox for the lead, which hears of its messages again when it is run again."""

    def __init__(self, crew: Crew, part: MemberPart, inbox: Inbox) -> None:
        self._crew = crew
        self._part = part
        self._inbox = inbox
        self._loop = asyncio.get_running_loop()

    async def take(self) -> Sequence[InboxMessage]:
        await self._crew.taken()
        return self._seen(await self._inbox.take())

    async def wait(self) -> Sequence[InboxMessage]:
        await self._crew.taken()
        return self._seen(await self._inbox.wait())

    def take_from_thread(self) -> Sequence[InboxMessage]:
        return result_in_thread(self.take(), self._loop)

    def _seen(self, messages: Sequence[InboxMessage]) -> Sequence[InboxMessage]:
        for message in messages:
            self._part.see_message(message.content)
        return messages
