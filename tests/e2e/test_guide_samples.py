"""The user's guide, call by call: its SSE and SDK samples run against the server as they stand,
base URL, key and agent aside."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import httpx
import pytest
from resonantgenesis import ResonantGenesis, StreamError
from support.proxy import EvilProxy
from support.server import KEY, PATIENCE, ServerProcess
from support.wire import execute

TASK = "What is a position, and how much is 12 * 12?"


@pytest.fixture(autouse=True)
def base_url(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """The samples name no address, so it comes from the environment."""
    monkeypatch.setenv("RESONANTGENESIS_BASE_URL", server.url)


@pytest.fixture
def slow_heart(serve: Any) -> ServerProcess:
    """With the heartbeat that users have."""
    silent: ServerProcess = serve(agents={"silent": "support.agents:silent"})
    return silent


async def stream_agent_response(address: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The first sample: httpx with its own time-outs, read line by line."""
    printed = []
    async with (
        httpx.AsyncClient() as client,
        client.stream(
            "POST",
            f"{address}/v1/sessions/execute",
            json=body | {"stream": True},
            headers={"Authorization": f"Bearer {KEY}"},
        ) as response,
    ):
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                data = json.loads(line[6:])
                printed.append(data)
    return printed


async def test_basic_sse(server: ServerProcess) -> None:
    printed = await stream_agent_response(server.url, {"agent_id": "guide", "goal": TASK})
    assert [data["position"] for data in printed] == list(range(1, len(printed) + 1))
    kinds = {data["type"] for data in printed}
    assert {"text", "tool_call", "tool_result", "step", "done"} <= kinds
    call = next(data for data in printed if data["type"] == "tool_call")
    assert isinstance(call["tool"], str) and isinstance(call["args"], dict)
    result = next(data for data in printed if data["type"] == "tool_result")
    assert result["tool"] == call["tool"] and "result" in result
    assert printed[-1]["type"] == "done"
    assert printed[-1]["session_id"].startswith("sess_")
    text = "".join(data["content"] for data in printed if data["type"] == "text")
    assert printed[-1]["output"] == text and "144" in text


async def test_an_agent_that_thinks_longer_than_httpx_waits(slow_heart: ServerProcess) -> None:
    printed = await stream_agent_response(slow_heart.url, {"agent_id": "silent", "goal": "think"})
    assert printed[-1]["output"] == "At last."


async def test_characters_that_line_readers_split_at(server: ServerProcess) -> None:
    goal = "a\u2028b\u2029c\u0085d\u000be"
    body = {"agent_id": "paced", "goal": goal, "context": {"count": 2}}
    printed = await stream_agent_response(server.url, body)
    assert printed[-1]["output"] == f"{goal}-000001 {goal}-000002 "


async def test_the_reference_at_the_end_of_the_guide(server: ServerProcess) -> None:
    """POST /api/v1/sessions/execute, asked for as a stream by Accept alone."""
    async with httpx.AsyncClient() as client:
        answer = await client.post(
            f"{server.url}/api/v1/sessions/execute",
            headers={"Accept": "text/event-stream", "Authorization": f"Bearer {KEY}"},
            json={"agent_id": "guide", "goal": "count to 3"},
        )
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "event: done\ndata: {" in answer.text


async def test_python_sdk_streaming() -> None:
    client = ResonantGenesis(api_key=KEY)
    printed = ""
    completed = None
    async for chunk in client.sessions.execute_stream(agent_id="guide", goal=TASK):
        if chunk.type == "text":
            printed += chunk.content
        elif chunk.type == "tool_call":
            printed += f"\n[Calling {chunk.tool}...]"
        elif chunk.type == "done":
            completed = chunk.session_id
    assert "[Calling calculator...]" in printed and "144" in printed
    assert completed is not None and completed.startswith("sess_")
    await client.aclose()


async def test_interactive_chat() -> None:
    client = ResonantGenesis(api_key=KEY)
    answers = []
    for user_input in ["count to 3", "count to 4"]:
        answer = ""
        async for chunk in client.sessions.execute_stream(agent_id="guide", goal=user_input):
            if chunk.type == "text":
                answer += chunk.content
        answers.append(answer)
    assert answers == ["1 2 3", "1 2 3 4"]
    await client.aclose()


async def test_streaming_with_context() -> None:
    client = ResonantGenesis(api_key=KEY)
    session = client.sessions.create(
        agent_id="guide",
        context={"user_name": "Alice", "preferences": {"language": "en"}},
    )
    answers = []
    for turn in [TASK, "and times 3?"]:
        answer = ""
        async for chunk in session.execute_stream(goal=turn):
            if chunk.type == "text":
                answer += chunk.content
        answers.append(answer)
    assert "Alice" in answers[0] and "432" in answers[1]
    assert (await client.sessions.get(session.session_id)).turns == 2
    await client.aclose()


async def test_cancelling_streams(server: ServerProcess) -> None:
    client = ResonantGenesis(api_key=KEY)
    session_id = None
    with pytest.raises(asyncio.TimeoutError):
        async with asyncio.timeout(PATIENCE) as scope:
            async for chunk in client.sessions.execute_stream(
                agent_id="guide", goal="count to 100000", context={"words_per_second": 50}
            ):
                if session_id is None:
                    session_id = chunk.session_id
                    scope.reschedule(asyncio.get_running_loop().time() + 0.3)
    assert session_id is not None
    await client.sessions.cancel(session_id)
    last = [chunk async for chunk in client.sessions.join(session_id)][-1]
    assert (last.type, last.status) == ("done", "cancelled")
    await client.aclose()


async def test_stream_errors(server: ServerProcess) -> None:
    client = ResonantGenesis(api_key=KEY)
    with pytest.raises(StreamError) as failed:
        async for _chunk in client.sessions.execute_stream(agent_id="agent_123", goal="Task"):
            pass
    assert failed.value.code == "AGENT_NOT_FOUND"
    with pytest.raises(StreamError) as late:
        async for _chunk in client.sessions.execute_stream(
            agent_id="silent", goal="Task", timeout_seconds=1
        ):
            pass
    assert (late.value.code, late.value.retryable) == ("TIMEOUT", True)
    assert isinstance(late.value, TimeoutError)
    await client.aclose()


async def test_partial_response_recovery(server: ServerProcess) -> None:
    """The guide's own loop over a network that cuts, with the SDK's recovery switched off."""
    rng = random.Random(5)
    fates = iter(["cut", "reset", "cut"])
    proxy = EvilProxy(server.port, lambda: next(fates, "pass"), rng)
    proxy.budget = lambda: rng.randrange(2_000, 6_000)
    positions: list[int] = []
    async with proxy.running(), asyncio.timeout(60):
        client = ResonantGenesis(api_key=KEY, base_url=proxy.url, max_retries=0)
        reconnects = 0
        last_position = 0
        while True:
            try:
                async for chunk in client.sessions.execute_stream(
                    agent_id="guide", goal="count to 150", resume_from=last_position
                ):
                    positions.append(chunk.position)
                    last_position = chunk.position
                break
            except ConnectionError:
                reconnects += 1
                await asyncio.sleep(0)
        await client.aclose()
    assert positions == list(range(1, 154))
    assert reconnects == 3


async def test_the_loop_finds_its_own_stream_and_no_other(server: ServerProcess) -> None:
    """`resume_from` without a session is never guessed by the server."""
    async with server.client() as client:
        await execute(client, goal="count to 5")
        body = {"agent_id": "guide", "goal": "count to 5", "resume_from": 2}
        answer = await client.post("/v1/sessions/execute", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "INVALID_REQUEST")
