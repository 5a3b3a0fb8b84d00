"""Turns that ask and wait give one sequence, however they are read."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing

import orjson
import pytest
from resonantgenesis_server.agents.base import Turn
from resonantgenesis_server.model.chunks import AgentChunk
from resonantgenesis_server.sessions import agent_run
from resonantgenesis_server.sessions.range import ReadFrom

from .rig import ME, Json, Rig, assert_sound, kinds

pytestmark = pytest.mark.anyio


class Scenes:
    """Follows a script: pieces of text (0), or so many asks at once."""

    def __init__(self, script: list[int]) -> None:
        self.script = script

    async def run(self, turn: Turn) -> AsyncIterator[AgentChunk]:
        for number, asks in enumerate(self.script):
            if not asks:
                yield f"{number} "
                await asyncio.sleep(0)
                continue
            names = [f"q{number}.{each}" for each in range(asks)]
            said = await asyncio.gather(*(turn.ask("?", call_id=name) for name in names))
            yield f"{said} "


@pytest.mark.parametrize("seed", range(6))
async def test_however_it_is_read_it_is_one_sequence(
    rig: Rig, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(agent_run, "HOLD_SECONDS", chance.choice([0.0, 0.02, 60.0]))
    script = [chance.choice([0, 0, 1, 2, 3]) for _ in range(12)]
    rig.agents["scenes"] = Scenes(script)
    ref = await rig.execute(agent="scenes", max_steps=100)
    session = ref.session_id

    async def answer() -> None:
        while (state := await rig.state(session)).open_turns:
            asks = [ask.call_id for ask in state.turns[0].asks]
            chance.shuffle(asks)
            for call_id in asks:
                if chance.random() < 0.5:
                    await asyncio.sleep(0.003)
                await rig.input(session, call_id, payload=chance.randrange(100))
            await asyncio.sleep(0.001)

    async def read() -> list[Json]:
        seen: list[Json] = []
        while not seen or seen[-1]["type"] != "done":
            after = seen[-1]["position"] if seen else 0
            place = ReadFrom(
                after=after, turn=chance.choice([None, 1]), follow=chance.random() < 0.2
            )
            view = await rig.service.subscribe(ME, session, place)
            if view is None:
                await asyncio.sleep(0.002)
                continue
            left = chance.randrange(1, 40)
            async with aclosing(view.batches(0.05)) as batches:
                async for entries in batches:
                    seen += [orjson.loads(e.body) | {"position": e.position} for e in entries]
                    left -= 1
                    if not left or (seen and seen[-1]["type"] == "done"):
                        break
        return seen

    async with asyncio.timeout(60):
        readers = [asyncio.create_task(read()) for _ in range(6)]
        await answer()
        sequences = [await reader for reader in readers]
    chunks = await rig.chunks(session)
    assert_sound(chunks)
    assert all(sequence == chunks for sequence in sequences)
    assert kinds(chunks).count("waiting") == sum(asks > 0 for asks in script)
    assert kinds(chunks).count("input") == sum(script)
    assert kinds(chunks).count("text") == len(script)
    assert (await rig.result(ref))["status"] == "success"
