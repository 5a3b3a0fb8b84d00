"""Two nodes do the same at once: one of them has done it."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.fleet import Fleet, check_log, client_of, last_codes, running, send_again
from support.postgres import PostgresServer
from support.wire import read_all

pytestmark = pytest.mark.anyio
GOAL = {"agent_id": "guide", "goal": "count to 3"}
#: Races at once. A node waits five seconds for another one that has a key: with a thousand races at
#: once that is too short.
_KEYS_AT_ONCE, _SESSIONS_AT_ONCE = 50, 8


async def race_for_keys(fleet: Fleet, races: int) -> None:
    """One Idempotency-Key at all nodes at once: one turn, which all answers name."""
    clients = [client_of(node.url) for node in fleet.nodes]

    gate = asyncio.Semaphore(_KEYS_AT_ONCE)

    async def one(number: int) -> tuple[str, int]:
        key = f"race-{number}"
        async with gate:
            answers = await asyncio.gather(
                *(send_again(client, "/v1/sessions/execute", GOAL, key) for client in clients)
            )
        named = {(answer["session_id"], answer["turn"]) for answer in answers}
        assert len(named) == 1, answers
        return named.pop()

    named = [await each for each in asyncio.as_completed([one(n) for n in range(races)])]
    assert len(set(named)) == races
    for number, (session_id, _) in enumerate(named):
        if number % 20 == 0:
            kept = await read_all(clients[number % len(clients)], session_id, resume_from=0)
            check_log(kept, kept)
            assert last_codes(kept) == ["success"]
    usage = (await clients[0].get("/v1/usage")).json()
    assert usage["totals"]["turns"] == races
    for client in clients:
        await client.aclose()


async def race_for_sessions(fleet: Fleet, races: int) -> None:
    """A turn of one idle session at all nodes at once: one runs, the others hear that it does."""
    clients = [client_of(node.url) for node in fleet.nodes]
    made = Counter[int]()

    async def one(number: int) -> None:
        created = await clients[0].post("/v1/sessions", json={"agent_id": "guide"})
        session_id = created.json()["session_id"]
        body = {"goal": "count to 100000", "context": {"words_per_second": 20}}
        path = f"/v1/sessions/{session_id}/execute"
        answers = await asyncio.gather(*(execute(client, path, body) for client in clients))
        codes = Counter(answer.status_code for answer in answers)
        assert codes == {202: 1, 409: len(clients) - 1}, [a.text for a in answers]
        winner = next(i for i, answer in enumerate(answers) if answer.status_code == 202)
        made[winner] += 1
        # Cancelled from every node at once, too.
        await asyncio.gather(
            *(client.post(f"/v1/sessions/{session_id}/cancel") for client in clients)
        )
        kept = await read_all(clients[number % len(clients)], session_id, resume_from=0)
        check_log(kept, kept)
        assert last_codes(kept) == ["cancelled"]

    gate = asyncio.Semaphore(_SESSIONS_AT_ONCE)

    async def bounded(number: int) -> None:
        async with gate:
            await one(number)

    await asyncio.gather(*(bounded(number) for number in range(races)))
    print(f"won by {dict(made)}")
    for client in clients:
        await client.aclose()


async def execute(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> httpx.Response:
    return await client.post(path, json=body, headers={"Prefer": "respond-async"})


async def test_one_key_and_one_session_at_two_nodes(
    database: PostgresServer, tmp_path: Path
) -> None:
    with running(tmp_path, [database.database()] * 2) as fleet:
        await race_for_keys(fleet, 200)
        await race_for_sessions(fleet, 60)


@pytest.mark.soak
async def test_a_thousand_races(database: PostgresServer, tmp_path: Path) -> None:
    with running(tmp_path, [database.database()] * 2) as fleet:
        await race_for_keys(fleet, 1000)
        await race_for_sessions(fleet, 1000)
