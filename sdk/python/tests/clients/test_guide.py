"""The guide's uses of the Python SDK, call by call the same, in words of our own."""

from __future__ import annotations

import asyncio

import pytest
from resonantgenesis import ResonantGenesis, StreamError

from ..conftest import MakeClient
from ..support.fake_server import FakeServer

pytestmark = pytest.mark.anyio


async def test_streaming_an_agent(server: FakeServer, client: ResonantGenesis) -> None:
    printed = ""
    async for chunk in client.sessions.execute_stream(agent_id="agent_123", goal="12"):
        if chunk.type == "text":
            printed += chunk.content
        elif chunk.type == "tool_call":
            printed += f"[{chunk.tool}]"
        elif chunk.type == "done":
            printed += f"({chunk.session_id})"
    assert printed == f"[docs_search]{server.sessions['sess_1'].text()}(sess_1)"


async def test_a_chat_of_separate_turns(server: FakeServer, client: ResonantGenesis) -> None:
    async def answer(user_input: str) -> str:
        said = ""
        async for chunk in client.sessions.execute_stream(agent_id="agent_123", goal=user_input):
            if chunk.type == "text":
                said += chunk.content
        return said

    assert [await answer("9"), await answer("7")] == [
        session.text() for session in server.sessions.values()
    ]


async def test_a_session_with_context_made_without_await(
    server: FakeServer, client: ResonantGenesis
) -> None:
    session = client.sessions.create(
        agent_id="agent_123", context={"user_name": "Alice", "preferences": {"language": "en"}}
    )
    said = ""
    for turn in ["9", "7", "8"]:
        async for chunk in session.execute_stream(goal=turn):
            if chunk.type == "text":
                said += chunk.content
    assert list(server.sessions) == ["sess_1"]
    kept = server.sessions["sess_1"]
    assert kept.goals == ["9", "7", "8"] and said == kept.text()
    assert kept.context == {"user_name": "Alice", "preferences": {"language": "en"}}


async def test_a_timeout_around_the_loop_then_cancel(
    server: FakeServer, client: ResonantGenesis
) -> None:
    server.hold_at = 5
    printed = ""
    try:
        async with asyncio.timeout(20) as scope:
            async for chunk in client.sessions.execute_stream(agent_id="agent_123", goal="20"):
                printed += chunk.content
                if chunk.position == 5:  # the last before a long silence
                    scope.reschedule(asyncio.get_running_loop().time() + 0.05)
    except TimeoutError:
        session_id = next(iter(server.sessions))
        await client.sessions.cancel(session_id)
    assert server.sessions["sess_1"].cancelled == {1}
    await server.wait_streams(0)


@pytest.mark.parametrize("code", ["RATE_LIMITED", "TIMEOUT", "CONNECTION_LOST", "AGENT_FAILED"])
async def test_errors_are_told_apart_by_their_code(
    server: FakeServer, make_client: MakeClient, code: str
) -> None:
    client = make_client(server.url, max_retries=0)
    if code == "RATE_LIMITED":
        server.fail_next("/v1/sessions/execute", 429, "")
    elif code == "CONNECTION_LOST":
        await server.stop()
    else:
        server.script = lambda goal: [
            {"type": "error", "code": code, "message": "m", "retryable": True},
            {"type": "done", "status": "failed"},
        ]
    handled = ""
    try:
        async for _ in client.sessions.execute_stream(agent_id="agent_123", goal="9"):
            pass
    except StreamError as e:
        if e.code == "RATE_LIMITED":
            await asyncio.sleep(e.retry_after * 0.01)
            handled = "RATE_LIMITED"
        elif e.code in ("TIMEOUT", "CONNECTION_LOST"):
            handled = e.code
        else:
            handled = "else"
    assert handled == {"AGENT_FAILED": "else"}.get(code, code)
