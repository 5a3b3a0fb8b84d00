"""`StreamingPool`, over real sockets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from resonantgenesis import AuthenticationError, Unavailable
from resonantgenesis.streaming import (
    StreamingPool,
)

from ..conftest import KEY
from ..support.fake_socket import FakeSocketServer

pytestmark = pytest.mark.anyio


def pool_of(server: FakeSocketServer, size: int, **options: Any) -> StreamingPool:
    return StreamingPool(max_connections=size, api_key=KEY, base_url=server.url, **options)


async def test_connections_are_used_again_and_never_too_many(server: FakeSocketServer) -> None:
    async with pool_of(server, 3) as pool:
        lent = 0

        async def use(number: int) -> None:
            nonlocal lent
            async with pool.get_connection() as connection:
                lent += 1
                assert lent <= 3 >= pool.size
                await connection.send({"type": "ping", "id": str(number)})
                assert json.loads(await connection.recv()) == {"type": "pong", "id": str(number)}
                lent -= 1

        await asyncio.gather(*(use(number) for number in range(50)))
        assert pool.size == 3 == len(server.handshakes)
    await server.until(lambda: not server.sockets)
    with pytest.raises(RuntimeError, match="closed"):
        async with pool.get_connection():
            pass


async def test_who_asks_first_gets_it_first(server: FakeSocketServer) -> None:
    order: list[int] = []

    async def use(number: int) -> None:
        async with pool.get_connection():
            order.append(number)
            await asyncio.sleep(0)

    async with pool_of(server, 1) as pool:
        await asyncio.gather(*(use(number) for number in range(20)))
    assert order == list(range(20))


async def test_broken_ones_are_replaced(server: FakeSocketServer) -> None:
    async with pool_of(server, 1) as pool:
        async with pool.get_connection() as first:
            pass
        server.connections[0].transport.abort()
        await first.ws.wait_closed()
        async with pool.get_connection() as second:
            assert second.is_open and second is not first
            server.connections[-1].transport.abort()
            assert [text async for text in second] == []
        async with pool.get_connection() as third:
            assert third.is_open
        with pytest.raises(KeyError):
            async with pool.get_connection():
                raise KeyError("mine")
        async with pool.get_connection() as fourth:
            assert fourth is not third and pool.size == 1


async def test_the_next_borrower_finds_nothing_of_the_last(server: FakeSocketServer) -> None:
    async with pool_of(server, 1) as pool:
        async with pool.get_connection() as connection:
            await connection.send({"type": "subscribe", "channels": ["app"], "since": "c_0"})
            execute = {"type": "execute", "goal": "g", "idempotency_key": "k"}
            await connection.send(json.dumps(execute))
            while json.loads(await connection.recv())["type"] != "started":
                continue
            await server.run_turns()
            while json.loads(await connection.recv())["type"] != "done":
                continue
            server.publish("app")
            await server.tell()
        assert server.heard("unsubscribe")[0]["channels"] == ["app"]
        server.publish("app")
        await server.tell()
        async with pool.get_connection() as same:
            assert same is connection
            await same.send({"type": "ping"})
            assert json.loads(await same.recv()) == {"type": "pong"}
            # A turn that has not ended would go on telling: such a socket is not used again.
            await same.send(execute | {"idempotency_key": "l"})
        async with pool.get_connection() as other:
            assert other is not same


async def test_opening_is_tried_again_and_at_last_raised(server: FakeSocketServer) -> None:
    server.refuse.append((503, {"Retry-After": "0"}))
    async with pool_of(server, 1, max_retries=1) as pool, pool.get_connection():
        assert len(server.handshakes) == 2
    server.refuse.extend([(503, {"Retry-After": "0"})] * 2)
    async with pool_of(server, 1, max_retries=1) as pool:
        with pytest.raises(Unavailable):
            async with pool.get_connection():
                pass
        server.tokens = set()
        with pytest.raises(AuthenticationError):
            async with pool.get_connection():
                pass
        server.tokens = {KEY}
        async with pool.get_connection():
            assert "1 lent, 0 idle" in repr(pool)
    with pytest.raises(ValueError, match="max_connections"):
        pool_of(server, 0)
