"""What the keys of an organization share, what counts as a stream, and what refusals count."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from files_harness import World, opened
from resonantgenesis_server.http import transfer
from resonantgenesis_server.model.errors import Internal

pytestmark = pytest.mark.anyio

LATER = {"Prefer": "respond-async"}
LONG = {"agent_id": "guide", "goal": "count to 100000"}


def limit_of(answer: httpx.Response) -> str | None:
    """The limit that it was refused by."""
    if answer.status_code != 429:
        assert answer.status_code < 500, answer.text
        return None
    error = answer.json()["error"]
    assert error["code"] == "RATE_LIMITED" and 0 < error["retry_after"] <= 60
    assert error["details"]["most"] > 0
    return str(error["details"]["limit"])


async def limit_events(world: World, limit: str) -> list[dict[str, Any]]:
    """The events that tell of it."""
    query = {"events": "system.limit.reached", "filters": json.dumps({"limit": limit}), "wait": 10}
    return list((await world.client.get("/v1/events", params=query)).json()["events"])


class Bodies:
    """Uploads that stay open, one by each of these callers, until `finish`."""

    def __init__(self, world: World, callers: list[dict[str, str]]) -> None:
        self._world, self._callers = world, callers
        self._begun = 0
        self._end = asyncio.Event()
        self._all_begun = asyncio.Event()
        self._answers = [
            asyncio.ensure_future(
                world.client.post(f"/v1/files?name=f{n}", content=self._pieces(), headers=headers)
            )
            for n, headers in enumerate(callers)
        ]

    async def _pieces(self) -> AsyncIterator[bytes]:
        yield b"x" * 1_000
        self._begun += 1
        if self._begun == len(self._callers):
            self._all_begun.set()
        await self._end.wait()
        yield b"x"

    async def open(self) -> int:
        """How many are, when all have begun; a refused one is read on to its end."""
        async with asyncio.timeout(20):
            await self._all_begun.wait()
        return self._world.parts.watch.kinds()["transfer"]

    async def finish(self) -> list[httpx.Response]:
        self._end.set()
        async with asyncio.timeout(20):
            return await asyncio.gather(*self._answers)


async def test_requests_of_an_organization(tmp_path: Path) -> None:
    limits = {"organization_requests_per_minute": 6, "requests_per_minute": 4}
    async with opened(tmp_path / "data", **limits) as world:
        one, two, three = await world.key(), await world.key(), await world.key()
        stranger = await world.stranger()
        get = world.client.get
        assert [limit_of(await get("/v1/agents", headers=one)) for _ in range(5)] == [
            None, None, None, None, "requests_per_minute",
        ]  # fmt: skip
        # What one key was refused is not taken from the others.
        assert [limit_of(await get("/v1/agents", headers=two)) for _ in range(2)] == [None, None]
        refused = await get("/v1/agents", headers=three)
        assert limit_of(refused) == "organization_requests_per_minute"
        assert refused.headers["ratelimit-policy"] == '"requests";q=6;w=60'
        assert refused.headers["x-ratelimit-remaining"] == "0"
        assert limit_of(await get("/v1/agents", headers=stranger)) is None
        assert (await get("/v1/agents")).status_code == 200  # the bootstrap key
        (event,) = await limit_events(world, "organization_requests_per_minute")
        assert event["data"]["most"] == 6


async def test_turns_of_an_organization(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", organization_running_turns=3, running_turns=2) as world:
        keys = [await world.key() for _ in range(3)]
        stranger = await world.stranger()

        async def start(headers: dict[str, str]) -> httpx.Response:
            path = "/v1/sessions/execute"
            return await world.client.post(path, json=LONG, headers=headers | LATER)

        answers = await asyncio.gather(*(start(key) for key in keys for _ in range(3)))
        limits = [limit_of(answer) for answer in answers]
        assert limits.count(None) == 3
        assert set(limits) <= {None, "organization_running_turns", "running_turns"}
        assert limit_of(await start(stranger)) is None
        started = next(a.json()["session_id"] for a in answers if a.status_code == 202)
        await world.client.delete(f"/v1/sessions/{started}")
        assert None in [limit_of(await start(key)) for key in keys]
        assert len(await limit_events(world, "organization_running_turns")) == 1


async def test_transfers_are_open_streams(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", open_streams=2) as world:
        file = await world.upload(b"content")
        session = await world.client.post("/v1/sessions", json={"agent_id": "guide"})
        headers = await world.key()
        bodies = Bodies(world, [headers] * 8)
        assert await bodies.open() == 2  # though all began at once
        session_id = session.json()["session_id"]
        for path in (
            f"/v1/files/{file['id']}/content",
            f"/v1/sessions/{session_id}/export",
            "/v1/events/export",
            "/v1/events/subscribe",
            f"/v1/sessions/{session_id}/stream?follow=true",
        ):
            assert limit_of(await world.client.get(path, headers=headers)) == "open_streams", path
        # What sends no body is no transfer.
        assert (await world.client.get(f"/v1/files/{file['id']}", headers=headers)).is_success
        head = await world.client.head(f"/v1/files/{file['id']}/content", headers=headers)
        assert head.status_code == 200
        limits = [limit_of(answer) for answer in await bodies.finish()]
        assert sorted(map(str, limits)) == ["None"] * 2 + ["open_streams"] * 6
        path = f"/v1/files/{file['id']}/content"
        assert (await world.client.get(path, headers=headers)).content == b"content"
        assert len(await limit_events(world, "open_streams")) == 1


async def test_streams_of_an_organization(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", organization_open_streams=2) as world:
        keys = [await world.key() for _ in range(3)]
        bodies = Bodies(world, keys)
        assert await bodies.open() == 2
        other = Bodies(world, [await world.stranger()])
        assert await other.open() == 3
        assert [answer.status_code for answer in await other.finish()] == [201]
        limits = [limit_of(answer) for answer in await bodies.finish()]
        assert sorted(map(str, limits)) == ["None", "None", "organization_open_streams"]
        assert (await world.client.get("/v1/events/export", headers=keys[0])).status_code == 200
        (event,) = await limit_events(world, "organization_open_streams")
        assert event["data"]["most"] == 2


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/sessions/sess_00000000000000000000/stream", 404),
        ("/v1/sessions/SESSION/stream?resume_from=x", 422),
        ("/v1/sessions/SESSION/stream?resume_form=1", 422),
        ("/v1/sessions/SESSION/stream?turn=1&turn=2", 422),
        ("/v1/events/subscribe", 403),
        ("/v1/events/subscribe?since=nothing", 403),
    ],
)
async def test_refused_streams_are_requests(tmp_path: Path, path: str, status: int) -> None:
    async with opened(tmp_path / "data", requests_per_minute=2) as world:
        made = await world.client.post("/v1/sessions", json={"agent_id": "guide"})
        path = path.replace("SESSION", made.json()["session_id"])
        headers = await world.key("sessions:read")
        answers = [await world.client.get(path, headers=headers) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [status, status, 429, 429]
        assert limit_of(answers[-1]) == "requests_per_minute"
        assert [a.headers["x-ratelimit-remaining"] for a in answers] == ["1", "0", "0", "0"]


async def test_refused_executes_are_requests(tmp_path: Path) -> None:
    """Once each, whatever was wrong, also with a join."""
    async with opened(tmp_path / "data", requests_per_minute=4) as world:
        headers = await world.key()
        post, path = world.client.post, "/v1/sessions/execute"
        join = {**LONG, "session_id": "sess_00000000000000000000", "resume_from": 1}
        statuses = [
            (
                await post(
                    path, content=b"{", headers=headers | {"Content-Type": "application/json"}
                )
            ),
            (await post(path, json={"goal": "x"}, headers=headers)),
            (await post(path, json=join, headers=headers)),
            (await post(path, json={**LONG, "agent_id": "none"}, headers=headers)),
            (await post(path, json=join, headers=headers)),
        ]
        assert [one.status_code for one in statuses] == [400, 422, 404, 404, 429]


async def test_granted_streams_are_none(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", requests_per_minute=1) as world:
        body = {"agent_id": "guide", "goal": "count to 2"}
        session = (await world.client.post("/v1/sessions/execute", json=body)).json()["session_id"]
        headers = await world.key()
        path = f"/v1/sessions/{session}/stream?resume_from=0"
        for _ in range(5):
            answer = await world.client.get(path, headers=headers)
            assert answer.status_code == 200 and "x-ratelimit-limit" not in answer.headers


class Dripping:
    """A body of pieces of so many bytes, one each so many seconds."""

    def __init__(self, size: int, count: int, seconds: float) -> None:
        self.sent = 0
        self._size, self._count, self._seconds = size, count, seconds

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(self._count):
            await asyncio.sleep(self._seconds)
            self.sent += self._size
            yield b"x" * self._size


async def test_an_upload_has_a_least_speed(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", stall=1, transfer_rate=1_000) as world:
        slow = Dripping(1, 60, 0.05)
        answer = await world.client.post("/v1/files?name=a", content=slow)
        assert answer.status_code == 422
        assert (
            "less than 1000 bytes a second" in answer.json()["error"]["details"]["fields"]["body"]
        )
        assert world.kept() == []
        # A link that stops now and then, and is fast enough over the window.
        bursts = Dripping(2_000, 8, 0.25)
        answer = await world.client.post("/v1/files?name=a", content=bursts)
        assert answer.status_code == 201, answer.text
    async with opened(tmp_path / "data", stall=1, transfer_rate=0) as world:
        answer = await world.client.post("/v1/files?name=a", content=Dripping(1, 30, 0.05))
        assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(("rate", "whole"), [(1_000_000, False), (20_000, True)])
async def test_a_download_has_a_least_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: int, whole: bool
) -> None:
    """Only the time that its client takes counts, and only over the window."""
    now = 0.0
    monkeypatch.setattr(transfer, "time", SimpleNamespace(monotonic=lambda: now))
    async with opened(tmp_path / "data", stall=1, transfer_rate=rate) as world:
        file = await world.upload(b"x" * 400_000)
        headers = await world.key()
        taken: list[Any] = []

        async def receive() -> dict[str, Any]:
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Any) -> None:
            nonlocal now
            if message.get("body"):
                now += 0.3
            taken.append(message)

        authorization = headers["Authorization"].encode()
        scope = {
            "type": "http",
            "method": "GET",
            "path": f"/v1/files/{file['id']}/content",
            "query_string": b"",
            "headers": [(b"authorization", authorization)],
        }
        if whole:
            await world.parts.app(scope, receive, send)
        else:
            with pytest.raises(Internal):  # so that the server cuts the connection
                await world.parts.app(scope, receive, send)
        assert taken[0]["status"] == 200
        assert (not taken[-1].get("more_body")) is whole


async def test_keys_of_an_organization(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path / "data", organization_keys=4) as world:
        first = await world.key()  # beside the bootstrap key

        async def make(headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
            body = {"name": "k", "scopes": ["*"], **more}
            return await world.client.post("/v1/keys", json=body, headers=headers)

        answers = await asyncio.gather(*(make(first) for _ in range(6)))
        assert sorted(answer.status_code for answer in answers) == [201, 201, 409, 409, 409, 409]
        refused = next(answer for answer in answers if answer.status_code == 409).json()["error"]
        assert refused["code"] == "CONFLICT"
        assert refused["details"] == {"limit": "organization_keys", "most": 4}
        # A refusal uses no Idempotency-Key up, and one that is revoked makes room.
        again = first | {"Idempotency-Key": "once"}
        assert (await make(again)).status_code == 409
        made = next(answer.json() for answer in answers if answer.status_code == 201)
        assert (await world.client.delete(f"/v1/keys/{made['id']}", headers=first)).is_success
        assert (await make(again, expires_in=1)).status_code == 201
        assert (await make(first)).status_code == 409
        keys = world.parts.records.keys
        now = keys._clock() + 1
        monkeypatch.setattr(keys, "_clock", lambda: now)
        assert (await make(first)).status_code == 201  # the one that expires makes room too
        assert (await make(await world.stranger())).status_code == 201
        assert (await make()).status_code == 201  # the bootstrap key
        assert len(await limit_events(world, "organization_keys")) == 1


async def test_files_of_an_organization(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", organization_files=10_000) as world:
        headers = await world.key()

        async def put(size: int, **more: str) -> httpx.Response:
            return await world.client.post(
                "/v1/files?name=a", content=b"x" * size, headers=headers | more
            )

        async def pieces(size: int) -> AsyncIterator[bytes]:
            yield b"y" * size

        first = await put(6_000, **{"Idempotency-Key": "first"})
        assert first.status_code == 201
        refused = await put(4_001)
        assert (refused.status_code, refused.json()["error"]["details"]) == (
            413,
            {"limit": "organization_files", "most": 10_000},
        )
        unsized = await world.client.post(
            "/v1/files?name=a", content=pieces(4_001), headers=headers
        )
        assert unsized.status_code == 413 and len(world.kept()) == 1
        # Two at once do not both find the room of one.
        both = await asyncio.gather(*(put(size) for size in (3_001, 3_002)))
        assert sorted(answer.status_code for answer in both) == [201, 413]
        # A repeat makes nothing new; what is deleted makes room, in any way.
        assert (await put(6_000, **{"Idempotency-Key": "first"})).json() == first.json()
        stranger = await world.stranger()
        other = await world.client.post("/v1/files?name=a", content=b"x" * 9_000, headers=stranger)
        assert other.status_code == 201
        path = f"/v1/files/{first.json()['id']}"
        assert (await world.client.delete(path, headers=headers)).status_code == 204
        assert (await put(6_000)).status_code == 201
        (event,) = await limit_events(world, "organization_files")
        assert event["data"] == {"limit": "organization_files", "most": 10_000, "key_id": None}
