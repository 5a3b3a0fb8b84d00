"""Readers of one node get what other nodes commit: in order, once, without gaps."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest
from resonantgenesis_server.feed.subscription import StreamGone, Subscription
from resonantgenesis_server.log.base import Append, NewEntry

from .conftest import FeedNode

pytestmark = pytest.mark.anyio
Open = Callable[[], Awaitable[FeedNode]]
STREAM = "sess_1"
PATIENCE = 20.0


async def write(node: FeedNode, count: int = 1, stream: str = STREAM) -> int:
    entries = [NewEntry("text", b'{"n":1}') for _ in range(count)]
    return (await node.log.append(Append(stream, entries)))[0]


class Viewer:
    """Reads without end, and keeps the positions."""

    def __init__(self, node: FeedNode, after: int = 0, stream: str = STREAM) -> None:
        self.positions: list[int] = []
        self.gone = False
        self._changed = asyncio.Event()
        self._subscription = Subscription(node.hub, node.log, stream, after)
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        with self._subscription as subscription:
            try:
                while True:
                    self.positions += [entry.position for entry in await subscription.batch()]
                    self._changed.set()
            except StreamGone:
                self.gone = True
                self._changed.set()

    async def until(self, position: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while not self.positions or self.positions[-1] < position:
                self._changed.clear()
                await self._changed.wait()
        assert self.positions == list(range(self.positions[0], position + 1))

    async def until_gone(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while not self.gone:
                self._changed.clear()
                await self._changed.wait()

    async def leave(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


async def test_a_viewer_of_another_node_sees_every_entry_once(feed_node: Open) -> None:
    one, two = await feed_node(), await feed_node()
    await write(one, 3)
    here, there = Viewer(one), Viewer(two)
    await there.until(3)
    for position in range(4, 60):
        assert await write(one) == position
    await asyncio.gather(here.until(59), there.until(59))
    await asyncio.gather(here.leave(), there.leave())
    assert two.remote.count == 0


async def test_a_stream_moves_between_nodes_under_its_viewers(feed_node: Open) -> None:
    nodes = [await feed_node(), await feed_node(), await feed_node()]
    await write(nodes[0])
    viewers = [Viewer(node) for node in nodes]
    for turn in range(30):
        await write(nodes[turn % 3], 1 + turn % 2)
    end = 1 + 30 + 15
    await asyncio.gather(*(viewer.until(end) for viewer in viewers))
    for viewer in viewers:
        await viewer.leave()


async def test_a_viewer_that_waits_for_a_new_stream_sees_it_begin(feed_node: Open) -> None:
    one, two = await feed_node(), await feed_node()
    viewer = Viewer(two)
    await asyncio.sleep(0)
    await write(one, 2)
    await viewer.until(2)
    await viewer.leave()


async def test_a_viewer_is_told_that_the_stream_was_deleted_elsewhere(feed_node: Open) -> None:
    one, two = await feed_node(), await feed_node()
    await write(one, 2)
    viewer = Viewer(two)
    await viewer.until(2)
    await one.log.delete(STREAM)
    await viewer.until_gone()
    await viewer.leave()


async def test_without_notices_a_viewer_gets_everything_a_little_later(feed_node: Open) -> None:
    one, two = await feed_node(), await feed_node()
    two.log.on_notice = lambda _marks: None
    await write(one, 2)
    viewer = Viewer(two)
    await viewer.until(2)
    await write(one, 2)
    await viewer.until(4)
    await viewer.leave()


async def test_a_stream_that_was_taken_is_followed_though_its_old_node_writes_no_more(
    feed_node: Open,
) -> None:
    one, two = await feed_node(), await feed_node()
    await write(one)
    viewer = Viewer(one)
    await viewer.until(1)
    await write(two, 5)
    await viewer.until(6)
    await viewer.leave()
