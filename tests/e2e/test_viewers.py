"""One turn, five ways to watch it, everybody comes late and drops: the same text for all."""

from __future__ import annotations

import asyncio
import random

import pytest
from support.server import ServerProcess
from support.viewers import VIEWERS, wait_for_position
from support.wire import Frame, dense, execute, read_all, text_of

CHUNKS = 300
#: A started step, a completed one and `done` stand around the text.
GOAL = CHUNKS - 3


async def watch(server: ServerProcess, seed: int) -> None:
    rng = random.Random(seed)
    async with server.client() as client, asyncio.timeout(150):
        started = await execute(client, goal=f"count to {GOAL}", context={"words_per_second": 120})
        session_id = started["session_id"]

        async def one(name: str, joins_at: int, own: random.Random) -> list[Frame]:
            await wait_for_position(client, session_id, joins_at)
            return await VIEWERS[name](server, session_id, own)

        names = list(VIEWERS)
        rng.shuffle(names)
        joins = [0, rng.randrange(1, 100), rng.randrange(100, 200), rng.randrange(1, 250), CHUNKS]
        seen = await asyncio.gather(
            *(
                one(name, at, random.Random(rng.random()))
                for name, at in zip(names, joins, strict=True)
            )
        )
        kept = await read_all(client, session_id, resume_from=0)
    assert [frame.position for frame in kept] == list(range(1, CHUNKS + 1))
    text = " ".join(str(number) for number in range(1, GOAL + 1))
    assert text_of(kept) == text
    assert kept[-1].body["output"] == text
    for name, found in zip(names, seen, strict=True):
        dense(found)
        assert found[-1].position == CHUNKS, name
        assert text_of(found) == text, name
        assert found[-1].body == kept[-1].body, name
        if name != "compact":
            assert [frame.body for frame in found] == [frame.body for frame in kept], name


async def test_five_viewers_that_come_late_and_drop_all_end_with_the_same_text(
    server: ServerProcess,
) -> None:
    await watch(server, 1)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2, 22))
async def test_five_viewers_again(server: ServerProcess, seed: int) -> None:
    await watch(server, seed)


async def test_a_merged_range_can_be_resumed_inside(server: ServerProcess) -> None:
    async with server.client() as client:
        session_id = (await execute(client, goal="count to 40"))["session_id"]
        kept = await read_all(client, session_id, resume_from=0)
        merged = await read_all(client, session_id, resume_from=0, compact="true")
        assert [(f.body.get("from"), f.position) for f in merged if f.event == "message"] == [
            (2, 41)
        ]
        for inside in (1, 2, 20, 40, 41):
            rest = await read_all(client, session_id, resume_from=inside, compact="true")
            dense(rest, inside + 1)
            assert text_of(rest) == text_of([f for f in kept if f.position > inside])


async def test_a_live_compact_viewer_sees_ranges_without_gap_or_overlap(
    server: ServerProcess,
) -> None:
    async with server.client() as client:
        started = await execute(
            client, agent_id="paced", goal="w", context={"count": 400, "pace": 800}
        )
        merged = await read_all(client, started["session_id"], resume_from=0, compact="true")
        kept = await read_all(client, started["session_id"], resume_from=0)
    dense(merged)
    assert text_of(merged) == text_of(kept)
    assert merged[-1].body == kept[-1].body
