"""`client.realtime()` over real sockets: it comes back, goes on, and tells when it cannot."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from resonantgenesis import (
    AgentFailed,
    AuthenticationError,
    ConnectionLost,
    NotFound,
    Realtime,
    ResonantGenesis,
    Unavailable,
)
from resonantgenesis._realtime import credential

from ..conftest import MakeClient
from ..support.fake_socket import FakeSocketServer

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server() -> AsyncIterator[FakeSocketServer]:
    fake = FakeSocketServer()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def client(server: FakeSocketServer, make_client: MakeClient) -> ResonantGenesis:
    return make_client(server.url)


async def take(stream: Any, count: int) -> list[Any]:
    async with asyncio.timeout(20):
        return [await anext(stream) for _ in range(count)]


async def cut(server: FakeSocketServer) -> None:
    """All links break, without a word."""
    for connection in list(server.connections):
        connection.transport.abort()
    await server.until(lambda: not server.sockets or server.handshakes[1:])


async def test_channels_and_sessions_on_one_socket(
    server: FakeSocketServer, client: ResonantGenesis
) -> None:
    async with client.realtime() as rt:
        app = await rt.subscribe("app", events=["app.*"], filters={"n": [1, 2]})
        rest = await rt.subscribe(["teams", "system"], since="c_0")
        turn = rt.execute("a", "g")
        first = await take(turn, 1)
        server.publish("app", n=1)
        server.publish("system")
        await server.run_turns()
        chunks = first + [chunk async for chunk in turn]
        assert [chunk.position for chunk in chunks] == [1, 2, 3, 4]
        assert (turn.session_id, turn.turn, turn.position) == ("sess_1", 1, 4)
        assert [e.data for e in await take(app, 1)] == [{"n": 1}]
        assert [e.channel for e in await take(rest, 1)] == ["system"]
        assert app.cursor == "c_1" and rest.cursor == "c_2"
        watch = rt.session("sess_1", resume_from=2)
        assert [c.position for c in await take(watch, 2)] == [3, 4]
        assert "app cursor=c_1 open" in repr(app) and "position=4" in repr(watch)
        assert len(server.handshakes) == 1
        asked = server.heard("subscribe")[0]
        assert asked["events"] == ["app.*"] and asked["filters"] == {"n": [1, 2]}
        assert asked["format"] == "envelope"
        await rt.unsubscribe(app)
        await server.until(lambda: server.heard("unsubscribe"))
    await server.until(lambda: not server.sockets)


async def test_it_goes_on_after_a_cut(server: FakeSocketServer, client: ResonantGenesis) -> None:
    async with client.realtime() as rt:
        app = await rt.subscribe("app")
        turn = rt.execute("a", "g")
        await take(turn, 1)
        for number in range(5):
            server.publish("app", n=number)
            if number == 2:
                await server.run_turns()
            await server.tell()
            await cut(server)
        assert [e.data["n"] for e in await take(app, 5)] == [0, 1, 2, 3, 4]
        assert [chunk.position async for chunk in turn] == [2, 3, 4]
        assert server.executes == 1


async def test_an_execute_whose_answer_was_lost_starts_one_turn(
    server: FakeSocketServer, client: ResonantGenesis
) -> None:
    async with client.realtime() as rt:
        server.forgets = True
        turn = rt.execute("a", "g")
        await take(turn, 1)
        await server.run_turns()
        assert [chunk.position async for chunk in turn] == [2, 3, 4]
    assert server.executes == 1 and len(server.handshakes) == 2


async def test_a_slow_consumer_loses_nothing_and_holds_up_nobody(
    server: FakeSocketServer, client: ResonantGenesis
) -> None:
    async with client.realtime(buffer_size=8) as rt:
        slow = await rt.subscribe("app", since="c_0")
        quick = await rt.subscribe("teams", since="c_0")
        for number in range(200):
            server.publish("app", n=number)
            server.publish("teams", n=number)
        await server.tell()
        assert [e.data["n"] for e in await take(quick, 200)] == list(range(200))
        assert rt.state.requests.connected and len(server.heard("unsubscribe")) >= 1
        assert [e.data["n"] for e in await take(slow, 200)] == list(range(200))


async def test_a_link_that_does_not_answer_is_given_up(
    server: FakeSocketServer, client: ResonantGenesis
) -> None:
    async with client.realtime(ping_interval=0.05, ping_timeout=0.05) as rt:
        app = await rt.subscribe("app")
        await server.until(lambda: server.heard("ping"))
        server.deaf = True
        server.publish("app")
        await server.until(lambda: len(server.handshakes) > 1)
        server.deaf = False
        assert len(await take(app, 1)) == 1


async def test_a_server_that_drains_is_left_alone_for_as_long_as_it_asks(
    server: FakeSocketServer, client: ResonantGenesis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "resonantgenesis")
    async with client.realtime() as rt:
        app = await rt.subscribe("app")
        await server.connections[0].send('{"type":"draining","retry_after":0.03}')
        await server.connections[0].close(1012, "the server restarts")
        server.refuse.append((503, {"Retry-After": "0.02"}))
        server.publish("app")
        assert len(await take(app, 1)) == 1
    waits = [float(m.split()[-2]) for m in caplog.messages if "next attempt" in m]
    assert len(waits) == 2 and waits[0] >= 0.03 and waits[1] >= 0.02


@pytest.mark.parametrize("code", [4429, 4400, 4408, 1011])
async def test_other_closes_are_backed_off_from(
    server: FakeSocketServer, client: ResonantGenesis, code: int
) -> None:
    async with client.realtime() as rt:
        app = await rt.subscribe("app")
        server.publish("app")
        await server.connections[0].close(code, "why")
        assert len(await take(app, 1)) == 1
        assert len(server.handshakes) == 2


async def test_a_wrong_key_raises_at_once(
    server: FakeSocketServer, client: ResonantGenesis
) -> None:
    server.tokens = {"another"}
    with pytest.raises(AuthenticationError):
        async with client.realtime():
            pass
    assert len(server.handshakes) == 1


async def test_a_key_that_ends_raises_for_everybody(
    server: FakeSocketServer, client: ResonantGenesis
) -> None:
    async with client.realtime() as rt:
        app, turn = await rt.subscribe("app"), rt.execute("a", "g")
        await take(turn, 1)
        told = '{"type":"error","code":"UNAUTHENTICATED","message":"the key was revoked"}'
        await server.connections[0].send(told)
        await server.connections[0].close(4401, "refused")
        with pytest.raises(AuthenticationError, match="revoked"):
            await anext(app)
        with pytest.raises(AuthenticationError):
            await anext(turn)
        with pytest.raises(AuthenticationError):
            await rt.subscribe("teams")
    assert len(server.handshakes) == 1


async def test_a_fresh_token_is_fetched_where_there_is_one(
    server: FakeSocketServer, client: ResonantGenesis
) -> None:
    tokens = iter(["t1", "t2", "t2"])
    server.tokens = {"t1"}
    async with client.realtime(get_token=lambda: next(tokens)) as rt:
        app = await rt.subscribe("app")
        server.tokens = {"t2"}
        server.publish("app")
        await server.connections[0].close(4401, "expired")
        assert len(await take(app, 1)) == 1
        server.tokens = set()
        await server.connections[0].close(4401, "expired")
        with pytest.raises(AuthenticationError, match="get_token has no other"):
            await anext(app)
    assert server.handshakes == ["Bearer t1", "Bearer t2"]


async def test_a_token_is_renewed_before_it_expires(
    server: FakeSocketServer, client: ResonantGenesis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credential, "RENEW_AGAIN", 0.02)
    made: list[str] = []

    async def get_token() -> str:
        if len(made) == 1:
            made.append("broken")
            raise OSError("no network")
        made.append(f"t{len(made)}")
        return made[-1]

    server.tokens = {"t0"}
    server.expires_at = (datetime.now(UTC) + timedelta(seconds=0.1)).isoformat()
    async with client.realtime(get_token=get_token) as rt:
        await server.until(lambda: server.heard("auth"))
        server.expires_at = None
        await server.until(lambda: len(server.heard("auth")) == 2)
        assert [m["token"] for m in server.heard("auth")] == ["t0", "t2"]
        assert repr(rt).endswith("open>")
    assert len(server.handshakes) == 1


async def test_when_nothing_helps_it_says_so(
    server: FakeSocketServer, make_client: MakeClient
) -> None:
    client = make_client(server.url, max_retries=2)
    server.refuse.extend([(503, {})] * 3)
    with pytest.raises(Unavailable):
        async with client.realtime():
            pass
    assert len(server.handshakes) == 3
    async with client.realtime() as rt:
        app = await rt.subscribe("app")
        await server.stop()
        with pytest.raises(ConnectionLost):
            await anext(app)
        with pytest.raises(ConnectionLost):
            await rt.cancel("sess_1")


async def test_cancelling(server: FakeSocketServer, client: ResonantGenesis) -> None:
    async with client.realtime() as rt:
        turn = rt.execute("a", "g")
        await take(turn, 1)
        await turn.cancel()
        await rt.cancel("sess_1")
        assert [(m["session_id"], m.get("turn")) for m in server.heard("cancel")] == [
            ("sess_1", 1),
            ("sess_1", None),
        ]
        with pytest.raises(NotFound):
            await rt.cancel("nope")
        never = rt.execute("a", "g")
        await never.cancel()
        assert [chunk async for chunk in never] == [] and server.executes == 1


async def test_errors_of_one_stay_with_one(
    server: FakeSocketServer, client: ResonantGenesis
) -> None:
    async with client.realtime() as rt:
        app = await rt.subscribe("app")
        with pytest.raises(NotFound):
            await anext(rt.session("nope"))
        with pytest.raises(ValueError, match="already subscribed"):
            await rt.subscribe(["app", "teams"])
        with pytest.raises(ValueError, match="session"):
            await rt.subscribe("session:x")
        with pytest.raises(ValueError, match="resume_from"):
            rt.execute("a", "g", resume_from=3)
        server.publish("app")
        await server.tell()
        assert len(await take(app, 1)) == 1
    assert len(server.handshakes) == 1


async def test_an_error_chunk_raises_unless_told_otherwise(
    server: FakeSocketServer, client: ResonantGenesis
) -> None:
    async with client.realtime() as rt:
        strict = rt.execute("a", "g")
        lenient = rt.session("sess_1", resume_from=0, raise_on_error=False)
        await take(strict, 1)
        bad = {"type": "error", "code": "AGENT_FAILED", "message": "no", "position": 2}
        server.sessions["sess_1"].chunks.append(bad | {"session_id": "sess_1"})
        await server.tell()
        with pytest.raises(AgentFailed) as raised:
            await anext(strict)
        assert (raised.value.session_id, raised.value.position) == ("sess_1", 2)
        assert [c.type for c in await take(lenient, 2)] == ["step", "error"]


async def test_leaving_leaves_nothing_behind(
    server: FakeSocketServer, client: ResonantGenesis
) -> None:
    async with client.realtime() as rt:
        app = await rt.subscribe("app")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await anext(app)
        await server.until(lambda: server.heard("unsubscribe"))
        assert [e async for e in app] == []
        reader = asyncio.create_task(anext(rt.session("sess_9")))
        waiting = asyncio.create_task(anext(await rt.subscribe("teams")))
        await asyncio.sleep(0)
    for task in (reader, waiting):
        with pytest.raises((ConnectionLost, NotFound)):
            await task
    with pytest.raises(ConnectionLost):
        await rt.cancel("x")
    await server.until(lambda: not server.sockets)
    gc.collect()
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert "resonantgenesis realtime" not in names


async def test_it_is_used_inside_its_block_and_once(client: ResonantGenesis) -> None:
    rt = client.realtime()
    for act in (lambda: rt.session("s"), lambda: rt.execute("a", "g")):
        with pytest.raises(RuntimeError, match="async with"):
            act()
    async with rt:
        with pytest.raises(RuntimeError, match="once"):
            await rt.__aenter__()
    for wrong in ({"buffer_size": 0}, {"ping_interval": 0.0}, {"ping_timeout": -1.0}):
        with pytest.raises(ValueError, match="more than 0"):
            client.realtime(**wrong)  # type: ignore[arg-type]
    assert isinstance(rt, Realtime)
