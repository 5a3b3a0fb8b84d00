"""Streaming over a sound network: what the chunks are, how a stream starts, ends and closes."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from resonantgenesis import (
    AgentFailed,
    AuthenticationError,
    NotFound,
    ResonantGenesis,
    StreamError,
    TurnTimeout,
)

from ..conftest import MakeClient
from ..support.fake_server import FakeServer

pytestmark = pytest.mark.anyio


async def text_of(stream: Any) -> str:
    return "".join([chunk.content async for chunk in stream])


async def test_chunks_come_in_order_and_end_with_done(
    server: FakeServer, client: ResonantGenesis
) -> None:
    stream = client.sessions.execute_stream(agent_id="a", goal="12")
    assert stream.session_id is None and stream.turn is None and stream.position == 0
    chunks = [chunk async for chunk in stream]
    assert [chunk.position for chunk in chunks] == list(range(1, 13))
    assert [chunk.type for chunk in chunks[:4]] == ["step", "tool_call", "tool_result", "text"]
    assert chunks[1].tool == "docs_search" and chunks[1].args == {"query": "x"}
    assert chunks[2].result == ["y"]
    done = chunks[-1]
    assert (done.type, done.session_id, done.turn, done.status) == ("done", "sess_1", 1, "success")
    assert done.output == "".join(chunk.content for chunk in chunks)
    assert done.usage is not None and done.usage.output_tokens == 2
    assert (stream.session_id, stream.turn, stream.position) == ("sess_1", 1, 12)
    assert [chunk async for chunk in stream] == []


async def test_a_stream_starts_nothing_before_it_is_read(
    server: FakeServer, client: ResonantGenesis
) -> None:
    stream = client.sessions.execute_stream(agent_id="a", goal="5")
    await stream.cancel()
    assert [chunk async for chunk in stream] == []
    assert server.requests == []


async def test_entering_connects(server: FakeServer, client: ResonantGenesis) -> None:
    server.hold_at = 0
    async with client.sessions.execute_stream(agent_id="a", goal="5") as stream:
        assert (stream.session_id, stream.turn) == ("sess_1", 1)
        server.release.set()
        assert len([chunk async for chunk in stream]) == 5


async def test_entering_raises_what_the_server_refuses(
    server: FakeServer, make_client: MakeClient
) -> None:
    client = make_client(server.url)
    server.fail_next("/v1/sessions/execute", 404, {"error": {"code": "AGENT_NOT_FOUND"}})
    with pytest.raises(NotFound):
        async with client.sessions.execute_stream(agent_id="nobody", goal="5"):
            raise AssertionError("entered")


async def test_every_execute_has_a_key_of_its_own(
    server: FakeServer, client: ResonantGenesis
) -> None:
    for _ in range(2):
        await text_of(client.sessions.execute_stream(agent_id="a", goal="5"))
    keys = [r.headers["idempotency-key"] for r in server.asked("POST", "/v1/sessions/execute")]
    assert len(set(keys)) == 2
    await text_of(client.sessions.execute_stream(agent_id="a", goal="5", idempotency_key="mine"))
    assert server.requests[-1].headers["idempotency-key"] == "mine"


async def test_what_an_execute_says_is_what_is_sent(
    server: FakeServer, client: ResonantGenesis
) -> None:
    stream = client.sessions.execute_stream(
        agent_id="a",
        goal="5",
        context="in words",
        max_steps=3,
        timeout_seconds=9.5,
        metadata={"m": 1},
        if_busy="enqueue",
        on_disconnect="cancel",
        compact=True,
        resume_from=0,
    )
    await text_of(stream)
    assert server.requests[0].body == {
        "agent_id": "a",
        "goal": "5",
        "context": {"text": "in words"},
        "max_steps": 3,
        "timeout_seconds": 9.5,
        "metadata": {"m": 1},
        "if_busy": "enqueue",
        "on_disconnect": "cancel",
        "compact": True,
        "stream": True,
    }


async def test_mistakes_are_told_at_once(client: ResonantGenesis) -> None:
    with pytest.raises(TypeError, match="colour"):
        client.sessions.execute_stream(agent_id="a", goal="5", colour=1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="resume_from"):
        client.sessions.execute_stream(agent_id="a", goal="5", resume_from=-1)


async def test_a_join_sees_the_newest_turn_and_ends(
    server: FakeServer, client: ResonantGenesis
) -> None:
    session = await client.sessions.create(agent_id="a")
    for _ in range(2):
        await text_of(session.execute_stream(goal="6"))
    joined = [chunk.position async for chunk in client.sessions.join(session.id)]
    assert joined == list(range(7, 13))
    assert [c.position async for c in session.join(resume_from=3, turn=1)] == [4, 5, 6]
    assert [c.position async for c in session.join(resume_from=0)] == list(range(1, 13))
    assert [c.position async for c in session.join(resume_from=12)] == []


async def test_cancel_ends_the_turn_and_the_stream(
    server: FakeServer, client: ResonantGenesis
) -> None:
    server.hold_at = 4
    statuses = []
    stream = client.sessions.execute_stream(agent_id="a", goal="50")
    async for chunk in stream:
        if chunk.position == 4:
            await stream.cancel()
        statuses.append(chunk.status)
    assert statuses[-1] == "cancelled"
    assert server.asked("POST", "/v1/sessions/sess_1/cancel")[0].body == {"turn": 1}


FAILURES = [("AGENT_FAILED", AgentFailed), ("TIMEOUT", TurnTimeout), ("TIMEOUT", TimeoutError)]


@pytest.mark.parametrize(("code", "kind"), FAILURES)
async def test_an_error_chunk_raises(
    server: FakeServer, client: ResonantGenesis, code: str, kind: type[Exception]
) -> None:
    error = {"type": "error", "code": code, "message": "so it went", "retryable": True}
    server.script = lambda goal: [
        {"type": "text", "content": "a"},
        error,
        {"type": "done", "status": "failed"},
    ]
    seen = []
    with pytest.raises(StreamError) as raised:
        async for chunk in client.sessions.execute_stream(agent_id="a", goal=""):
            seen.append(chunk.content)
    assert seen == ["a"]
    assert isinstance(raised.value, kind)
    assert raised.value.code == code and raised.value.retryable
    assert (raised.value.session_id, raised.value.position) == ("sess_1", 2)
    await server.wait_streams(0)
    stream = client.sessions.execute_stream(agent_id="a", goal="", raise_on_error=False)
    chunks = [chunk async for chunk in stream]
    assert [chunk.type for chunk in chunks] == ["text", "error", "done"]
    assert chunks[1].code == code and chunks[1].message == "so it went"


async def test_unknown_events_pass_and_broken_ones_do_no_harm(
    server: FakeServer, client: ResonantGenesis
) -> None:
    server.script = lambda goal: [
        {"type": "reasoning", "thought": "hm", "agent_id": "x"},
        {"type": "text", "content": "a"},
        {"type": "done", "status": "success"},
    ]
    chunks = [c async for c in client.sessions.execute_stream(agent_id="a", goal="")]
    assert [c.type for c in chunks] == ["reasoning", "text", "done"]
    assert chunks[0].thought == "hm" and chunks[0].content == "" and chunks[0].tool is None
    assert chunks[0].anything is None and chunks[0].raw["agent_id"] == "x"


async def test_a_cancelled_task_closes_the_connection_at_once(
    server: FakeServer, client: ResonantGenesis
) -> None:
    server.hold_at = 3
    stream = client.sessions.execute_stream(agent_id="a", goal="9")
    with pytest.raises(asyncio.TimeoutError):
        async with asyncio.timeout(20) as scope:
            async for chunk in stream:
                if chunk.position == 3:
                    scope.reschedule(asyncio.get_running_loop().time())
    await server.wait_streams(0)
    assert server.asked("POST", ".*/cancel") == []
    assert stream.position == 3
    assert [chunk async for chunk in stream] == []


async def test_closing_from_another_task_ends_the_loop(
    server: FakeServer, client: ResonantGenesis
) -> None:
    server.hold_at = 3
    stream = client.sessions.execute_stream(agent_id="a", goal="9")
    reader = asyncio.create_task(text_of(stream))
    await server.wait_streams(1)
    await stream.aclose()
    await stream.aclose()
    assert await asyncio.wait_for(reader, 20) == ""
    await server.wait_streams(0)


async def test_break_closes_the_connection(server: FakeServer, client: ResonantGenesis) -> None:
    server.hold_at = 3
    async for _ in client.sessions.execute_stream(agent_id="a", goal="9"):
        break
    gc.collect()
    await server.wait_streams(0)


async def test_turns_in_a_row_share_a_connection(
    server: FakeServer, client: ResonantGenesis
) -> None:
    session = client.sessions.create("a")
    for _ in range(5):
        assert len([chunk async for chunk in session.execute_stream("9")]) == 9
    assert server.connections == 1


async def test_two_readers_of_one_stream_are_refused(
    server: FakeServer, client: ResonantGenesis
) -> None:
    server.hold_at = 0
    stream = client.sessions.execute_stream(agent_id="a", goal="9")
    first = asyncio.create_task(anext(stream))
    await server.wait_streams(1)
    with pytest.raises(RuntimeError, match="already being read"):
        await anext(stream)
    server.release.set()
    assert (await first).position == 1
    await stream.aclose()


async def test_a_refused_credential_raises_and_never_shows(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with ResonantGenesis(api_key="rg_live_topsecret", base_url=server.url) as client:
        stream = client.sessions.execute_stream(agent_id="a", goal="9")
        with pytest.raises(AuthenticationError) as raised:
            await text_of(stream)
        shown = [repr(client), repr(stream), repr(client._settings), str(raised.value), caplog.text]
        assert raised.value.request_id == "req_1" and not raised.value.retryable
    assert not any("topsecret" in text for text in shown)
    assert not any("topsecret" in request.path for request in server.requests)


async def test_many_streams_at_once_each_get_their_own(
    server: FakeServer, client: ResonantGenesis
) -> None:
    server.hold_at = 3
    streams = [client.sessions.execute_stream(agent_id="a", goal="20") for _ in range(150)]
    texts = asyncio.gather(*(text_of(stream) for stream in streams))
    await server.wait_streams(150)
    server.release.set()
    assert len(set(await texts)) == 1
    assert len({stream.session_id for stream in streams}) == 150


@pytest.mark.parametrize("suffix", ["/", "/prefix", "/prefix/", "/api", "/v1", "/prefix/v1/"])
async def test_a_base_url_may_have_a_path(
    server: FakeServer, make_client: MakeClient, suffix: str
) -> None:
    client = make_client(server.url + suffix)
    assert await text_of(client.sessions.execute_stream(agent_id="a", goal="6"))
