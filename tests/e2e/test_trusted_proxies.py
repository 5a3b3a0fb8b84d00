"""`trusted_proxies`: a trusted proxy is believed when it names its clients, and nobody else is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.proxies import nginx_snippet
from support.server import PATIENCE, Serve
from websockets.asyncio.client import ClientConnection, connect

pytestmark = pytest.mark.anyio

#: All of 127.0.0.0/8 is this machine's own.
ATTACKER, VIEWER = "127.0.0.2", "127.0.0.3"


class Sockets:
    """Sockets that say nothing, through nginx."""

    def __init__(self, port: int, stack: contextlib.AsyncExitStack) -> None:
        self._port, self._stack = port, stack

    async def open(self, address: str, **headers: str) -> ClientConnection:
        opening = connect(
            f"ws://127.0.0.1:{self._port}/v1/ws",
            local_addr=(address, 0),
            additional_headers=headers,
            open_timeout=PATIENCE,
        )
        return await self._stack.enter_async_context(opening)


@pytest.fixture
async def stack() -> AsyncIterator[contextlib.AsyncExitStack]:
    async with contextlib.AsyncExitStack() as opened:
        yield opened


async def closed(socket: ClientConnection) -> None:
    await asyncio.wait_for(socket.wait_closed(), PATIENCE)


async def all_open(*sockets: ClientConnection) -> None:
    for socket in sockets:
        await asyncio.wait_for(await socket.ping(), PATIENCE)


async def test_a_limit_counts_the_clients_behind_a_trusted_proxy(
    serve: Serve, stack: contextlib.AsyncExitStack, tmp_path: Path
) -> None:
    server = serve(limits__connections=16, trusted_proxies="127.0.0.1,10.0.0.0/8")
    proxy = stack.enter_context(nginx_snippet(server, tmp_path / "nginx"))
    sockets = Sockets(proxy.port, stack)
    viewer = await sockets.open(VIEWER)
    # What the attacker claims to be is replaced by the proxy.
    crowd = [await sockets.open(ATTACKER, **{"X-Forwarded-For": f"9.9.9.{n}"}) for n in range(5)]
    await closed(crowd[0])
    await closed(crowd[1])
    await all_open(viewer, *crowd[2:])


async def test_without_trust_all_of_them_are_one_client(
    serve: Serve, stack: contextlib.AsyncExitStack, tmp_path: Path
) -> None:
    server = serve(limits__connections=16, trusted_proxies="10.0.0.0/8")
    proxy = stack.enter_context(nginx_snippet(server, tmp_path / "nginx"))
    sockets = Sockets(proxy.port, stack)
    viewer = await sockets.open(VIEWER)
    crowd = [await sockets.open(ATTACKER, **{"X-Forwarded-For": VIEWER}) for _ in range(4)]
    # The oldest of the proxy's gave way.
    await closed(viewer)
    await all_open(*crowd)
