"""What a server takes does not grow for ever: its caches have bounds, and once they are full it
takes no more.

Found by counting (tracemalloc, a server of 6,000 turns, each a session of its own): of the 3 KB
that such a turn leaves behind, half are the states of the last 10,000 sessions, a quarter those of
the last 20,000 streams in the log's writer, the rest SQLite's cache of 16 MiB while it fills.
"""

from __future__ import annotations

import asyncio
import time

import httpx
import psutil
import pytest
from support.server import Serve

pytestmark = pytest.mark.anyio
MIB = 1 << 20
AT_ONCE = 8


async def turns(client: httpx.AsyncClient, count: int) -> None:
    async def some() -> None:
        for _ in range(count // AT_ONCE):
            body = {"agent_id": "guide", "goal": "What is 12% of 250?"}
            answer = await client.post("/v1/sessions/execute", json=body)
            assert answer.json()["status"] == "success", answer.text

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(some())


@pytest.mark.soak
@pytest.mark.parametrize(("fill", "seconds"), [(13_000, 20 * 60)])
async def test_a_server_with_full_caches_takes_no_more(
    serve: Serve, fill: int, seconds: float
) -> None:
    server = serve(limits__requests_per_minute=0)
    process = psutil.Process(server.server_pid)
    async with server.client(timeout=60) as client:
        began = time.monotonic()
        await turns(client, fill)
        full = process.memory_info().rss
        while time.monotonic() - began < seconds:
            await turns(client, 2_000)
        taken = process.memory_info().rss - full
    assert taken < 8 * MIB, f"{taken / MIB:.1f} MiB more"


async def test_a_turn_leaves_little_behind(serve: Serve) -> None:
    server = serve(limits__requests_per_minute=0)
    process = psutil.Process(server.server_pid)
    async with server.client(timeout=60) as client:
        await turns(client, 400)  # what is made once, and the first pages of SQLite's cache
        before = process.memory_info().rss
        await turns(client, 400)
        each = (process.memory_info().rss - before) / 400
    assert each < 40_000, f"{each:.0f} bytes"
