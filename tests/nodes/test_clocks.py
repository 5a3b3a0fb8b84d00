"""The clock of one node jumps by an hour: order, limits and who lives do not depend on it."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from support.fleet import (
    PATIENCE,
    SESSIONS,
    Fleet,
    Viewer,
    check_log,
    client_of,
    last_codes,
    send_again,
    until,
    watched,
)
from support.postgres import PostgresServer
from support.server import bearer
from support.wire import execute, read_all

pytestmark = pytest.mark.anyio
PROGRAM = Path(__file__).parents[1] / "support" / "stepped.py"
HOUR = 3_600.0
LIMIT = 20


@pytest.mark.parametrize(
    ("step", "sessions"),
    [
        (HOUR, 2),
        pytest.param(HOUR, SESSIONS, marks=pytest.mark.soak),
        pytest.param(-HOUR, SESSIONS, marks=pytest.mark.soak),
    ],
)
async def test_a_step_of_an_hour(
    database: PostgresServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: float,
    sessions: int,
) -> None:
    file = tmp_path / "step"
    urls = [database.database()] * 2
    fleet = Fleet(tmp_path, urls, program=PROGRAM, limits__requests_per_minute=LIMIT)
    try:
        monkeypatch.setenv("CLOCK_STEP", str(tmp_path / "none"))
        await asyncio.to_thread(fleet.start, fleet.nodes[0])
        monkeypatch.setenv("CLOCK_STEP", str(file))
        await asyncio.to_thread(fleet.start, fleet.nodes[1])
        async with fleet.balancer.running():
            await one_step(fleet, file, step, sessions)
        assert [line for node in fleet.nodes for line in node.errors()] == []
    finally:
        await asyncio.to_thread(fleet.stop)


async def one_step(fleet: Fleet, file: Path, step: float, sessions: int) -> None:
    right, stepped = fleet.nodes
    async with client_of(right.url) as here, client_of(stepped.url) as there:
        began = time.time()
        limited = await key_at_its_limit(there)
        body = {"agent_id": "guide", "goal": "count to 3"}
        first = await send_again(here, "/v1/sessions/execute", body, "one")
        paced = {"goal": f"count to {100 + 2 * sessions}", "context": {"words_per_second": 20}}
        running: list[str] = []
        viewers: list[Viewer] = []
        for client, other in [(here, stepped), (there, right)] * (sessions // 2):
            running.append((await execute(client, **paced))["session_id"])
            viewers.append(Viewer(running[-1], fleet.addresses(other)))
        async with watched(viewers) as tasks:
            await until(lambda: all(len(each.frames) > 5 for each in viewers))
            file.write_text(str(step))
            # A step may begin a new minute. It holds nobody off for longer than one.
            await spend(there, limited)
            again = await send_again(there, "/v1/sessions/execute", body, "one")
            assert again["session_id"] == first["session_id"]
            # One session in turn at both: its order is that of the positions, its times as well.
            for client in (there, here, there):
                turn = await execute(client, goal="count to 3", session_id=first["session_id"])
                await read_all(here, first["session_id"], turn=turn["turn"])
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*tasks)
        for session_id in [*running, first["session_id"]]:
            kept = await read_all(here, session_id, resume_from=0)
            check_log(kept, kept)
            assert set(last_codes(kept)) == {"success"}
            shown = (await there.get(f"/v1/sessions/{session_id}")).json()
            made, changed = (seconds(shown[name]) for name in ("created_at", "updated_at"))
            assert began - 1 <= made <= changed <= time.time() + 1
        events = (await here.get("/v1/events", params={"limit": 100})).json()["events"]
        dates = [seconds(event["created_at"]) for event in events]
        assert all(before <= after for before, after in pairwise(dates))
        assert began - PATIENCE <= dates[0] <= dates[-1] <= time.time() + 1
        for viewer in viewers:
            assert viewer.frames == await read_all(here, viewer.session_id, resume_from=0)
    # Longer than a node lives without a sign: nobody took a step for that.
    await asyncio.sleep(fleet.ttl)
    assert fleet.living == fleet.nodes


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def key_at_its_limit(client: httpx.AsyncClient) -> str:
    made = await client.post("/v1/keys", json={"name": "k", "scopes": ["*"]})
    key = str(made.json()["key"])
    assert await spend(client, key) == LIMIT
    return key


async def spend(client: httpx.AsyncClient, key: str) -> int:
    """Ask until the key is held off; how often it was not."""
    for count in range(LIMIT + 1):
        answer = await client.get("/v1/agents", headers=bearer(key))
        if answer.status_code == 429:
            assert 0 < int(answer.headers["retry-after"]) <= 60
            return count
    raise AssertionError("the limit does not hold")
