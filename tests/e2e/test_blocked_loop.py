"""An async agent that blocks the event loop is named, and gets a thread of its own."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx
import pytest
from support.server import Serve, ServerProcess
from support.wire import streaming

pytestmark = pytest.mark.anyio

AGENTS = {"blocking": "support.agents:blocking", "paced": "support.agents:paced"}
WHAT = "an agent blocks the event loop"


async def run(http: httpx.AsyncClient, **body: Any) -> str:
    asked = {"agent_id": "blocking", "goal": "go", **body}
    answer = (await http.post("/v1/sessions/execute", json=asked, timeout=40)).json()
    assert answer["status"] == "success", answer
    return str(answer["output"])


async def test_it_is_named_and_then_runs_elsewhere(serve: Serve) -> None:
    server = serve(agents=AGENTS)
    async with asyncio.timeout(60), server.client() as http:
        for _ in range(2):
            assert await run(http) == "MainThread; 3, ab"
        lines = server.logged(WHAT, count=2)
        assert {line["agent"] for line in lines} == {"support.agents:blocking"}
        assert {line["file"].rsplit("/", 1)[1] for line in lines} == {"agents.py"}
        source = Path(lines[0]["file"]).read_text().splitlines()[lines[0]["line"] - 1]
        assert "time.sleep" in source and lines[0]["function"] == "blocking"
        assert [line["own_thread_from_now_on"] for line in lines] == [False, True]
        shown = (await http.get("/metrics")).text
        assert "resonantgenesis_agents_blocked_total 2" in shown
        # Everything that a turn offers works from the other loop as well.
        said = await run(http)
        assert said.startswith("agent support.agents:blocking") and said.endswith("; 3, ab")


async def test_an_agent_of_its_own_thread_can_be_cancelled_where_it_waits(serve: Serve) -> None:
    server = serve(agents=AGENTS)
    async with asyncio.timeout(60), server.client() as http:
        for _ in range(2):
            await run(http)
        body = {"agent_id": "blocking", "goal": "wait", "stream": True}
        async with streaming(http, "POST", "/v1/sessions/execute", json=body) as (head, frames):
            session = head.headers["x-session-id"]
            async for frame in frames:
                if frame.event == "message" and frame.body["content"].startswith(";"):
                    await http.post(f"/v1/sessions/{session}/cancel", json={})
            assert frame.body["status"] == "cancelled"


async def test_the_setting_leaves_it_on_the_loop(serve: Serve) -> None:
    server = serve(agents=AGENTS, isolate_blocking_agents=False)
    async with asyncio.timeout(60), server.client() as http:
        assert [await run(http) for _ in range(3)] == ["MainThread; 3, ab"] * 3
        server.logged(WHAT, count=3)


@pytest.mark.soak
async def test_streams_beside_three_that_block(serve: Serve) -> None:
    server = serve(agents=AGENTS)
    async with asyncio.timeout(100), server.client() as http:
        for _ in range(2):
            await run(http)
        await lateness(server)  # everything that is made at the first use is made
        alone = await lateness(server)
        blockers = [asyncio.create_task(run(http, context={"seconds": 4})) for _ in range(3)]
        beside = await lateness(server)
        await asyncio.gather(*blockers)
    print(f"p99 of a chunk's lateness: {alone * 1000:.1f} ms, beside them {beside * 1000:.1f} ms")
    assert beside < 1


async def lateness(server: ServerProcess) -> float:
    """The 99th percentile over 100 streams, in seconds."""
    gaps = await asyncio.gather(*(gaps_of(server) for _ in range(100)))
    return quantiles([gap for stream in gaps for gap in stream], n=100)[98]


async def gaps_of(server: ServerProcess) -> list[float]:
    """How much later than due each of 40 chunks came, which leave ten a second."""
    body = {
        "agent_id": "paced",
        "goal": "x",
        "stream": True,
        "context": {"pace": 10, "count": 40},
    }
    found: list[float] = []
    async with (
        server.client() as http,
        streaming(http, "POST", "/v1/sessions/execute", json=body) as (_, frames),
    ):
        last = 0.0
        async for frame in frames:
            now = time.monotonic()
            if frame.event == "message":
                if last:
                    found.append(max(0.0, now - last - 0.1))
                last = now
    return found
