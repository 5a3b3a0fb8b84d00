"""What those who run a server ask it: tools, metrics, and deletions for good."""

from __future__ import annotations

import pytest
from resonantgenesis import ResonantGenesis

from ..support.fake_server import FakeServer

pytestmark = pytest.mark.anyio


async def test_tools(server: FakeServer, client: ResonantGenesis) -> None:
    tool = {"name": "add", "source": "built-in", "server": None, "needs_approval": False}
    server.fail_next("/v1/tools", 200, {"data": [tool], "next_cursor": None, "has_more": False})
    (found,) = await client.tools.list()
    assert (found.name, found.source, found.needs_approval) == ("add", "built-in", False)


async def test_metrics(server: FakeServer, client: ResonantGenesis) -> None:
    node = {"node": "node_1", "chunks": 7, "open_turns": {"running": 1, "queued": 0}}
    for _ in range(2):
        server.fail_next("/v1/metrics", 200, {"data": [node], "waiting_turns": 2})
    live = await client.metrics.read()
    assert server.requests[-1].query == {"of": "organization"}
    (found,) = live
    assert (found.node, found.chunks, live.waiting_turns) == ("node_1", 7, 2)
    assert found.open_turns == {"running": 1, "queued": 0}
    await client.metrics.read("server")
    assert server.requests[-1].query == {"of": "server"}


async def test_deletions(server: FakeServer, client: ResonantGenesis) -> None:
    counts = {"sessions": 3, "files": 0, "usage": 4, "requests": 1, "has_more": True}
    server.fail_next("/v1/subjects", 200, counts)
    erased = await client.subjects.delete("ann & co")
    assert (erased.sessions, erased.usage, erased.has_more) == (3, 4, True)
    assert server.requests[-1].query == {"subject": "ann & co"}
    server.fail_next("/v1/organizations/org_1", 200, {**counts, "has_more": False})
    assert not (await client.organizations.delete("org_1")).has_more
    assert server.requests[-1].method == "DELETE"
