"""What nodes say of themselves and of each other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from resonantgenesis_server import calls as calls_module
from resonantgenesis_server.calls import Calls
from resonantgenesis_server.files.disk import place_of
from resonantgenesis_server.http.api.live_metrics import (
    HistogramBody,
    LiveMetrics,
    NodeMetrics,
    OpenTurnsBody,
    ViewersBody,
)
from resonantgenesis_server.metrics import METERS
from resonantgenesis_server.nodes import Load, NodeDirectory, NodeStatus, node_id

from .conftest import BEAT, TTL, FeedNode

pytestmark = pytest.mark.anyio
Open = Callable[[], Awaitable[FeedNode]]


def directory_of(node: FeedNode, load: Load) -> NodeDirectory:
    nodes = node.log.nodes
    own = NodeStatus(node_id(nodes.id), "host", "1.0", 0.0, started_at=float(nodes.id))
    return NodeDirectory(own, lambda: load, nodes, Calls(nodes))


async def test_an_embedded_store_has_one_node() -> None:
    own = NodeStatus("node_7", "host", "1.0", 0.0, started_at=5.0)
    (only,) = await NodeDirectory(own, lambda: Load(1, 2, 3)).list()
    assert only == NodeStatus("node_7", "host", "1.0", 0.0, 5.0, Load(1, 2, 3))


async def test_every_node_tells_of_all_and_a_silent_one_is_there_without_its_load(
    feed_node: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = await feed_node(), await feed_node()
    first, second = directory_of(one, Load(1, 0, 4)), directory_of(two, Load(0, 5, 6))
    async with asyncio.timeout(20):
        while len(one.log.nodes.others) + len(two.log.nodes.others) < 2:
            await asyncio.sleep(0.01)
    answered = METERS.node_calls.counts["answered"]
    for directory in (first, second):
        listed = await directory.list()
        assert [node.id for node in listed] == [node_id(one.log.node), node_id(two.log.node)]
        assert [node.load for node in listed] == [Load(1, 0, 4), Load(0, 5, 6)]
        assert [node.started_at for node in listed] == [one.log.node, two.log.node]
        assert all(0 <= node.last_seen < 20 for node in listed)
    assert METERS.node_calls.counts["answered"] - answered == 2
    failed = METERS.node_calls.counts["failed"]
    monkeypatch.setattr(calls_module, "_MAX_CALLS", -1)  # it answers that it cannot
    own, other = await first.list()
    assert own.load == Load(1, 0, 4)
    assert (other.id, other.load, other.started_at) == (node_id(two.log.node), None, None)
    assert METERS.node_calls.counts["failed"] - failed == 1


async def test_every_node_tells_what_it_does_for_an_organization(feed_node: Open) -> None:
    async def waiting(_organization_id: str | None) -> int:
        return 0

    def live_metrics(node: FeedNode) -> LiveMetrics:
        def here(organization_id: str | None) -> NodeMetrics:
            nothing = HistogramBody(bounds=[], counts=[])
            return NodeMetrics(
                node=node_id(node.log.node),
                uptime_seconds=1,
                open_streams=0,
                viewers=ViewersBody(live=0, behind=0),
                open_turns=OpenTurnsBody(running=0, queued=0),
                ended_turns={organization_id or "all": node.log.node},
                chunks=0,
                first_chunk=nothing,
                append_to_socket=nothing,
                limits_hit={},
            )

        return LiveMetrics(here, waiting, Calls(node.log.nodes))

    one, two = await feed_node(), await feed_node()
    first, second = live_metrics(one), live_metrics(two)
    async with asyncio.timeout(20):
        while len(one.log.nodes.others) + len(two.log.nodes.others) < 2:
            await asyncio.sleep(0.01)
    for metrics in (first, second):
        for organization_id, word in (("org_1", "org_1"), (None, "all")):
            found = await metrics.of(organization_id)
            assert [node.ended_turns for node in found] == [
                {word: one.log.node},
                {word: two.log.node},
            ]


async def test_nodes_whose_files_are_elsewhere_are_named_once(
    feed_node: Open, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [tmp_path / "own", tmp_path / "shared", tmp_path / "shared"]
    nodes = [await feed_node() for _ in folders]
    async with asyncio.timeout(20):
        while any(len(node.log.nodes.others) < 2 for node in nodes):
            await asyncio.sleep(0.01)
    directories = []
    for node, folder in zip(nodes, folders, strict=True):
        folder.mkdir(exist_ok=True)
        own = NodeStatus(node_id(node.log.node), "host", "1.0", 0.0, started_at=1.0)
        calls = Calls(node.log.nodes)
        files = place_of(folder)
        directories.append(
            NodeDirectory(own, lambda: Load(0, 0, 0), node.log.nodes, calls, files=files)
        )
    unknown = NodeDirectory(own, lambda: Load(0, 0, 0), nodes[0].log.nodes, calls)
    for asking in (directories[1], unknown):
        asking.start()
        async with asyncio.timeout(20):
            while asking._asking.running:
                await asyncio.sleep(0.01)
        await asking.close()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "their files" in line]
    assert f"['{node_id(nodes[0].log.node)}']" in line


async def test_a_node_that_cannot_beat_is_not_ready(feed_node: Open) -> None:
    node = await feed_node()
    assert node.log.problem is None
    await node.log.nodes.close()  # its beat stands still
    async with asyncio.timeout(20):
        while node.log.problem is None:
            await asyncio.sleep(BEAT)
    assert node.log.problem == "the database does not answer"
    assert node.log.nodes.last_seen(node.log.node) > TTL / 2


async def test_a_node_that_was_declared_dead_says_so(feed_node: Open) -> None:
    one, two = await feed_node(), await feed_node()
    async with asyncio.timeout(20):
        while not one.log.nodes.others:
            await asyncio.sleep(0.01)
        await two.log.nodes.close()
        while one.log.nodes.others:
            await asyncio.sleep(0.01)
        two.log.nodes.start()
        while two.log.problem in {None, "the database does not answer"}:
            await asyncio.sleep(0.01)
    assert two.log.problem == "this node was declared dead"
