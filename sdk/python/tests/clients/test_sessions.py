"""Calls that do not stream: sessions, agents, tokens, and an execute that takes its time."""

from __future__ import annotations

import asyncio

import pytest
from resonantgenesis import (
    AgentFailed,
    ConnectionLost,
    InternalError,
    NotFound,
    ResonantGenesis,
    StreamError,
    Timeouts,
)

from ..conftest import MakeClient
from ..support.fake_server import FakeServer

pytestmark = pytest.mark.anyio


async def test_execute_returns_the_result(server: FakeServer, client: ResonantGenesis) -> None:
    result = await client.sessions.execute(agent_id="a", goal="9")
    assert (result.session_id, result.turn, result.status) == ("sess_1", 1, "success")
    assert result.output == server.sessions["sess_1"].text() and result.position == 9
    assert result.usage.input_tokens == 1


async def test_execute_follows_a_turn_that_takes_longer(
    server: FakeServer, client: ResonantGenesis
) -> None:
    server.answer_wait, server.hold_at = 0.0, 5
    running = asyncio.create_task(client.sessions.execute(agent_id="a", goal="9"))
    await server.wait_streams(1)
    server.release.set()
    result = await running
    assert (result.session_id, result.turn, result.status) == ("sess_1", 1, "success")
    assert result.output == server.sessions["sess_1"].text()
    assert (result.position, result.usage.output_tokens) == (9, 2)
    assert server.sessions["sess_1"].turns == 1


@pytest.mark.parametrize("wait", [0.0, 50.0])
async def test_execute_raises_the_turns_error(
    server: FakeServer, client: ResonantGenesis, wait: float
) -> None:
    server.answer_wait = wait
    server.pace = 0.001
    server.script = lambda goal: [
        {"type": "text", "content": "half"},
        {"type": "error", "code": "MAX_STEPS", "message": "too many", "retryable": False},
        {"type": "done", "status": "failed"},
    ]
    with pytest.raises(AgentFailed, match="too many") as raised:
        await client.sessions.execute(agent_id="a", goal="")
    assert raised.value.code == "MAX_STEPS" and raised.value.session_id == "sess_1"
    result = await client.sessions.execute(agent_id="a", goal="", raise_on_error=False)
    assert (result.status, result.output) == ("failed", "half")
    assert result.error is not None and result.error["code"] == "MAX_STEPS"


async def test_sessions_are_made_at_first_use_or_when_awaited(
    server: FakeServer, client: ResonantGenesis
) -> None:
    lazy = client.sessions.create(agent_id="a", context={"user": "Alice"})
    assert server.requests == [] and lazy.session_id == ""
    await asyncio.gather(lazy.steps(), lazy.steps())
    assert len(server.asked("POST", "/v1/sessions")) == 1
    assert lazy.id == "sess_1" and lazy.context == {"user": "Alice"}
    made = await client.sessions.create(agent_id="a")
    assert made.session_id == "sess_2" and await made is made
    assert [s.id for s in await client.sessions.list(status="created", limit=5)] == [
        "sess_1",
        "sess_2",
    ]
    assert server.requests[-1].query == {"status": "created", "limit": "5"}
    await client.sessions.list(search="order 4711")
    assert server.requests[-1].query == {"search": "order 4711"}


async def test_a_creation_whose_answer_was_lost_makes_one_session(
    server: FakeServer, client: ResonantGenesis
) -> None:
    server.fail_next("/v1/sessions", 502, "<html>")
    await client.sessions.create(agent_id="a")
    keys = {r.headers["idempotency-key"] for r in server.asked("POST", "/v1/sessions")}
    assert len(server.asked("POST", "/v1/sessions")) == 2 and len(keys) == 1


async def test_a_sessions_life(server: FakeServer, client: ResonantGenesis) -> None:
    session = client.sessions.create("a")
    assert [c.position async for c in session.execute_stream("9")] == list(range(1, 10))
    result = await session.execute("9")
    assert (result.turn, result.position) == (2, 18)
    fetched = await client.sessions.get(session.id)
    assert (await fetched.refresh()).position == 18
    assert [step.name for step in await fetched.steps()] == ["answer", "answer"]
    assert [c.position async for c in fetched.join(turn=1)] == list(range(1, 10))
    await fetched.cancel()
    assert len([c async for c in fetched.execute_stream("5")]) == 5
    await fetched.delete()
    with pytest.raises(NotFound) as raised:
        await client.sessions.get(session.id)
    assert raised.value.code == "SESSION_NOT_FOUND" and raised.value.request_id == "req_1"


async def test_cancel_by_session_or_by_key(server: FakeServer, client: ResonantGenesis) -> None:
    server.hold_at = 2
    stream = client.sessions.execute_stream("a", "9", idempotency_key="k1")
    await anext(stream)
    await client.sessions.cancel(idempotency_key="k1")
    assert [chunk.status async for chunk in stream][-1] == "cancelled"
    await client.sessions.cancel("sess_1", turn=1)
    assert server.requests[-1].body == {"turn": 1}
    with pytest.raises(ValueError, match="session_id"):
        await client.sessions.cancel()


async def test_agents(client: ResonantGenesis) -> None:
    agent = await client.agents.create(id="writer", name="Writer", engine="python")
    assert (agent.id, agent.agent_id, agent.name) == ("writer", "writer", "Writer")
    assert (await client.agents.update("writer", name="Poet")).name == "Poet"
    assert (await client.agents.get("writer")).name == "Poet"
    assert [one.id for one in await client.agents.list()] == ["writer"]
    await client.agents.delete("writer")
    with pytest.raises(NotFound):
        await client.agents.get("writer")


async def test_tokens_do_not_show(server: FakeServer, client: ResonantGenesis) -> None:
    token = await client.tokens.create(["sessions:read"], subject="alice", ttl_seconds=60)
    assert token.token == "rg_tok_secret" and token.subject == "alice"
    assert "secret" not in repr(token)
    assert server.requests[-1].body == {
        "scopes": ["sessions:read"],
        "subject": "alice",
        "ttl_seconds": 60,
    }


async def test_ids_cannot_leave_their_place_in_the_path(
    server: FakeServer, client: ResonantGenesis
) -> None:
    with pytest.raises(NotFound):
        await client.sessions.get("a/../b?c#d")
    assert server.requests[0].path == "/v1/sessions/a%2F..%2Fb%3Fc%23d"
    for bad in ("", ".", ".."):
        with pytest.raises(ValueError, match="is not an id"):
            await client.sessions.get(bad)


async def test_a_cancel_says_what_it_cancelled(server: FakeServer, client: ResonantGenesis) -> None:
    session = await client.sessions.create("a")
    server.fail_next(f"/v1/sessions/{session.id}/cancel", 200, {})
    with pytest.raises(InternalError, match="did not say which turns"):
        await session.cancel()


async def test_a_refusal_is_tried_again_and_a_lie_is_no_answer(
    server: FakeServer, make_client: MakeClient
) -> None:
    client = make_client(server.url, max_retries=1)
    await client.agents.create(id="a")
    server.fail_next("/v1/agents/a", 503, {"error": {"code": "UNAVAILABLE", "retry_after": 0}})
    assert (await client.agents.get("a")).id == "a"
    for _ in range(2):
        server.fail_next("/v1/agents/a", 200, "<html>log in to the hotel</html>")
    with pytest.raises(StreamError) as raised:
        await client.agents.get("a")
    assert raised.value.code == "UNAVAILABLE"


async def test_no_answer_in_time_is_connection_lost(
    server: FakeServer, make_client: MakeClient
) -> None:
    client = make_client(server.url, max_retries=1, timeout=Timeouts(answer=0.05))
    server.hold_at = 0
    with pytest.raises(ConnectionLost):
        await client.sessions.execute("a", "9")
    keys = {r.headers["idempotency-key"] for r in server.requests}
    assert len(server.requests) == 2 and len(keys) == 1


def test_one_client_serves_several_loops(served: object) -> None:
    server: FakeServer = served.server  # type: ignore[attr-defined]
    client = ResonantGenesis(api_key="rg_test_key", base_url=server.url)

    async def ask() -> int:
        stream = client.sessions.execute_stream("a", "9")
        return len([chunk async for chunk in stream])

    assert [asyncio.run(ask()) for _ in range(3)] == [9, 9, 9]
    asyncio.run(client.aclose())
