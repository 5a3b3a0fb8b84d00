"""Subscribers of every kind on a network that cuts, resets and stalls: everybody gets exactly
their events, in order."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx
import pytest
from resonantgenesis import Event, ResonantGenesis, SyncResonantGenesis, Timeouts
from resonantgenesis._core.retry import Backoff
from support.proxy import EvilProxy
from support.server import KEY, Serve

pytestmark = pytest.mark.anyio

EVENTS = 2_000
PATIENCE = 50.0
#: In the data of each event: one of these, and `end` in that of the last.
KINDS = [f"k{number}" for number in range(10)]


@dataclasses.dataclass(frozen=True)
class Want:
    """A subscription: patterns and, if any, kinds."""

    patterns: tuple[str, ...]
    kinds: tuple[str, ...] = ()

    @property
    def filters(self) -> Mapping[str, Any] | None:
        return {"kind": [*self.kinds, "end"]} if self.kinds else None

    @property
    def events(self) -> list[str]:
        return [*self.patterns, "app.end"]

    def takes(self, event: Event) -> bool:
        kind = event.type == "app.end" or any(_matches(event.type, p) for p in self.patterns)
        return kind and (not self.kinds or event.data["kind"] in (*self.kinds, "end"))


def _matches(kind: str, pattern: str) -> bool:
    return kind.startswith(pattern.removesuffix("*")) if pattern.endswith("*") else kind == pattern


WANTS = [
    Want(("app.*",)),
    Want(("app.a", "team.task.*")),
    Want(("app.*",), ("k1", "k2")),
    Want(("app.b",), ("k3",)),
    Want(("team.*",)),
    Want(("app.a",), tuple(KINDS[:5])),
]

Subscriber = Callable[[str, Want, str], Awaitable[list[Event]]]


def hasten(client: Any) -> Any:
    quick = Backoff(base=0.02, cap=0.05)
    client._transport.settings = dataclasses.replace(client._transport.settings, backoff=quick)
    return client


async def by_stream(url: str, want: Want, since: str) -> list[Event]:
    client = hasten(ResonantGenesis(api_key=KEY, base_url=url, max_retries=1000))
    async with (
        client,
        client.events.subscribe(want.events, filters=want.filters, since=since) as stream,
    ):
        return await to_the_end(stream)


async def by_restarts(url: str, want: Want, since: str) -> list[Event]:
    """Leaves again and again, and comes back with the cursor, as a process that is restarted."""
    got: list[Event] = []
    chance = random.Random(7)
    client = hasten(ResonantGenesis(api_key=KEY, base_url=url, max_retries=1000))
    async with client:
        while not got or got[-1].type != "app.end":
            left = chance.randrange(1, 200)
            async with client.events.subscribe(
                want.events, filters=want.filters, since=since
            ) as stream:
                async for event in stream:
                    got.append(event)
                    left -= 1
                    if not left or event.type == "app.end":
                        break
                since = stream.cursor or since
    return got


async def by_thread(url: str, want: Want, since: str) -> list[Event]:
    def read() -> list[Event]:
        got: list[Event] = []
        client = hasten(
            SyncResonantGenesis(
                api_key=KEY, base_url=url, max_retries=1000, timeout=Timeouts(silence=2)
            )
        )
        with (
            client,
            client.events.subscribe(want.events, filters=want.filters, since=since) as stream,
        ):
            for event in stream:
                got.append(event)
                if event.type == "app.end":
                    break
        return got

    return await asyncio.to_thread(read)


async def by_socket(url: str, want: Want, since: str) -> list[Event]:
    """Two subscriptions on one socket, of which one is slow and has hardly a buffer."""
    client = hasten(ResonantGenesis(api_key=KEY, base_url=url, max_retries=1000))
    async with (
        client,
        client.realtime(ping_interval=0.5, ping_timeout=0.5, buffer_size=64) as rt,
    ):
        app = await rt.subscribe("app", events=want.events, filters=want.filters, since=since)
        teams = await rt.subscribe("teams", filters=want.filters, since=since)
        slow = asyncio.create_task(slowly(teams))
        try:
            return await to_the_end(app)
        finally:
            slow.cancel()
            await asyncio.gather(slow, return_exceptions=True)


async def slowly(stream: Any) -> None:
    async for _ in stream:
        await asyncio.sleep(0.01)


async def to_the_end(stream: Any) -> list[Event]:
    got = []
    async for event in stream:
        got.append(event)
        if event.type == "app.end":
            return got
    return got


async def publish(client: httpx.AsyncClient) -> None:
    """Eight at once, and at last the end."""
    chance = random.Random(3)
    types = ["app.a", "app.b", "team.task.done", "app.c.d"]
    bodies = [
        {"type": chance.choice(types), "data": {"n": n, "kind": chance.choice(KINDS)}}
        for n in range(EVENTS)
    ]

    async def one() -> None:
        while bodies:
            answer = await client.post("/v1/events", json=bodies.pop())
            assert answer.status_code == 201, answer.text

    await asyncio.gather(*(one() for _ in range(8)))
    answer = await client.post("/v1/events", json={"type": "app.end", "data": {"kind": "end"}})
    assert answer.status_code == 201


async def test_everybody_gets_their_events_whatever_the_network_does(serve: Serve) -> None:
    server = serve(limits__heartbeat=1)
    chance = random.Random(11)
    modes = ["cut"] * 9 + ["reset"] * 9 + ["stall", "pass"]
    proxy = EvilProxy(server.port, lambda: chance.choice(modes), chance)
    proxy.budget = lambda: chance.randrange(200, 40_000)
    kinds: list[Subscriber] = [by_stream, by_restarts, by_thread, by_socket]
    asked = [(kinds[number % 4], WANTS[number % len(WANTS)]) for number in range(12)]
    direct = ResonantGenesis(api_key=KEY, base_url=server.url)
    async with asyncio.timeout(PATIENCE), proxy.running(), direct, server.client() as client:
        since = (await direct.events.publish("app.begin")).cursor
        readers = [asyncio.create_task(kind(proxy.url, want, since)) for kind, want in asked]
        await publish(client)
        found = await asyncio.gather(*readers)
        written = await direct.events.replay(since)
    assert len(written) == EVENTS + 1
    assert proxy.connections > 3 * len(asked)
    for (kind, want), got in zip(asked, found, strict=True):
        due = [event for event in written if want.takes(event)]
        if kind is by_socket:
            due = [event for event in due if event.channel == "app"]
        assert [event.id for event in got] == [event.id for event in due], (kind, want)
        assert got == due
