"""Channels of events over a socket: forms, patterns, filters, places, replacing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from resonantgenesis_server.model.events import CHANNELS
from ws_harness import Client, Serve, Server, is_event

pytestmark = pytest.mark.anyio

FIELDS = {"id", "type", "channel", "created_at", "cursor", "data", "metadata"}


async def test_an_event_is_flat_and_its_scalars_lie_beside(server: Server) -> None:
    async with server.connect() as client:
        await client.ask("subscribed", "subscribe", channels=["sessions", "agents"])
        data = {
            "session_id": "sess_1",
            "turn": 1,
            "share": 0.5,
            "ok": True,
            "error": None,
            "id": "taken",
            "type": "taken",
            "nested": {"no": 1},
            "list": [1],
        }
        written = await server.publish("session.started", **data)
        (event,) = await client.events(1)
    lifted = {"session_id", "turn", "share", "ok", "error"}
    assert {name: event[name] for name in FIELDS} == written
    assert event.keys() == FIELDS | lifted
    assert {name: event[name] for name in lifted} == {name: data[name] for name in lifted}


async def test_the_envelope_holds_the_whole_event(server: Server) -> None:
    async with server.connect() as client:
        await client.ask("subscribed", "subscribe", channels=["app"], format="envelope")
        written = await server.publish("app.paid", order="o1")
        (event,) = await client.events(1)
    assert event == {"type": "event", "channel": "app", "event": written}


async def test_every_channel_brings_its_own_and_no_other(server: Server) -> None:
    kinds = [
        "session.started", "agent.created", "team.created", "webhook.sent",
        "billing.usage.recorded", "system.limit.reached", "app.one",
    ]  # fmt: skip
    for channel, kind in zip(CHANNELS, kinds, strict=True):
        async with server.connect() as client:
            await client.ask("subscribed", "subscribe", channels=[channel])
            await server.publish_many([(each, {}) for each in kinds])
            await server.publish(kind, last=True)
            first, last = await client.events(2)
            assert (first["type"], first["channel"]) == (kind, channel)
            assert last["last"] is True


async def test_patterns_and_filters_select(server: Server) -> None:
    async with server.connect() as client:
        await client.ask(
            "subscribed",
            "subscribe",
            channels=["sessions", "agents"],
            events=["session.completed", "agent.*"],
            filters={"agent_id": ["a", "b"], "deep.status": "success"},
        )
        good: dict[str, Any] = {"agent_id": "a", "deep": {"status": "success"}}
        ids = await server.publish_many(
            [
                ("session.completed", good),
                ("session.failed", good),
                ("session.completed", good | {"agent_id": "c"}),
                ("agent.error", good | {"agent_id": "b"}),
                ("agent.error", {"agent_id": "b"}),
                ("app.any", good),
                ("agent.a.b", good),
            ]
        )
        found = await client.events(3)
        assert await client.quiet() == []
    assert [event["id"] for event in found] == [ids[0], ids[3], ids[6]]


async def test_since_a_cursor_is_exclusive_and_since_a_time_inclusive(server: Server) -> None:
    written = [await server.publish("app.n", n=n) for n in range(6)]
    async with server.connect() as client:
        await client.ask("subscribed", "subscribe", channels=["app"], since=written[2]["cursor"])
        assert [event["n"] for event in await client.events(3)] == [3, 4, 5]
        await client.ask(
            "subscribed", "subscribe", channels=["app"], since=written[4]["created_at"]
        )
        assert [event["n"] for event in await client.events(2)] == [4, 5]
        answer = await client.ask("subscribed", "subscribe", channels=["app"])
        assert answer["cursor"] == written[5]["cursor"]
        assert await client.quiet() == []


async def test_the_answer_comes_before_the_replay_and_names_the_place(server: Server) -> None:
    first = await server.publish("app.n", n=0)
    for n in range(1, 4):
        await server.publish("app.n", n=n)
    async with server.connect() as client:
        await client.send("subscribe", channels=["app", "app"], since=first["cursor"], id=7)
        answer = await client.receive()
        assert answer == {
            "type": "subscribed", "channels": ["app"], "cursor": first["cursor"], "id": 7,
        }  # fmt: skip
        assert [event["n"] for event in await client.events(3)] == [1, 2, 3]


async def test_a_trimmed_place_is_refused_with_the_earliest(server: Server) -> None:
    written = [await server.publish("app.n", n=n) for n in range(4)]
    stream = f"events:{server.principal.organization_id}"
    position = int(written[2]["cursor"].rpartition(".")[2], 16)
    await server.parts.log.trim(stream, position)
    async with server.connect() as client:
        for since in (written[0]["cursor"], "c_ff.1", "2020-01-01T00:00:00Z"):
            error = await client.ask("error", "subscribe", channels=["app"], since=since)
            assert error["code"] == "POSITION_EXPIRED"
            await client.ask(
                "subscribed", "subscribe", channels=["app"], since=error["details"]["earliest"]
            )
            assert [event["n"] for event in await client.events(2)] == [2, 3]


async def test_subscribing_again_replaces_and_narrows_what_was_there(server: Server) -> None:
    async with server.connect() as client:
        await client.ask("subscribed", "subscribe", channels=["app", "teams"])
        await client.ask("subscribed", "subscribe", channels=["app"], events=["app.b"])
        await server.publish_many([("app.a", {}), ("app.b", {}), ("team.created", {})])
        # Two subscriptions by now: the order holds within each.
        assert {e["type"] for e in await client.events(2)} == {"app.b", "team.created"}
        assert await client.quiet() == []
        await client.ask("subscribed", "subscribe", channels=["teams", "app"])
        await server.publish_many([("app.a", {}), ("team.created", {}), ("app.b", {})])
        assert [e["type"] for e in await client.events(3)] == ["app.a", "team.created", "app.b"]
        assert await client.quiet() == []


async def test_unsubscribing_leaves_the_rest(server: Server) -> None:
    async with server.connect() as client:
        await client.ask("subscribed", "subscribe", channels=["app", "teams", "billing"])
        answer = await client.ask("unsubscribed", "unsubscribe", channels=["teams", "system"])
        assert answer["channels"] == ["teams", "system"]
        await server.publish_many([("team.created", {}), ("app.a", {}), ("billing.x", {})])
        assert [e["type"] for e in await client.events(2)] == ["app.a", "billing.x"]
        await client.ask("unsubscribed", "unsubscribe", channels=["app", "billing"])
        await server.publish_many([("app.a", {}), ("billing.x", {})])
        assert await client.quiet() == []
    await server.settled(lambda: not server.parts.events.hub.busy)


async def test_replacing_under_load_loses_and_doubles_nothing(server: Server) -> None:
    """Subscriptions that are changed all the time, while events are written."""
    total = 600
    async with server.connect() as client:
        await client.ask("subscribed", "subscribe", channels=["app"])

        async def write() -> None:
            for n in range(0, total, 5):
                await server.publish_many([("app.n", {"n": i}) for i in range(n, n + 5)])

        async def change() -> None:
            for turn in range(40):
                channels = ["app", "teams"] if turn % 2 else ["app"]
                await client.send("subscribe", channels=channels)
                if turn % 3 == 0:
                    await client.send("subscribe", channels=["teams"])
                await asyncio.sleep(0.01)

        changing = asyncio.create_task(change())
        writing = asyncio.create_task(write())
        found = await client.events(total)
        await asyncio.gather(changing, writing)
        assert [event["n"] for event in found] == list(range(total))
        assert not any(is_event(m) for m in await client.quiet())


async def test_a_new_channel_begins_now_beside_one_that_goes_on(server: Server) -> None:
    """A slow subscription is replaced by one with a further channel: the old channel goes on
    where it was, the new one has nothing from before."""
    async with server.connect() as client:
        await client.ask("subscribed", "subscribe", channels=["app"])
        socket = next(iter(server.parts.sockets._sockets))
        feed = socket._commands.table.get("app")
        assert feed is not None
        feed.hold()
        await server.publish_many([("app.n", {"n": 1}), ("team.created", {"n": 2})])
        await client.ask("subscribed", "subscribe", channels=["teams", "app"])
        await server.publish_many([("team.created", {"n": 3}), ("app.n", {"n": 4})])
        assert [event["n"] for event in await client.events(3)] == [1, 3, 4]
        assert await client.quiet() == []


async def test_all_channels_or_none(server: Server) -> None:
    async with server.connect() as client:
        for channels in (
            ["app", "nope"], ["app", "session:sess_x"], ["session:a", "session:b"], ["session:"],
            ["session:a b"], [""],
        ):  # fmt: skip
            error = await client.ask("error", "subscribe", channels=channels)
            assert error["code"] == "INVALID_REQUEST"
            assert "channels" in error["details"]["fields"]
        await server.publish("app.a")
        assert await client.quiet() == []


async def test_bad_filters_are_refused(server: Server) -> None:
    bad: list[dict[str, Any]] = [
        {"events": ["a..b"]},
        {"filters": {"a": []}},
        {"filters": {"a": {"b": 1}}},
        {"since": "yesterday"},
        {"since": "c_zz"},
    ]
    async with server.connect() as client:
        for fields in bad:
            error = await client.ask("error", "subscribe", channels=["app"], **fields)
            assert error["code"] == "INVALID_REQUEST", fields
        for large in (
            {"events": ["app.*"] * 51},
            {"events": [1] * 19_000},
            {"filters": {f"f{n}": n for n in range(21)}},
            {"filters": {"a" * 201: 1}},
            {"filters": {".".join("a" * 17): 1}},
            {"filters": {"a": "x" * 1_001}},
            {"filters": {"a": ["x" * 1_000] * 17}},
        ):
            wanted = {"type": "subscribe", "id": 1, "channels": ["app"], **large}
            await client.send_raw(json.dumps(wanted))
            error = await client.answer("error")
            assert error["code"] == "INVALID_REQUEST" and error["id"] == 1, large
            assert len(json.dumps(error)) < 2_000


async def test_two_sockets_get_the_same_in_the_same_order(server: Server) -> None:
    async with server.connect() as one, server.connect(compression=None) as two:
        for client in (one, two):
            await client.ask("subscribed", "subscribe", channels=["app", "teams"])
        for n in range(50):
            await server.publish_many([("app.n", {"n": n, "text": "x" * 200}), ("team.a", {})])
        first, second = await one.events(100), await two.events(100)
    assert first == second
    cursors = [event["cursor"] for event in first]
    assert len(set(cursors)) == 100


async def test_a_quiet_subscription_gets_its_cursor(serve: Serve) -> None:
    server = await serve(quiet=0.2)
    async with server.connect() as client:
        await client.ask("subscribed", "subscribe", channels=["teams", "app"], events=["app.x"])
        await client.ask("subscribed", "subscribe", channels=["billing"])
        other = await server.publish("team.created")  # which no subscription lets through
        cursors: dict[tuple[str, ...], str] = {}
        async with asyncio.timeout(10):
            while len(cursors) < 2:
                message = await client.answer("cursor")
                cursors[tuple(message["channels"])] = message["cursor"]
        assert cursors == {("app", "teams"): other["cursor"], ("billing",): other["cursor"]}


async def test_a_busy_subscription_does_not_get_its_cursor(serve: Serve) -> None:
    server = await serve(quiet=3.0)
    async with server.connect() as client:
        await client.ask("subscribed", "subscribe", channels=["app"])
        for _ in range(3):
            await server.publish("app.x")
        await client.events(3)
        assert not [m for m in client.seen if m["type"] == "cursor"]


async def follow(client: Client, count: int) -> list[int]:
    return [event["n"] for event in await client.events(count)]


async def test_a_cut_is_resumed_from_the_last_cursor(server: Server) -> None:
    seen: list[int] = []
    cursor: str | None = None
    total = 0
    for _ in range(6):
        async with server.connect() as client:
            extra = {} if cursor is None else {"since": cursor}
            await client.ask("subscribed", "subscribe", channels=["app"], **extra)
            await server.publish_many([("app.n", {"n": total + i}) for i in range(20)])
            total += 20
            for event in await client.events(13):
                seen.append(event["n"])
                cursor = event["cursor"]
            client.ws.transport.abort()
    async with server.connect() as client:
        await client.ask("subscribed", "subscribe", channels=["app"], since=cursor)
        seen += await follow(client, total - len(seen))
        assert await client.quiet() == []
    assert seen == list(range(total))


async def test_the_server_writes_in_every_channel(server: Server) -> None:
    async with server.connect() as client:
        answer = await client.ask("subscribed", "subscribe", channels=["sessions", "webhooks"])
        assert "notes" not in answer
        answer = await client.ask("subscribed", "subscribe", channels=["sessions", "teams"])
        assert "notes" not in answer
