"""Processes that share a listening socket: the one with the fewest connections gets the next."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator

import pytest
from resonantgenesis_server.http.serving.shared_listener import (
    ConnectionCounts,
    SharedListener,
    Sharing,
)

pytestmark = pytest.mark.anyio


class Connection(asyncio.Protocol):
    """As those of the server: it adds itself to the set of its listener."""

    def __init__(self, owner: Worker) -> None:
        self._owner = owner

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._owner.listener.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.listener.connections.discard(self)


class Worker:
    def __init__(self, bound: socket.socket, counts: ConnectionCounts, place: int) -> None:
        self.accepts = False
        sharing = Sharing(counts, place, self._accepts)
        self.listener = SharedListener(bound.dup(), sharing, lambda: Connection(self))

    def _accepts(self, _listener: SharedListener) -> None:
        self.accepts = True

    @property
    def count(self) -> int:
        return len(self.listener.connections)


class World:
    """Three places, a socket, and its clients."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        descriptor = ConnectionCounts.create(3)
        self._stack.callback(os.close, descriptor)
        self.counts = ConnectionCounts(descriptor)
        self._bound = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self._bound.setblocking(False)
        self.workers: list[Worker] = []

    def start(self) -> Worker:
        worker = Worker(self._bound, self.counts, len(self.workers))
        self.workers.append(worker)
        self._stack.callback(worker.listener.close)
        worker.listener.start()
        return worker

    async def connect(self, count: int) -> list[socket.socket]:
        """Returns once all are accepted."""
        expected = sum(worker.count for worker in self.workers) + count
        address = self._bound.getsockname()
        made = [self._stack.enter_context(socket.create_connection(address)) for _ in range(count)]
        async with asyncio.timeout(10):
            while sum(worker.count for worker in self.workers) < expected:
                await asyncio.sleep(0.001)
        return made

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    made.close()


async def test_connections_are_spread(world: World) -> None:
    first, second = world.start(), world.start()
    assert first.accepts and second.accepts
    await world.connect(100)
    assert abs(first.count - second.count) <= 4
    assert world.counts.fewest(0) == second.count


async def test_one_that_comes_later_is_filled_up(world: World) -> None:
    first = world.start()
    await world.connect(40)
    later = world.start()
    await world.connect(40)
    assert abs(first.count - later.count) <= 4


async def test_one_that_hangs_holds_up_nobody(world: World) -> None:
    world.counts.set(2, 0)  # it has none, and takes none
    worker = world.start()
    await world.connect(30)
    assert worker.count == 30


async def test_a_connection_that_ends_is_not_counted(world: World) -> None:
    worker = world.start()
    made = await world.connect(3)
    made[0].close()
    async with asyncio.timeout(10):
        while worker.count > 2:
            await asyncio.sleep(0.001)
    assert world.counts.fewest(1) == 2


async def test_one_that_leaves_gets_no_more(world: World) -> None:
    first, second = world.start(), world.start()
    first.listener.leave()
    await world.connect(10)
    assert (first.count, second.count) == (0, 10)
    # The last one goes on, until there is another.
    second.listener.leave()
    await world.connect(1)
    assert second.count == 11
    third = world.start()
    await world.connect(5)
    assert third.count >= 4
