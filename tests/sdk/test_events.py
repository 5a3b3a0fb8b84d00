"""The SDK's events against the real server: the guide's calls, pages, places, and no stream."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from resonantgenesis import (
    Conflict,
    NotFound,
    PermissionDenied,
    PositionExpired,
    ResonantGenesis,
    SyncResonantGenesis,
)
from resonantgenesis._core import event_plan
from resonantgenesis._core.retry import Backoff
from support.proxy import EvilProxy
from support.server import KEY, ServerProcess
from support.wire import execute

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(server: ServerProcess) -> AsyncIterator[ResonantGenesis]:
    async with ResonantGenesis(api_key=KEY, base_url=server.url) as made:
        yield made


async def take(stream: Any, count: int) -> list[Any]:
    async with asyncio.timeout(20):
        return [await anext(stream) for _ in range(count)]


async def test_the_guides_subscriptions_and_replay(
    server: ServerProcess, client: ResonantGenesis
) -> None:
    before = datetime.now(UTC)
    everything = client.events.subscribe(events=["session.*", "agent.error"])
    completions = client.events.subscribe(
        events=["session.completed"], filters={"agent_id": "guide", "status": "success"}
    )
    async with everything, completions, server.client() as http:
        session_id = (await execute(http, goal="count to 2"))["session_id"]
        (done,) = await take(completions, 1)
        assert done.type == "session.completed" and done.data["session_id"] == session_id
        seen = []
        while "session.completed" not in seen:
            (event,) = await take(everything, 1)
            if event.data["session_id"] == session_id:
                seen.append(event.type)
        assert seen[:2] == ["session.created", "session.started"]
    since = before.strftime("%Y-%m-%dT%H:%M:%SZ")
    events = await client.events.replay(since=since, events=["session.completed"])
    assert done in list(events)
    assert [e async for e in client.events.replay(before, events="session.completed")] == [done]
    assert done.time is not None and before < done.time < before + timedelta(minutes=5)


async def test_pages_of_a_replay(client: ResonantGenesis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_plan, "_PAGE", 10)
    first = await client.events.publish("app.page", {"n": -1})
    published = await asyncio.gather(
        *(client.events.publish("app.page", {"n": n}) for n in range(35))
    )
    due = sorted(event.data["n"] for event in published)
    found = await client.events.replay(first.cursor, events=["app.page"])
    assert sorted(event.data["n"] for event in found) == due
    lazily = client.events.replay(first.cursor, events=["app.page"])
    assert [event async for event in lazily] == found == await lazily.all()
    until = client.events.replay(first.cursor, until=found[9].cursor, filters={"n": due})
    assert await until == found[:10]
    some = client.events.replay(first.cursor, events=["app.page"], limit=14)
    assert await some == found[:14] and (some.has_more, some.cursor) == (True, found[13].cursor)
    rest = client.events.replay(some.cursor, until=found[-1].cursor, events=["app.page"])
    assert [event async for event in rest] == found[14:] and not rest.has_more
    with pytest.raises(ValueError, match="limit"):
        client.events.replay(first.cursor, limit=0)
    page = await client.events.list(since=first.cursor, events="app.page", limit=7)
    assert list(page) == found[:7] and page.has_more
    after = await client.events.list(cursor=page.next_cursor, events="app.page", limit=7)
    assert list(after) == found[7:14]
    with SyncResonantGenesis(api_key=KEY, base_url=client.base_url) as same:
        replay = same.events.replay(first.cursor, events=["app.page"])
        assert await asyncio.to_thread(replay.all) == found == await asyncio.to_thread(list, replay)


async def test_looking_up_and_publishing(client: ResonantGenesis) -> None:
    one = await client.events.publish("app.order.paid", {"amount": 3}, idempotency_key="order-7")
    again = await client.events.publish("app.order.paid", {"amount": 3}, idempotency_key="order-7")
    assert one == again == await client.events.get(one.id)
    assert (one.channel, one.data, one.type) == ("app", {"amount": 3}, "app.order.paid")
    assert one.metadata["organization_id"]
    with pytest.raises(Conflict):
        await client.events.publish("app.order.paid", {"amount": 4}, idempotency_key="order-7")
    with pytest.raises(PermissionDenied):
        await client.events.publish("session.started")
    with pytest.raises(NotFound):
        await client.events.get("evt_none")
    waiting = asyncio.create_task(client.events.list(since=one.cursor, events="app.late", wait=15))
    await client.events.publish("app.late")
    assert [event.type for event in await waiting] == ["app.late"]


async def test_a_place_of_another_history_is_gone(client: ResonantGenesis) -> None:
    newest = await client.events.publish("app.x")
    stale = "c_00000000deadbeef.1"
    with pytest.raises(PositionExpired) as raised:
        await anext(client.events.subscribe(since=stale))
    assert raised.value.details["earliest"].startswith("c_")
    with pytest.raises(PositionExpired):
        await client.events.replay(stale)
    lenient = client.events.subscribe("app.x", since=stale, on_expired="earliest")
    gap, *_ = await take(lenient, 2)
    assert gap.type == "gap" and gap.cursor == raised.value.details["earliest"]
    await lenient.aclose()
    async with client.realtime() as rt:
        with pytest.raises(PositionExpired):
            await rt.subscribe("app", since=stale)
        sub = await rt.subscribe("app", events="app.x", since=stale, on_expired="earliest")
        found = await take(sub, 2)
        assert found[0].type == "gap" and found[1].type == "app.x"
        await sub.unsubscribe()
        follow = await rt.subscribe("app", since=newest.cursor)
        assert follow.cursor == newest.cursor


async def test_where_streams_are_held_back_events_are_polled(
    server: ServerProcess, client: ResonantGenesis
) -> None:
    proxy = EvilProxy(server.port, lambda: "buffer", random.Random(1))
    async with proxy.running(), ResonantGenesis(api_key=KEY, base_url=proxy.url) as held:
        quick = Backoff(base=0.01, cap=0.01)
        silent = dataclasses.replace(held._transport.settings.timeouts, silence=0.2)
        held._transport.settings = dataclasses.replace(
            held._transport.settings, backoff=quick, timeouts=silent
        )
        async with held.events.subscribe(["app.held"]) as stream:
            for n in range(3):
                await client.events.publish("app.held", {"n": n})
            assert [event.data["n"] for event in await take(stream, 3)] == [0, 1, 2]


async def test_a_plain_iterator(server: ServerProcess, client: ResonantGenesis) -> None:
    def read() -> list[Any]:
        with (
            SyncResonantGenesis(api_key=KEY, base_url=server.url) as same,
            same.events.subscribe(["app.plain"], filters={"n": 2}) as stream,
        ):
            for n in range(3):
                same.events.publish("app.plain", {"n": n})
            return [next(stream), stream.cursor]

    event, cursor = await asyncio.to_thread(read)
    assert event.data == {"n": 2} and event.cursor == cursor
