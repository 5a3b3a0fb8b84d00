"""Many sockets, fifty distinct subscriptions, many events, half of the sockets reset at random:
each gets exactly the events that its patterns and filters allow, in order, none twice."""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
from array import array
from dataclasses import dataclass, field
from typing import Any

import orjson
import psutil
import pytest
from ws_harness import KEY, Server
from ws_raw import PING, PONG, TEXT, encode

pytestmark = pytest.mark.anyio

TYPES = {
    "sessions": ["session.created", "session.started", "session.completed", "session.failed",
                 "session.step.completed"],
    "agents": ["agent.created", "agent.error"],
    "teams": ["team.created", "team.task.assigned", "team.task.completed"],
    "webhooks": ["webhook.sent", "webhook.failed"],
    "billing": ["billing.usage.recorded", "billing.plan.changed"],
    "system": ["system.node.started", "system.note"],
    "app": ["app.order.paid", "app.order.sent", "app.login"],
}  # fmt: skip
CHANNEL_OF = {kind: channel for channel, kinds in TYPES.items() for kind in kinds}


@dataclass(frozen=True)
class Wish:
    """A subscription. What it lets through is written out here, not taken from the server."""

    channels: tuple[str, ...]
    events: tuple[str, ...] | None
    filters: tuple[tuple[str, tuple[Any, ...]], ...]

    def allows(self, kind: str, data: dict[str, Any]) -> bool:
        if CHANNEL_OF[kind] not in self.channels:
            return False
        if self.events is not None and not any(matches(p, kind) for p in self.events):
            return False
        return all(lookup(data, path) in values for path, values in self.filters)

    def message(self, cursor: str | None) -> bytes:
        said: dict[str, Any] = {"type": "subscribe", "channels": list(self.channels)}
        if self.events is not None:
            said["events"] = list(self.events)
        if self.filters:
            said["filters"] = {
                path: list(values) if len(values) > 1 else values[0]
                for path, values in self.filters
            }
        if cursor is not None:
            said["since"] = cursor
        return orjson.dumps(said)


def matches(pattern: str, kind: str) -> bool:
    want, have = pattern.split("."), kind.split(".")
    if want[-1] == "*":
        if len(have) < len(want):
            return False
        have = [*have[: len(want) - 1], "*"]
    return len(want) == len(have) and all(w in {"*", h} for w, h in zip(want, have, strict=True))


def lookup(data: dict[str, Any], path: str) -> Any:
    value: Any = data
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return value


def wishes(count: int, rng: random.Random) -> list[Wish]:
    """Distinct ones."""
    patterns = ["*", "session.*", "session.completed", "*.created", "*.*.completed", "team.*",
                "app.order.*", "agent.error", "webhook.*", "billing.*", "*.started"]  # fmt: skip
    found: dict[Wish, None] = {}
    while len(found) < count:
        channels = tuple(sorted(rng.sample(sorted(TYPES), rng.randint(1, 7))))
        events = None
        if rng.random() < 0.6:
            events = tuple(sorted(rng.sample(patterns, rng.randint(1, 3))))
        filters: list[tuple[str, tuple[Any, ...]]] = []
        if rng.random() < 0.5:
            filters.append(("agent_id", tuple(sorted(rng.sample(["a", "b", "c", "d"], 2)))))
        if rng.random() < 0.3:
            filters.append(("deep.ok", (True,)))
        found[Wish(channels, events, tuple(filters))] = None
    return list(found)


def happenings(count: int, rng: random.Random) -> list[tuple[str, dict[str, Any]]]:
    kinds = sorted(CHANNEL_OF)
    return [
        (
            rng.choice(kinds),
            {"n": n, "agent_id": rng.choice("abcd"), "deep": {"ok": rng.random() < 0.5}},
        )
        for n in range(count)
    ]


@dataclass(eq=False)
class Viewer(asyncio.Protocol):
    """A socket of bare bytes, which is reset after each of `cuts` events."""

    port: int
    wish: Wish
    cuts: list[int]
    expected: int = 0
    got: array[int] = field(default_factory=lambda: array("i"))
    resets: int = 0
    cursor: str | None = None
    transport: Any = None
    subscribed: asyncio.Event = field(default_factory=asyncio.Event)
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    buffer: bytearray = field(default_factory=bytearray)
    upgraded: bool = False

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        self.buffer.clear()
        self.upgraded = False
        await loop.create_connection(lambda: self, "127.0.0.1", self.port)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(
            b"GET /v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
            b"Authorization: Bearer " + KEY.encode() + b"\r\n\r\n"
        )

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        buffer = self.buffer
        buffer += data
        if not self.upgraded:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            assert buffer.startswith(b"HTTP/1.1 101")
            del buffer[: end + 4]
            self.upgraded = True
            self.transport.write(encode(TEXT, self.wish.message(self.cursor)))
        at = 0
        while len(buffer) - at >= 2:
            size, start = buffer[at + 1], at + 2
            assert size < 127, "no message here is that long"
            if size == 126:
                size, start = int.from_bytes(buffer[at + 2 : at + 4], "big"), at + 4
            if len(buffer) < start + size:
                break
            payload = bytes(buffer[start : start + size])
            opcode, at = buffer[at] & 0x0F, start + size
            if opcode == PING:
                self.transport.write(encode(PONG, payload))
            if opcode == TEXT and not self.take(orjson.loads(payload)):
                return
        del buffer[:at]

    def take(self, message: dict[str, Any]) -> bool:
        """False: the connection was reset."""
        if message["type"] == "subscribed":
            self.cursor = message["cursor"]
            self.subscribed.set()
            return True
        if message["type"] == "cursor":
            self.cursor = message["cursor"]
            return True
        assert "channel" in message, message
        self.got.append(message["n"])
        self.cursor = message["cursor"]
        if self.cuts and len(self.got) >= self.cuts[0]:
            self.cuts.pop(0)
            self.resets += 1
            self.transport.abort()
            return False
        if len(self.got) >= self.expected > 0:
            self.finished.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self.resets and not self.finished.is_set():
            self.reconnecting = asyncio.get_running_loop().create_task(self.connect())


async def campaign(server: Server, sockets: int, events: int, seed: int) -> None:
    rng = random.Random(seed)
    told = happenings(events, rng)
    wanted = wishes(50, rng)
    viewers: list[Viewer] = []
    expected: dict[Wish, list[int]] = {
        wish: [data["n"] for kind, data in told if wish.allows(kind, data)] for wish in wanted
    }
    for number, wish in zip(range(sockets), itertools.cycle(wanted), strict=False):
        most = len(expected[wish])
        cuts = sorted(rng.sample(range(1, most), min(3, most - 1))) if most > 1 else []
        viewers.append(Viewer(server.port, wish, cuts if number % 2 else [], most))
    for start in range(0, sockets, 50):
        await asyncio.gather(*[viewer.connect() for viewer in viewers[start : start + 50]])
    for viewer in viewers:
        await asyncio.wait_for(viewer.subscribed.wait(), 30)
    assert len(server.parts.events.selections) == 50
    before = psutil.Process().memory_info().rss

    for start in range(0, events, 25):
        await server.publish_many(told[start : start + 25])
    for viewer in viewers:
        if expected[viewer.wish]:
            await asyncio.wait_for(viewer.finished.wait(), 120)
    for viewer in viewers:
        assert viewer.got.tolist() == expected[viewer.wish]
        viewer.transport.abort()
    assert sum(viewer.resets for viewer in viewers) > sockets
    assert sum(map(len, expected.values())) > events
    assert psutil.Process().memory_info().rss - before < 200 * 1024 * 1024
    await server.settled(lambda: server.parts.sockets.count == 0)
    assert not server.parts.events.hub.busy
    gc.collect()  # a socket that was reset in mid-task may hang in a cycle
    assert len(server.parts.events.selections) == 0


async def test_a_crowd(server: Server) -> None:
    await campaign(server, sockets=200, events=4_000, seed=1)


@pytest.mark.soak
async def test_a_thousand_sockets(server: Server) -> None:
    await campaign(server, sockets=1_000, events=20_000, seed=2)
