"""system.node.started and system.node.draining, for every organization."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

import pytest
from outbox_support import FaultyLog, Stores, events_of
from resonantgenesis_server import serve as main
from resonantgenesis_server.app import open_parts
from resonantgenesis_server.config.settings import Settings
from resonantgenesis_server.events import system_events
from resonantgenesis_server.events.system_events import NodeEvents
from resonantgenesis_server.http.middleware import Gateway
from resonantgenesis_server.http.serving.listener import Listener, listen
from resonantgenesis_server.records.access import each_organization
from resonantgenesis_server.sessions.supervisor import Supervisor

pytestmark = pytest.mark.anyio


def node(stores: Stores, log: Any = None, fence: int = 7) -> NodeEvents:
    return NodeEvents(
        log or stores.log,
        stores.records.organizations,
        node_id=f"node_{fence}",
        version="1.2.3",
    )


async def test_both_events_reach_every_organization_once(stores: Stores) -> None:
    organizations = [await stores.organization(str(number)) for number in range(3)]
    for _ in range(2):  # a repeat of the same run of the node
        assert await node(stores).started()
        assert await node(stores).draining()
    assert await node(stores, fence=8).started()
    ids = set()
    for org in organizations:
        events = await stores.events(org)
        kinds = [event["type"] for event in events]
        assert kinds == ["system.node.started", "system.node.draining", "system.node.started"]
        assert {event["channel"] for event in events} == {"system"}
        assert events[0]["data"] == events[1]["data"] == {"node_id": "node_7", "version": "1.2.3"}
        assert events[2]["data"]["node_id"] == "node_8"
        said = {"organization_id": org, "key_id": None, "request_id": None}
        assert [event["metadata"] for event in events] == [said] * 3
        ids |= {event["id"] for event in events}
    assert len(ids) == 9


async def test_organizations_beyond_a_page_get_the_event_too(stores: Stores) -> None:
    organizations = [await stores.organization(str(number)) for number in range(5)]

    class Small:
        async def all(self, *, limit: int = 2, cursor: str | None = None) -> Any:
            return await stores.records.organizations.all(limit=2, cursor=cursor)

    pages = [page async for page in each_organization(Small())]  # type: ignore[arg-type]
    assert [len(page) for page in pages] == [2, 2, 1]
    events = NodeEvents(stores.log, Small(), node_id="node_1", version="1")  # type: ignore[arg-type]
    assert await events.started()
    assert [len(await stores.events(org)) for org in organizations] == [1] * 5


async def test_a_log_that_is_down_or_hangs_holds_up_neither_start_nor_stop(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system_events, "_STOP_PATIENCE", 0.02)
    org = await stores.organization()
    log = FaultyLog(stores.log)
    log.down = True
    assert not await node(stores, log).started()
    log.down, log.hangs = False, True
    async with asyncio.timeout(20):
        assert not await node(stores, log).draining()
    assert await stores.events(org) == []


async def test_a_start_does_not_wait_for_the_last_of_many(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system_events, "_START_PATIENCE", 0.02)
    org, goes_on = await stores.organization(), asyncio.Event()

    class Slow(FaultyLog):
        async def room(self) -> None:
            await goes_on.wait()

    events = node(stores, Slow(stores.log))
    assert not await events.started()
    assert await stores.events(org) == []
    goes_on.set()
    async with asyncio.timeout(20):
        while not await stores.events(org):
            await asyncio.sleep(0.01)
    await events.close()


async def test_the_event_of_a_start_comes_after_those_of_the_last_run(
    stores: Stores, settings: Settings
) -> None:
    one, two = await stores.organization("one"), await stores.organization("two")
    await stores.make(one, "a")
    await stores.log.close()  # no other node lives
    for run in (1, 2):
        async with open_parts(settings) as parts:
            told = [event["type"] for event in await events_of(parts.log, one)]
            assert told == ["agent.created", *["system.node.started"] * run]
            events = await events_of(parts.log, two)
            assert [event["type"] for event in events] == ["system.node.started"] * run
            assert events[-1]["data"]["version"] == version("resonantgenesis-server")


async def test_the_event_of_a_drain_comes_before_it(
    stores: Stores, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    org = await stores.organization()
    await stores.log.close()  # no other node lives
    at_drain: list[str] = []
    real = Supervisor.drain

    async def watched(supervisor: Supervisor, seconds: float) -> None:
        at_drain.extend(event["type"] for event in await events_of(supervisor.log, org))
        await real(supervisor, seconds)

    async def run(
        app: Gateway,
        _listener: Listener,
        *,
        drain: Callable[[], Awaitable[None]],
        ready: Callable[[], None],
        **_more: object,
    ) -> int:
        """Stands where the sockets are: a stop that comes at once."""
        ready()
        await drain()
        assert app.draining
        return 0

    monkeypatch.setattr(Supervisor, "drain", watched)
    monkeypatch.setattr(main, "run", run)
    with listen("127.0.0.1", 0) as listener:
        assert await main._serve(settings, listener, asyncio.Event(), None) == 0
    assert at_drain == ["system.node.started", "system.node.draining"]
