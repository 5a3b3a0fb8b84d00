"""Every way to subscribe to events tells a cursor in its first words: who is cut off before the
first event has lost nothing when it is back, whichever way it comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlencode

import httpx
import pytest
from ws_harness import PATIENCE, Server

pytestmark = pytest.mark.anyio

FILTERS = {"of": "mine"}


@dataclass
class World:
    """An organization of its own, as one of its subscribers sees it."""

    server: Server
    key: str
    organization_id: str

    async def publish(self, *kinds: str) -> None:
        for number, kind in enumerate(kinds):
            for of in ("mine", "others"):
                body = {"type": kind, "data": {"of": of, "n": number}}
                answer = await self.server.http.post(
                    "/v1/events", json=body, headers={"Authorization": f"Bearer {self.key}"}
                )
                assert answer.status_code == 201, answer.text

    async def get(self, path: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.key}"}
        answer = await self.server.http.get(path, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer

    async def first_block(self, query: str = "", version: str = "1.1", last: str = "") -> str:
        """The cursor that stands in the first bytes of a stream, which is cut behind it."""
        found = await self.stream(
            lambda text: "\n\n" in text.partition("\nid: ")[2], query, version, last
        )
        body = found.partition("\r\n\r\n")[2]
        before, _, _ = body.partition("\nid: ")
        assert ": stream\n" in before and before.endswith("\n") and "app." not in before, found
        place, ends, _ = body.partition("\nid: ")[2].partition("\n")
        assert ends, found
        return place

    async def stream(
        self, enough: Callable[[str], bool], query: str = "", version: str = "1.1", last: str = ""
    ) -> str:
        asked = urlencode({"events": "app.*", "filters": json.dumps(FILTERS)})
        head = f"GET /v1/events/subscribe?{asked}{query} HTTP/{version}\r\nHost: x\r\n"
        head += f"Authorization: Bearer {self.key}\r\n" + (
            f"Last-Event-ID: {last}\r\n" * bool(last)
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        writer.write(head.encode() + b"\r\n")
        found = ""
        async with asyncio.timeout(PATIENCE):
            while not enough(found):
                data = await reader.read(65_536)
                assert data, found
                found += data.decode()
        writer.close()
        assert found.startswith("HTTP/1.1 200 OK\r\n")
        return found

    async def subscribed(self) -> str:
        async with self.server.connect(self.key) as client:
            fields = {"channels": ["app"], "filters": FILTERS}
            return str((await client.ask("subscribed", "subscribe", **fields))["cursor"])

    async def polled(self) -> str:
        path = "/v1/events?" + urlencode({"events": "app.*", "filters": json.dumps(FILTERS)})
        return str((await self.get(path)).json()["next_cursor"])

    async def replayed(self) -> str:
        answer = await self.server.http.post(
            "/v1/events/replay",
            json={"since": "2020-01-01", "events": ["app.*"], "filters": FILTERS},
            headers={"Authorization": f"Bearer {self.key}"},
        )
        assert answer.status_code in {200, 410}, answer.text
        if answer.status_code == 410:  # where the beginning was trimmed
            return str(answer.json()["error"]["details"]["earliest"])
        return str(answer.json()["next_cursor"])

    # -- coming back -----------------------------------------------------------------------

    async def by_stream(self, cursor: str) -> list[str]:
        found = await self.stream(lambda text: text.count("event: app.") >= 4, last=cursor)
        lines = [line for line in found.split("\n") if line.startswith("event: ")]
        return [line.removeprefix("event: ") for line in lines]

    async def by_socket(self, cursor: str) -> list[str]:
        async with self.server.connect(self.key) as client:
            fields = {"channels": ["app"], "filters": FILTERS, "since": cursor}
            await client.ask("subscribed", "subscribe", **fields)
            return [event["type"] for event in await client.events(4)]

    async def by_poll(self, cursor: str) -> list[str]:
        asked = {"events": "app.*", "filters": json.dumps(FILTERS), "cursor": cursor}
        page = (await self.get("/v1/events?" + urlencode(asked))).json()
        return [event["type"] for event in page["events"]]


First = Callable[[World], Awaitable[str]]
WAYS: dict[str, First] = {
    "sse": lambda world: world.first_block(),
    "sse as message": lambda world: world.first_block("&event_name=message"),
    "sse over 1.0": lambda world: world.first_block(version="1.0"),
    "sse since a time": lambda world: world.first_block("&since=2999-01-01"),
    "sse from the earliest": lambda world: world.first_block(
        "&on_expired=earliest&since=2020-01-01"
    ),
    "socket": lambda world: world.subscribed(),
    "poll": lambda world: world.polled(),
    "replay": lambda world: world.replayed(),
}


@pytest.mark.parametrize("before", ["nothing", "events", "all trimmed"])
async def test_what_comes_after_a_cut_is_all_there(server: Server, before: str) -> None:
    made = (await server.http.post("/v1/organizations", json={"name": "one"})).json()
    world = World(server, made["key"]["key"], made["id"])
    if before != "nothing":
        await world.publish("app.before", "app.before")
    if before == "all trimmed":
        await server.parts.events.trim_before(world.organization_id, 0)
    cursors: dict[str, str] = {}
    for name, first in WAYS.items():
        cursors[name] = await first(world)
    # With the header, also that of its own first block, and a place that says where it is.
    cursors["sse again"] = await world.first_block(last=cursors["sse"])
    assert cursors["sse again"] == cursors["sse"]
    after = ["app.one", "app.two", "app.three", "app.four"]
    await world.publish(*after)
    for name, cursor in cursors.items():
        expected = after
        if before == "events" and name == "sse from the earliest":
            continue  # the place is before those
        for back in (world.by_stream, world.by_socket, world.by_poll):
            assert await back(cursor) == expected, (name, back.__name__)


async def test_a_gap_is_reported_before_the_cursor(server: Server) -> None:
    made = (await server.http.post("/v1/organizations", json={"name": "one"})).json()
    world = World(server, made["key"]["key"], made["id"])
    stale = await world.first_block()
    await world.publish("app.before", "app.before")
    await server.parts.events.trim_before(world.organization_id, 0)
    found = await world.stream(
        lambda text: "\n\n" in text.partition("\nid: ")[2], "&on_expired=earliest", last=stale
    )
    assert found.index("event: gap") < found.index("\nid: ")
    gap = json.loads(found.partition("data: ")[2].partition("\n")[0])
    assert gap["earliest"] == found.partition("\nid: ")[2].partition("\n")[0]
