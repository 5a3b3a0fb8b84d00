"""What a client watches through one node is known at every node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from resonantgenesis_server.calls import Calls
from resonantgenesis_server.clients.mcp.watches import Watches
from resonantgenesis_server.model.principal import Principal

from .conftest import FeedNode
from .test_nodes import know_each_other

pytestmark = pytest.mark.anyio
ME = Principal("org_1", "key_1", frozenset({"*"}))
STRANGER = Principal("org_2", "key_2", frozenset({"*"}))


async def test_what_is_watched_is_known_at_every_node(
    feed_node: Callable[[], Awaitable[FeedNode]],
) -> None:
    one, two = await feed_node(), await feed_node()
    await know_each_other(one, two)
    calls = [Calls(node.log.nodes) for node in (one, two)]
    first, second = map(Watches, calls)
    stream = await second.opened(ME, "mcp_1")
    await first.watch(ME, "mcp_1", "sess_1")
    await first.watch(ME, "mcp_1", "sess_2")
    await second.unwatch(ME, "mcp_1", "sess_1")
    await first.watch_task(ME, "mcp_1", "sess_3.1")
    assert (list(stream.sessions), list(stream.tasks)) == (["sess_2"], ["sess_3.1"])
    assert (await first.opened(ME, "mcp_1")).sessions == stream.sessions
    assert not (await second.opened(STRANGER, "mcp_1")).sessions
    # A node that has begun since asks the others.
    calls.append(Calls(two.log.nodes))
    later = await Watches(calls[2]).opened(ME, "mcp_1")
    assert later.sessions == stream.sessions
    for each in calls:
        await each.close()


async def test_an_organization_with_many_clients_forgets_its_own_oldest() -> None:
    watches = Watches(None)
    await watches.watch(STRANGER, "mcp_0", "sess_0")
    for number in range(600):
        await watches.watch(ME, f"mcp_{number}", "sess_1")
    assert not (await watches.opened(ME, "mcp_0")).sessions
    assert (await watches.opened(ME, "mcp_599")).sessions
    assert (await watches.opened(STRANGER, "mcp_0")).sessions
    for number in range(100):
        await watches.watch_task(ME, "mcp_599", f"sess_1.{number}")
    tasks = list((await watches.opened(ME, "mcp_599")).tasks)
    assert (len(tasks), tasks[-1]) == (64, "sess_1.99")


async def test_a_flood_of_one_caller_is_forgotten_before_what_others_watch() -> None:
    watches = Watches(None)
    other, flooding = (replace(ME, subject=name) for name in ("other", "flooding"))
    await watches.watch(ME, "mcp_0", "sess_0")
    await watches.watch(other, "mcp_0", "sess_0")
    for number in range(2_000):
        await watches.opened(flooding, f"mcp_{number}")
    await watches.watch(other, "mcp_1", "sess_0")
    assert (await watches.opened(ME, "mcp_0")).sessions
    assert (await watches.opened(other, "mcp_0")).sessions
    assert (await watches.opened(other, "mcp_1")).sessions
