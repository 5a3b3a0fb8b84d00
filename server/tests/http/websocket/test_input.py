"""What clients send: ids, bad messages, floods, sizes. Others are never disturbed."""

from __future__ import annotations

import asyncio
import json

import pytest
from ws_harness import Client, Serve, Server

pytestmark = pytest.mark.anyio


async def test_ids_come_back_as_they_were(server: Server) -> None:
    async with server.connect() as client:
        for given in ("", "a", "ü" * 128, 0, -5, 2**53):
            await client.send("ping", id=given)
            assert await client.receive() == {"type": "pong", "id": given}
        await client.send("ping")
        assert await client.receive() == {"type": "pong"}
        await client.send_raw('{"type":"subscribe","id":"x"}')
        assert (await client.receive())["id"] == "x"


BAD = [
    ("", "INVALID_JSON"),
    ("{", "INVALID_JSON"),
    ('{"type":"ping"} {}', "INVALID_JSON"),
    ('{"type":NaN}', "INVALID_JSON"),
    (r'{"type":"\ud800"}', "INVALID_JSON"),
    ("[]", "INVALID_REQUEST"),
    ("null", "INVALID_REQUEST"),
    ("7", "INVALID_REQUEST"),
    ("{}", "INVALID_REQUEST"),
    ('{"type":7}', "INVALID_REQUEST"),
    ('{"type":["ping"]}', "INVALID_REQUEST"),
    ('{"type":"pong"}', "INVALID_REQUEST"),
    ('{"type":"ping","id":true}', "INVALID_REQUEST"),
    ('{"type":"ping","id":{}}', "INVALID_REQUEST"),
    ('{"type":"subscribe","channels":"app"}', "INVALID_REQUEST"),
    ('{"type":"subscribe","channels":[]}', "INVALID_REQUEST"),
    ("[" * 40 + "]" * 40, "PAYLOAD_TOO_LARGE"),
    ("[" * 5_000, "INVALID_JSON"),
    (b"{}", "INVALID_REQUEST"),
    (b"\xff", "INVALID_REQUEST"),
]


async def test_a_bad_message_gets_its_error_and_the_connection_stays(serve: Serve) -> None:
    server = await serve(errors=1_000)
    async with server.connect() as client:
        for data, code in BAD:
            await client.send_raw(data)
            error = await client.receive()
            assert (error["type"], error["code"]) in {
                ("error", code), ("error", "PAYLOAD_TOO_LARGE" if "[" * 40 in str(data) else code),
            }  # fmt: skip
        await client.ask("pong", "ping")


async def test_twenty_bad_messages_end_the_connection_with_4400(server: Server) -> None:
    async with server.connect() as bad, server.connect() as good:
        for _ in range(25):
            await bad.send_raw("nonsense")
        assert await bad.closed() == 4400
        assert len(bad.seen) == 20
        assert {m["code"] for m in bad.seen} == {"INVALID_JSON"}
        await good.ask("pong", "ping")


async def test_what_is_no_mistake_of_the_message_is_not_counted(server: Server) -> None:
    async with server.connect() as client:
        for _ in range(25):
            await client.ask("error", "subscribe", channels=["session:sess_none"])
        await client.ask("pong", "ping")


async def test_too_many_messages_end_the_connection_with_4429(server: Server) -> None:
    async with server.connect() as flood, server.connect() as good:
        text = json.dumps({"type": "ping"})
        sending = [flood.send_raw(text) for _ in range(600)]
        await asyncio.gather(*sending, return_exceptions=True)
        assert await flood.closed() == 4429
        assert 200 <= len(flood.seen) < 400
        await good.ask("pong", "ping")


async def test_a_message_over_the_limit_closes_with_1009(server: Server) -> None:
    async with server.connect(compression=None) as big, server.connect() as bomb:
        await big.send("ping", id="x" * 100)
        await big.answer("pong")
        await big.send_raw(json.dumps({"type": "ping", "filler": "x" * 261_000}))
        assert (await big.answer("pong"))["type"] == "pong"
        await big.send_raw("x" * 262_145)
        assert await big.closed() == 1009
        # The same after inflating: 10 MB that take 10 KB on the way.
        await bomb.send_raw(json.dumps({"type": "ping", "filler": "x" * 10_000_000}))
        assert await bomb.closed() == 1009
    async with server.connect() as other:
        await other.ask("pong", "ping")


async def test_subscriptions_are_limited_and_a_flood_of_them_is_refused(serve: Serve) -> None:
    server = await serve(subscriptions=5, errors=1_000, messages_per_second=10_000.0)
    sessions = [(await server.execute("many", "1"))["session_id"] for _ in range(6)]
    async with server.connect() as client:
        for session in sessions[:5]:
            await client.ask("subscribed", "subscribe", channels=[f"session:{session}"])
        for _ in range(50):
            error = await client.ask("error", "subscribe", channels=["app"])
            assert (error["code"], error["details"]) == ("PAYLOAD_TOO_LARGE", {"limit": 5})
        error = await client.ask("error", "execute", agent_id="many", goal="1")
        assert error["code"] == "PAYLOAD_TOO_LARGE"
        # Replacing needs no further place.
        await client.ask("subscribed", "subscribe", channels=[f"session:{sessions[0]}"])
        await client.ask("unsubscribed", "unsubscribe", channels=[f"session:{sessions[0]}"])
        await client.ask("subscribed", "subscribe", channels=["app"])
    assert len(server.parts.events.selections) <= 2


async def test_changing_subscriptions_all_the_time_leaves_nothing_behind(serve: Serve) -> None:
    server = await serve(messages_per_second=10_000.0)
    session = (await server.execute("many", "1"))["session_id"]
    async with server.connect() as client:
        for n in range(300):
            await client.send("subscribe", channels=["app"], events=[f"app.n{n}"])
            await client.send("subscribe", channels=[f"session:{session}"])
            await client.send("unsubscribe", channels=["app", f"session:{session}"])
        await client.quiet()
        socket = next(iter(server.parts.sockets._sockets))
        assert len(socket._commands.table) == 0
        assert len(server.parts.events.selections) == 0
    hub = server.parts.events.hub
    await server.settled(lambda: not hub.busy)


async def slow_execute(server: Server, gate: asyncio.Event) -> None:
    execute = server.parts.service.execute

    async def waiting(*args: object, **options: object) -> object:
        await gate.wait()
        return await execute(*args, **options)  # type: ignore[arg-type]

    server.parts.service.execute = waiting  # type: ignore[method-assign,assignment]


async def test_executes_are_bounded_and_other_messages_go_on(serve: Serve) -> None:
    server = await serve(executes=3, execute_wait=0.1)
    gate = asyncio.Event()
    await slow_execute(server, gate)
    async with server.connect() as client:
        for n in range(3):
            await client.send("execute", agent_id="many", goal="1", id=n)
        await client.ask("pong", "ping")
        error = await client.ask("error", "execute", agent_id="many", goal="1")
        assert (error["code"], error["retry_after"]) == ("RATE_LIMITED", 1.0)
        gate.set()
        ended = 0
        while ended < 3:
            ended += (await client.receive())["type"] == "done"


async def test_a_client_that_leaves_in_the_middle_of_an_execute(serve: Serve) -> None:
    server = await serve(finish_wait=0.2)  # then it is given up, whatever it waits for
    gate = asyncio.Event()
    await slow_execute(server, gate)
    async with server.connect() as client:
        await client.send("execute", agent_id="many", goal="1")
        await client.ask("pong", "ping")
        client.ws.transport.abort()
    await server.settled(lambda: server.parts.sockets.count == 0)
    gate.set()


async def leave(client: Client) -> None:
    client.ws.transport.abort()


async def test_clients_that_come_and_go_leave_nothing_behind(server: Server) -> None:
    for _ in range(5):
        async with server.connect() as one, server.connect() as two:
            for client in (one, two):
                await client.ask("subscribed", "subscribe", channels=["app", "sessions"])
                await client.send("execute", agent_id="many", goal="50")
            await asyncio.gather(leave(one), leave(two))
    await server.settled(lambda: server.parts.sockets.count == 0)
    await server.settled(lambda: server.parts.watch.count == 0)
    await server.settled(lambda: server.parts.supervisor.running == 0)
    assert not server.parts.events.hub.busy
