"""A viewer who comes right after the start of a turn: nothing is read from the log for it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, TypeVar

import pytest
from resonantgenesis_server.agents.base import Turn
from resonantgenesis_server.agents.engines.python import PythonAgent
from resonantgenesis_server.http.sse.stream import CHUNKS, SseEncoder
from resonantgenesis_server.log.base import Entry, Page
from resonantgenesis_server.sessions.range import ReadFrom
from resonantgenesis_server.sessions.request import TurnRef
from resonantgenesis_server.sessions.subscription import SessionSubscription

from .agents import Gate
from .rig import ME, Rig

pytestmark = pytest.mark.anyio

T = TypeVar("T")


class Watcher:
    """A sink that takes everything; `positions` of what its view told it, in order."""

    encoder: SseEncoder = CHUNKS
    ready = True

    def __init__(self) -> None:
        self.positions: list[int] = []
        self._woken = asyncio.Event()

    def write(self, data: bytes) -> None:
        self.positions += [int(each) for each in re.findall(rb"id: (\d+)\n", data)]

    def wake(self) -> None:
        self._woken.set()

    async def read(self, view: SessionSubscription) -> None:
        """Take what there is, until the view parks or is over."""
        async for entries in view.batches(5):
            self.positions += [entry.position for entry in entries]

    async def to_the_end(self, view: SessionSubscription) -> None:
        """Go on with a view until it is over."""
        while view.parked:
            await self._woken.wait()
            self._woken.clear()
            await self.read(view)


def first_step(work: Coroutine[Any, Any, T]) -> tuple[T] | None:
    """The result of work that waits for nothing; None: it would wait, and was given up."""
    try:
        work.send(None)
    except StopIteration as ended:
        return (ended.value,)
    work.close()
    return None


async def begin(rig: Rig, ref: TurnRef) -> tuple[Watcher, SessionSubscription] | None:
    """Watch a turn from its first chunk; None if something has to be read for that."""
    opened = first_step(rig.service.subscribe(ME, ref.session_id, ReadFrom(turn=ref.turn)))
    if opened is None or (view := opened[0]) is None:
        return None
    watcher = Watcher()
    view.write_to(watcher)
    return None if first_step(watcher.read(view)) is None else (watcher, view)


async def test_who_asked_for_a_turn_is_told_of_it_without_a_look_into_the_log(
    rig: Rig, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await rig.session_list.ready(10)  # at the start it reads what the last run left
    read, reads = rig.log.read, list[str]()

    async def counted(stream: str, *args: int, **kwargs: int) -> Page:
        reads.append(stream)
        return await read(stream, *args, **kwargs)

    monkeypatch.setattr(rig.log, "read", counted)
    gate.say("one")
    ref = await rig.execute(agent="gate")
    begun = await begin(rig, ref)
    assert begun is not None
    watcher, view = begun
    assert view.parked
    end = asyncio.create_task(watcher.to_the_end(view))
    gate.end()
    await asyncio.wait_for(end, 10)
    assert watcher.positions == [1, 2, 3, 4]
    assert reads == []


async def test_at_whatever_moment_it_comes_it_sees_every_chunk_once(rig: Rig) -> None:
    async def wordy(turn: Turn) -> AsyncIterator[str]:
        for word in turn.goal.split():
            await asyncio.sleep(0)
            yield word

    heads: dict[str, int] = {}

    def told(stream: str, entries: Sequence[Entry]) -> None:
        heads[stream] = entries[-1].position

    rig.before_commit = told
    rig.agents["wordy"] = PythonAgent("test:wordy", wordy)
    session = None
    ways = set()
    for n in range(240):
        ref = await rig.execute(
            "a " * (n % 23), "wordy" if session is None else None, session=session
        )
        for _ in range(n * 37 % 2_000):
            await asyncio.sleep(0)
        state = await rig.state(ref.session_id)
        announced = rig.supervisor.states.announced(ref.session_id, state)
        assert announced in {None, heads.get(ref.session_id, 0)}
        begun = await begin(rig, ref)
        ways.add(begun is not None)
        if begun is not None:
            await asyncio.wait_for(begun[0].to_the_end(begun[1]), 10)
        await rig.result(ref)
        turn = (await rig.state(ref.session_id)).turns[ref.turn - 1]
        if begun is not None:
            assert begun[0].positions == list(range(turn.first, turn.last + 1))
        session = None if n % 6 == 5 else ref.session_id  # first turns and later ones
    assert ways == {True, False}
