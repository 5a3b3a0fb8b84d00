"""Small agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from resonantgenesis_server.agents.base import Agent, Turn
from resonantgenesis_server.model.chunks import AgentChunk

Script = Callable[[Turn], AsyncIterator[AgentChunk]]


class Scripted:
    """An async generator function as an agent; keeps the turns it was given."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.turns: list[Turn] = []

    def run(self, turn: Turn) -> AsyncIterator[AgentChunk]:
        self.turns.append(turn)
        return self._script(turn)


class Gate:
    """Yields what `say` is given; ends on `end`; tells whether it was cancelled."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.cancelled: list[int] = []
        self._said: dict[int, asyncio.Queue[AgentChunk | Exception | None]] = {}
        self._begun: dict[int, asyncio.Event] = {}

    def _queue(self, turn: int) -> asyncio.Queue[AgentChunk | Exception | None]:
        return self._said.setdefault(turn, asyncio.Queue())

    async def run(self, turn: Turn) -> AsyncGenerator[AgentChunk, None]:
        self.turns.append(turn)
        self._begun.setdefault(turn.turn, asyncio.Event()).set()
        try:
            while (said := await self._queue(turn.turn).get()) is not None:
                if isinstance(said, Exception):
                    raise said
                yield said
        except asyncio.CancelledError:
            self.cancelled.append(turn.turn)
            raise

    def say(self, *chunks: AgentChunk | Exception, turn: int = 1) -> None:
        for chunk in chunks:
            self._queue(turn).put_nowait(chunk)

    def end(self, turn: int = 1) -> None:
        self._queue(turn).put_nowait(None)

    async def begun(self, turn: int = 1) -> None:
        async with asyncio.timeout(20):
            await self._begun.setdefault(turn, asyncio.Event()).wait()


async def echo(turn: Turn) -> AsyncIterator[AgentChunk]:
    for word in turn.goal.split(" "):
        yield word


class Stubborn:
    """Catches its cancellation and goes on, until it is released and asked once more."""

    def __init__(self) -> None:
        self.released = False

    async def run(self, _turn: Turn) -> AsyncGenerator[AgentChunk, None]:
        yield "on and on"
        while not self.released:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                continue


async def shielded(turn: Turn) -> AsyncIterator[AgentChunk]:
    yield "in a shield"
    inner = asyncio.ensure_future(asyncio.sleep(2))
    while not inner.done():
        try:
            await asyncio.shield(inner)
        except asyncio.CancelledError:
            continue


def standard_agents() -> dict[str, Agent]:
    return {"echo": Scripted(echo), "shielded": Scripted(shielded)}
