"""Sockets that say nothing keep nobody out who does, whatever address they come from."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
import websockets
from resonantgenesis_server.http.serving.connection_limit import client_address
from ws_harness import KEY, PATIENCE, Client, Serve, Server

pytestmark = pytest.mark.anyio

#: All of 127.0.0.0/8 is this machine's own.
OURS, THEIRS = "127.0.0.1", "127.0.0.2"


class Crowd:
    """Silent sockets."""

    def __init__(self, server: Server, stack: AsyncExitStack) -> None:
        self._server = server
        self._stack = stack

    async def silent(self, address: str) -> Client:
        connecting = self._server.connect(None, local_addr=(address, 0))
        return await self._stack.enter_async_context(connecting)


async def open_(client: Client) -> bool:
    """Whether it is: a ping of the protocol is answered before anybody has said who they are."""
    try:
        async with asyncio.timeout(PATIENCE):
            await (await client.ws.ping())
    except websockets.ConnectionClosed:
        return False
    return True


async def test_two_hundred_of_one_address_keep_no_other_out(server: Server) -> None:
    async with AsyncExitStack() as stack:
        crowd = Crowd(server, stack)
        silent = [await crowd.silent(THEIRS) for _ in range(200)]
        for _ in range(3):
            async with server.connect(None, local_addr=(OURS, 0)) as client:
                await client.ask("authenticated", "auth", token=KEY)
                await client.ask("pong", "ping")
        # The first took the place of the one that had waited longest, the others found one free.
        assert await silent[0].closed() == 4408
        assert silent[0].seen == []
        assert all([await open_(client) for client in silent[1:]])


async def test_the_address_with_the_most_gives_way(serve: Serve) -> None:
    server = await serve(unauthenticated=4)
    async with AsyncExitStack() as stack:
        crowd = Crowd(server, stack)
        ours = await crowd.silent(OURS)
        theirs = [await crowd.silent(THEIRS) for _ in range(3)]
        theirs.append(await crowd.silent(THEIRS))
        assert await theirs[0].closed() == 4408
        also_ours = await crowd.silent(OURS)
        assert await theirs[1].closed() == 4408
        for client in (ours, also_ours, theirs[2], theirs[3]):
            await client.ask("authenticated", "auth", token=KEY)


async def test_behind_a_proxy_who_says_nothing_gives_way_to_who_comes(serve: Serve) -> None:
    server = await serve(unauthenticated=3)
    async with AsyncExitStack() as stack:
        crowd = Crowd(server, stack)
        first, second, third = [await crowd.silent(OURS) for _ in range(3)]
        async with server.connect() as known:  # who has a credential is not concerned
            await known.ask("pong", "ping")
        await first.ask("authenticated", "auth", token=KEY)  # and has left the crowd
        fourth = await crowd.silent(OURS)
        fifth = await crowd.silent(OURS)
        assert await second.closed() == 4408
        for client in (third, fourth, fifth):
            await client.ask("authenticated", "auth", token=KEY)


async def test_who_is_being_checked_does_not_give_way(serve: Serve) -> None:
    server = await serve(unauthenticated=1)
    verify = server.parts.sockets._authenticator.verify
    asked, goes_on = asyncio.Event(), asyncio.Event()

    class Slow:
        async def verify(self, credential: str) -> Any:
            asked.set()
            await asyncio.wait_for(goes_on.wait(), PATIENCE)
            return await verify(credential)

    server.parts.sockets._authenticator = Slow()
    async with server.connect(None) as client:
        await client.send("auth", token=KEY)
        await asyncio.wait_for(asked.wait(), PATIENCE)
        with pytest.raises(websockets.InvalidStatus) as caught:
            async with server.connect(None):
                raise AssertionError("the handshake was accepted")
        assert caught.value.response.status_code == 503
        assert int(caught.value.response.headers["retry-after"]) >= 1
        goes_on.set()
        assert (await client.receive())["type"] == "authenticated"
        async with server.connect(None) as other:
            await other.ask("authenticated", "auth", token=KEY)


@pytest.mark.parametrize(
    ("host", "counted_to"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("/run/server.sock", "/run/server.sock"),
    ],
)
def test_an_ipv6_client_is_counted_by_its_network(host: str, counted_to: str) -> None:
    assert client_address((host, 4711)) == counted_to


def test_a_client_without_an_address_is_one_of_those() -> None:
    assert client_address(None) == ""
