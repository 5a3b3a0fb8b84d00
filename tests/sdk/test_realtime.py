"""`client.realtime()` against the real server: bad networks, restarts, tokens that end."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from typing import Any

import pytest
from resonantgenesis import AuthenticationError, Conflict, ResonantGenesis
from resonantgenesis._core.retry import Backoff
from support.proxy import EvilProxy
from support.server import KEY, Serve, ServerProcess
from support.wire import dense, execute, read_all

pytestmark = pytest.mark.anyio


def hasten(client: ResonantGenesis) -> ResonantGenesis:
    quick = Backoff(base=0.02, cap=0.2)
    client._transport.settings = dataclasses.replace(client._transport.settings, backoff=quick)
    return client


def client_of(url: str, key: str = KEY) -> ResonantGenesis:
    return hasten(ResonantGenesis(api_key=key, base_url=url, max_retries=1000))


async def positions(stream: Any) -> list[int]:
    return [chunk.position async for chunk in stream]


async def test_turns_come_whole_on_a_bad_network(server: ServerProcess) -> None:
    chance = random.Random(5)
    proxy = EvilProxy(server.port, lambda: chance.choice(["cut", "reset", "cut", "pass"]), chance)
    proxy.budget = lambda: chance.randrange(200, 12_000)
    async with (
        asyncio.timeout(40),
        proxy.running(),
        client_of(proxy.url) as client,
        server.client() as http,
        client.realtime(buffer_size=50) as rt,
    ):
        session = (await http.post("/v1/sessions", json={"agent_id": "guide"})).json()["session_id"]
        watch = rt.session(session, resume_from=0)
        turns = [rt.execute("guide", "count to 300") for _ in range(5)]
        turns.append(rt.execute("guide", "count to 200", session_id=session))
        watching = asyncio.create_task(until_done(watch))
        found = await asyncio.gather(*map(positions, turns))
        assert await watching == found[-1]
        for turn, got in zip(turns, found, strict=True):
            log = await read_all(http, str(turn.session_id), resume_from=0)
            dense(log)
            assert turn.turn == 1 and got == [frame.position for frame in log]
        assert len({turn.session_id for turn in turns}) == len(turns)
        again = rt.execute("guide", "count to 50", session_id=session)
        later = await positions(again)
        assert again.turn == 2 and later[0] == found[-1][-1] + 1
    assert proxy.connections > 3


async def until_done(stream: Any) -> list[int]:
    got = []
    async for chunk in stream:
        got.append(chunk.position)
        if chunk.type == "done":
            return got
    return got


async def test_over_a_restart_nothing_is_missed(serve: Serve) -> None:
    server = serve()
    async with asyncio.timeout(60), client_of(server.url) as client, client.realtime() as rt:
        sub = await rt.subscribe("app")
        await client.events.publish("app.before")
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        await client.events.publish("app.after")
        assert [(await anext(sub)).type for _ in range(2)] == ["app.before", "app.after"]


async def test_cancelling_and_joining(server: ServerProcess) -> None:
    async with client_of(server.url) as client, client.realtime() as rt:
        slow = rt.execute("guide", "count to 100000", context={"words_per_second": 100})
        async with asyncio.timeout(20):
            first = await anext(slow)
            watch = rt.session(str(slow.session_id), resume_from=0, compact=True)
            assert (await anext(watch)).raw["position"] >= first.position
            await slow.cancel()
            ends = [chunk async for chunk in slow]
        assert (ends[-1].type, ends[-1].status) == ("done", "cancelled")


async def test_a_message_to_a_running_turn(server: ServerProcess) -> None:
    async with client_of(server.url) as client, client.realtime() as rt:
        slow = rt.execute("guide", "count to 100000", context={"words_per_second": 100})
        async with asyncio.timeout(20):
            await anext(slow)
            session = str(slow.session_id)
            names = [await rt.send(session, "hello", message_id="m1"), await rt.send(session, "!")]
            await slow.cancel()
            chunks = [chunk async for chunk in slow]
        left = [c.raw["message_id"] for c in chunks if c.type == "user_message"]
        assert left == names
        with pytest.raises(Conflict):
            await rt.send(session, "nobody listens")


async def test_a_token_that_ends_is_replaced_or_raises(server: ServerProcess) -> None:
    async with client_of(server.url) as owner:

        async def fresh() -> str:
            token = await owner.tokens.create(["events:read", "sessions:read"], ttl_seconds=2)
            return token.token

        short = await fresh()
        async with (
            asyncio.timeout(30),
            client_of(server.url, short) as client,
            client.realtime() as doomed,
            client.realtime(get_token=fresh) as lasting,
        ):
            ends, stays = await doomed.subscribe("app"), await lasting.subscribe("app")
            with pytest.raises(AuthenticationError):
                async for _ in ends:
                    continue
            await owner.events.publish("app.later")
            assert (await anext(stays)).type == "app.later"


async def test_events_of_a_turn_arrive_beside_its_chunks(server: ServerProcess) -> None:
    async with client_of(server.url) as client, client.realtime() as rt, server.client() as http:
        sub = await rt.subscribe(["sessions", "billing"], filters={"agent_id": "guide"})
        session_id = (await execute(http, goal="count to 3"))["session_id"]
        seen: list[str] = []
        async with asyncio.timeout(20):
            async for event in sub:
                if event.data["session_id"] == session_id:
                    seen.append(event.type)
                if event.type == "billing.usage.recorded":
                    break
        assert seen[0] == "session.created" and "session.completed" in seen
