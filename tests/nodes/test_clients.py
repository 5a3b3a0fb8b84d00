"""Clients over three nodes behind a round-robin proxy: each connection ends at another node, and
the client reads the same text, densely and once.

The guide's own samples run here anew, the server aside as they stand.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from e2e.test_guide_samples import (  # noqa: F401  # collected here, for this module's `server`
    base_url,
    test_basic_sse,
    test_cancelling_streams,
    test_interactive_chat,
    test_partial_response_recovery,
    test_python_sdk_streaming,
    test_streaming_with_context,
    test_the_loop_finds_its_own_stream_and_no_other,
)
from guide.test_samples import (  # noqa: F401  # the same
    python,
    test_connect_subscribe_and_handle,
)
from resonantgenesis import ResonantGenesis
from resonantgenesis._core.retry import Backoff
from support import fleet
from support.fleet import Fleet, check_log, client_of
from support.postgres import PostgresServer
from support.proxy import EvilProxy
from support.server import KEY
from support.wire import dense, execute, read_all

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).resolve().parents[2]
COUNT = {"goal": "count to 300", "context": {"words_per_second": 200}}


class Balanced:
    """What stands for one server in tests that know of no nodes."""

    def __init__(self, nodes: Fleet) -> None:
        self.fleet = nodes
        self.url = nodes.balancer.url
        self.port = nodes.balancer.port

    def client(self, **_options: Any) -> httpx.AsyncClient:
        return client_of(self.url)


@pytest.fixture(scope="module")
def server(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Balanced]:
    url = postgres_server.database()
    agents = {
        "silent": "support.agents:silent",
        "paced": "support.agents:paced",
        "failing": "guide.failing:failing",
    }
    with fleet.running(tmp_path_factory.mktemp("nodes"), [url] * 3, agents=agents) as nodes:
        ready, over = threading.Event(), asyncio.Event()
        loop = asyncio.new_event_loop()

        async def balance() -> None:
            async with nodes.balancer.running():
                ready.set()
                await over.wait()

        thread = threading.Thread(target=lambda: loop.run_until_complete(balance()))
        thread.start()
        assert ready.wait(10)
        try:
            yield Balanced(nodes)
        finally:
            loop.call_soon_threadsafe(over.set)
            thread.join(10)
            loop.close()


def hasten(client: ResonantGenesis) -> ResonantGenesis:
    quick = Backoff(base=0.02, cap=0.2)
    client._transport.settings = dataclasses.replace(client._transport.settings, backoff=quick)
    return client


async def test_the_python_sdk_reads_on_at_the_next_node(server: Balanced) -> None:
    chance = random.Random(7)
    proxy = EvilProxy(server.port, lambda: chance.choice(["cut", "reset", "pass"]), chance)
    proxy.budget = lambda: chance.randrange(1_000, 12_000)
    async with (
        asyncio.timeout(60),
        proxy.running(),
        hasten(ResonantGenesis(api_key=KEY, base_url=proxy.url, max_retries=1000)) as client,
        server.client() as http,
    ):
        started = [(await execute(http, **COUNT))["session_id"] for _ in range(6)]

        async def read(session_id: str) -> list[dict[str, Any]]:
            return [dict(chunk.raw) async for chunk in client.sessions.join(session_id)]

        found = await asyncio.gather(*map(read, started))
        for session_id, chunks in zip(started, found, strict=True):
            kept = await read_all(http, session_id, resume_from=0)
            check_log(kept, kept)
            assert chunks == [frame.body for frame in kept]
    assert proxy.connections > len(started)
    assert len(server.fleet.balancer.given) == 3


async def test_sockets_start_watch_and_cancel_turns_of_other_nodes(server: Balanced) -> None:
    chance = random.Random(9)
    proxy = EvilProxy(server.port, lambda: chance.choice(["cut", "pass", "reset"]), chance)
    proxy.budget = lambda: chance.randrange(2_000, 20_000)
    async with (
        asyncio.timeout(60),
        proxy.running(),
        hasten(ResonantGenesis(api_key=KEY, base_url=proxy.url, max_retries=1000)) as client,
        client.realtime(buffer_size=50) as rt,
        server.client() as http,
    ):
        turns = [rt.execute("guide", "count to 200") for _ in range(4)]
        elsewhere = [(await execute(http, **COUNT))["session_id"] for _ in range(4)]
        watched = [rt.session(session_id, resume_from=0) for session_id in elsewhere]

        async def until_done(stream: Any) -> list[int]:
            got = []
            async for chunk in stream:
                got.append(chunk.position)
                if chunk.type == "done":
                    break
            return got

        found = await asyncio.gather(*map(until_done, [*turns, *watched]))
        names = [str(turn.session_id) for turn in turns] + elsewhere
        assert len(set(names)) == 8
        for session_id, positions in zip(names, found, strict=True):
            kept = await read_all(http, session_id, resume_from=0)
            dense(kept)
            assert positions == [frame.position for frame in kept]


_SCRIPT = """
import { ResonantGenesis } from '@resonantgenesis/sdk';
const [baseUrl, apiKey] = process.argv.slice(-2);
const client = new ResonantGenesis({ apiKey, baseUrl, maxRetries: 1000 });
async function read(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push([chunk.position, chunk.type, chunk.content ?? '']);
  return [stream.sessionId, chunks];
}
const started = [];
for (let i = 0; i < 4; i++) {
  const goal = 'count to 300';
  const context = { words_per_second: 200 };
  started.push(read(await client.sessions.executeStream({ agentId: 'guide', goal, context })));
}
console.log(JSON.stringify(await Promise.all(started)));
"""


@pytest.mark.skipif(
    not (ROOT / "sdk" / "typescript" / "dist" / "index.js").exists(),
    reason="the TypeScript SDK is not built",
)
async def test_the_typescript_sdk_reads_on_at_the_next_node(server: Balanced) -> None:
    chance = random.Random(11)
    fates = iter(["cut"] * 8)
    proxy = EvilProxy(server.port, lambda: next(fates, "pass"), chance)
    proxy.budget = lambda: chance.randrange(2_000, 12_000)
    async with asyncio.timeout(90), proxy.running(), server.client() as http:
        process = await asyncio.create_subprocess_exec(
            "node", "--input-type=module", "-e", _SCRIPT, "--", proxy.url, KEY,
            cwd=ROOT, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, _ = await process.communicate()
        assert process.returncode == 0
        for session_id, chunks in json.loads(output):
            kept = [frame.body for frame in await read_all(http, session_id, resume_from=0)]
            assert chunks == [
                [body["position"], body["type"], body.get("content") or ""] for body in kept
            ]
    assert proxy.connections > 4
