"""Many turns with models and tools at once in one server process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.models import Call, FakeProvider, Gate, Reply
from support.server import ServerProcess
from support.wire import FrameReader

pytestmark = pytest.mark.anyio
TURNS = 200
WORDS = 12
Json = dict[str, Any]


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[tuple[FakeProvider, ServerProcess]]:
    with FakeProvider(seed=11) as provider:
        urls = json.dumps({"local": provider.url})
        server = ServerProcess(tmp_path / "data", llm__base_urls=urls)
        yield provider, server.start()
        server.stop()
        assert server.errors() == []


def script(gates: list[Gate]) -> Any:
    """Every turn says words of its own, before and after its tool; in each answer all turns wait
    for each other, so that all are under way at once."""

    def reply(_number: int, body: Json) -> Reply:
        who = next(m["content"] for m in body["messages"] if m["role"] == "user")
        after = body["messages"][-1]["role"] == "tool"
        words = [f"{who}-{'after' if after else 'before'}-{n} " for n in range(WORDS)]
        calls = [] if after else [Call("calculator", {"expression": f"{who[1:]}*2"})]
        return Reply(text=words, calls=calls, gate=gates[after], gate_at=WORDS // 2)

    return reply


async def watch(client: httpx.AsyncClient, agent: str, number: int) -> list[Json]:
    body = {"agent_id": agent, "goal": f"t{number}", "stream": True}
    reader = FrameReader()
    while True:
        async with client.stream("POST", "/v1/sessions/execute", json=body) as response:
            if response.status_code == 200:
                parts = response.aiter_raw()
                return [frame.body async for data in parts for frame in reader.feed(data)]
            # A machine that is busy with other things may not read two hundred agents in time.
            assert response.status_code == 503, await response.aread()
            await asyncio.sleep(float(response.headers["retry-after"]))


def check(number: int, chunks: list[Json]) -> None:
    """Whole, in order, and nobody else's."""
    assert [chunk for chunk in chunks if chunk["type"] == "error"] == []
    assert [chunk["position"] for chunk in chunks] == list(range(1, len(chunks) + 1))
    words = [f"t{number}-{when}-{n} " for when in ("before", "after") for n in range(WORDS)]
    assert "".join(c["content"] for c in chunks if c["type"] == "text") == "".join(words)
    kinds = [chunk["type"] for chunk in chunks]
    assert [kind for kind, next_ in pairwise([*kinds, ""]) if kind != next_] == [
        "step", "text", "tool_call", "tool_result", "step", "text", "step", "done",
    ]  # fmt: skip
    [result] = [chunk["result"] for chunk in chunks if chunk["type"] == "tool_result"]
    assert result == {"expression": f"{number}*2", "result": number * 2}
    assert chunks[-1]["status"] == "success"
    assert chunks[-1]["usage"]["output_tokens"] == 14


async def test_two_hundred_turns_with_a_tool_each(
    crowd: tuple[FakeProvider, ServerProcess],
) -> None:
    provider, server = crowd
    provider.answer("m", script=script([Gate(TURNS), Gate(TURNS)]))
    async with server.client(timeout=60.0) as client:
        made = await client.post(
            "/v1/agents",
            json={
                "name": "A",
                "engine": "llm",
                "model": "local:m",
                "tools": ["calculator"],
                "defaults": {"timeout_seconds": 90},
            },
        )
        agent = made.json()["id"]
        async with asyncio.timeout(120):
            turns = await asyncio.gather(*(watch(client, agent, n) for n in range(TURNS)))
    for number, chunks in enumerate(turns):
        check(number, chunks)
    assert len(provider.seen) == 2 * TURNS
    assert all(seen.finished for seen in provider.seen)
