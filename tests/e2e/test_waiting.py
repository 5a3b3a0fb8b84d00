"""Requests that wait hear what streams hear: the end of their credential, of the server, and of
their client. Every one that waits, with every ending."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.credentials import Made, Tenant, make_key, make_tenant, make_token, sync_client
from support.server import KEY, PATIENCE, TESTS, Serve, ServerProcess, bearer

#: PROTOCOL.md, section 2: what a credential holds open ends within so many seconds; and what a
#: busy machine may add.
PROMISED, ALLOWANCE = 2.0, 1.5
#: Seconds a viewer may be away; much less than any request waits.
GRACE = 1.0
LONG = {"seconds": 60}


@dataclass
class Waiter:
    """One request under way."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        """Status, headers and what the body says."""
        async with asyncio.timeout(PATIENCE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            lines = [line.partition(":") for line in head.split("\r\n")[1:] if line]
            headers = {name.lower(): value.strip() for name, _, value in lines}
            body = await self.reader.readexactly(int(headers["content-length"]))
        return int(head.split(" ", 2)[1]), headers, json.loads(body)

    def close(self) -> None:
        """As a program does that is done with it."""
        self.writer.close()

    def reset(self) -> None:
        """As one does that dies."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def end_side(self) -> None:
        """It waits for the answer and sends nothing more."""
        self.writer.write_eof()


def asking(method: str, path: str, credential: str, body: Any = None, cut: int = 0) -> bytes:
    """A request, without the last `cut` bytes of its body."""
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {credential}\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    return head.encode() + b"\r\n" + content[: len(content) - cut]


@asynccontextmanager
async def sent(server: ServerProcess, data: bytes) -> AsyncIterator[Waiter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(data)
        await writer.drain()
        yield Waiter(reader, writer)
    finally:
        writer.close()


def execute(**more: Any) -> dict[str, Any]:
    return {"agent_id": "silent", "goal": "x", "context": LONG, **more}


def waits(credential: str, session: str) -> dict[str, bytes]:
    """Every request that waits; the session has a turn that says nothing."""
    path = f"/v1/sessions/{session}"
    new = execute()
    joined = {"goal": "x", "resume_from": 0}
    queued = {"goal": "y", "if_busy": "enqueue"}
    return {
        "poll": asking("GET", f"{path}/events?after=2&wait=60", credential),
        "compact poll": asking(
            "GET", f"/api{path}/events?after=2&wait=60&compact=true", credential
        ),
        "events": asking("GET", "/v1/events?events=app.never&wait=60", credential),
        "execute": asking("POST", "/v1/sessions/execute", credential, new),
        "join": asking("POST", f"{path}/execute", credential, joined),
        "queued": asking("POST", f"{path}/execute", credential, queued),
        "body": asking("POST", "/v1/sessions/execute", credential, new, cut=1),
        "body of the framework": asking(
            "POST", "/v1/events/replay", credential, {"since": "2026-01-01"}, cut=3
        ),
    }


async def started(client: httpx.AsyncClient, headers: dict[str, str], **more: Any) -> str:
    """A session with a turn that has called its tool and is silent now."""
    prefer = {**headers, "Prefer": "respond-async"}
    answer = await client.post("/v1/sessions/execute", json=execute(**more), headers=prefer)
    assert answer.status_code == 202, answer.text
    session = str(answer.json()["session_id"])
    path = f"/v1/sessions/{session}/events?after=0&wait=20"
    async with asyncio.timeout(PATIENCE):
        while (await client.get(path, headers=headers)).json()["position"] < 2:
            await asyncio.sleep(0.02)
    return session


async def running(client: httpx.AsyncClient) -> set[str]:
    """The sessions with a turn under way."""
    listed = (await client.get("/v1/sessions?status=running&limit=500")).json()["data"]
    return {one["session_id"] for one in listed}


async def held(server: ServerProcess) -> float:
    """How many requests are held, as the metrics tell."""
    async with httpx.AsyncClient(base_url=server.url) as client:
        answer = await client.get("/metrics", headers={"Accept": "text/plain;version=0.0.4"})
    (family,) = (
        found
        for found in text_string_to_metric_families(answer.text)
        if found.name == "resonantgenesis_streams_open"
    )
    (value,) = (s.value for s in family.samples if s.labels["transport"] == "wait")
    return value


async def until_held(server: ServerProcess, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while await held(server) != count:
            await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def waited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = ServerProcess(
        tmp_path_factory.mktemp("waited") / "data",
        agents={"silent": "support.agents:silent"},
        limits__disconnect_grace=GRACE,
    )
    yield server.start()
    server.stop()
    assert server.errors() == []


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Any ASGI server."""
    server = ServerProcess(
        tmp_path_factory.mktemp("plain") / "data",
        program=TESTS / "support" / "plain.py",
        agents={"silent": "support.agents:silent"},
        limits__disconnect_grace=GRACE,
    )
    yield server.start()
    server.stop()


@dataclass
class Doomed:
    """A tenant with a credential that is going to end."""

    tenant: Tenant
    credential: str
    end: Callable[[], Awaitable[None]]


async def doomed(admin: httpx.Client, ending: str) -> Doomed:
    """The credential of a tenant of its own; `end` returns at the moment at which it ends."""
    tenant = make_tenant(admin, ending)
    own = tenant.key.key
    scopes = ("sessions:read", "sessions:write", "events:read")
    key = Made("", "")
    begin = time.time()
    if ending == "key expires":
        key = make_key(admin, "*", credential=own, expires_in=4)
    elif ending != "tokens end":
        key = make_key(admin, "*", credential=own)
    credential = key.key
    if ending == "token expires":
        credential = make_token(admin, *scopes, credential=own, ttl_seconds=4)
    elif ending == "tokens end":
        credential = make_token(admin, *scopes, credential=own)

    async def end() -> None:
        if ending.endswith("expires"):
            await asyncio.sleep(begin + 4 - time.time())
        elif ending == "tokens end":
            assert admin.post("/v1/tokens/rotate", json={"end_tokens": True}).status_code == 200
        elif ending == "organization":
            path = f"/v1/organizations/{tenant.id}"
            assert admin.patch(path, json={"disabled": True}).status_code == 200
        else:
            path = f"/v1/keys/{key.id}"
            assert admin.delete(path, headers=tenant.headers).status_code == 204

    return Doomed(tenant, credential, end)


@pytest.mark.parametrize(
    ("program", "ending"),
    [
        ("waited", "revoked"),
        ("waited", "token expires"),
        ("waited", "tokens end"),
        ("waited", "organization"),
        ("plain", "key expires"),
    ],
)
async def test_a_credential_ends_what_waits_with_it(
    request: pytest.FixtureRequest, program: str, ending: str
) -> None:
    server: ServerProcess = request.getfixturevalue(program)
    with sync_client(server, headers=bearer()) as admin:
        one = await doomed(admin, ending)
        async with server.client(headers={}) as client:
            own = one.tenant.headers
            session = await started(client, own)
            asked = waits(one.credential, session)
            others = waits(KEY, await started(client, bearer()))
            async with asyncio.TaskGroup() as group, _all(server, asked, others) as (mine, theirs):
                await one.end()
                ended = time.monotonic()
                answers = [group.create_task(waiter.answer()) for waiter in mine.values()]
                for name, task in zip(mine, answers, strict=True):
                    status, headers, body = await task
                    assert (name, status) == (name, 401), body
                    assert body["error"]["code"] == "UNAUTHENTICATED", name
                    assert body["error"]["request_id"] == headers["x-request-id"]
                    assert headers["www-authenticate"] == "Bearer"
                assert time.monotonic() - ended < PROMISED + ALLOWANCE
                # Nobody else's.
                assert await held(server) == len(theirs)
                for waiter in theirs.values():
                    waiter.reset()
            await until_held(server, 0)
            if ending == "organization":
                return
            # And the turns go on.
            assert (await client.get(f"/v1/sessions/{session}", headers=own)).json()[
                "status"
            ] == "running"


@asynccontextmanager
async def _all(
    server: ServerProcess, *asked: dict[str, bytes]
) -> AsyncIterator[list[dict[str, Waiter]]]:
    """All of these under way at once, and held."""
    async with _many(server, [data for one in asked for data in one.values()]) as waiters:
        await until_held(server, len(waiters))
        found = iter(waiters)
        yield [{name: next(found) for name in one} for one in asked]


@asynccontextmanager
async def _many(server: ServerProcess, data: list[bytes]) -> AsyncIterator[list[Waiter]]:
    if not data:
        yield []
        return
    async with sent(server, data[0]) as first, _many(server, data[1:]) as others:
        yield [first, *others]


@pytest.mark.parametrize("program", ["waited", "plain"])
@pytest.mark.parametrize("leaves", ["close", "reset", "end_side"])
async def test_a_waiter_that_has_gone_is_no_viewer(
    request: pytest.FixtureRequest, program: str, leaves: str
) -> None:
    server: ServerProcess = request.getfixturevalue(program)
    async with server.client() as client:
        names = ("poll", "compact poll", "join", "execute")
        before = await running(client)
        sessions = [await started(client, {}, on_disconnect="cancel") for _ in names[:3]]
        asked = {name: waits(KEY, one)[name] for name, one in zip(names, sessions, strict=False)}
        new = execute(on_disconnect="cancel", metadata={"of": leaves})
        asked["execute"] = asking("POST", "/v1/sessions/execute", KEY, new)
        async with _all(server, asked) as (waiters,):
            sessions = list(await running(client) - before)
            assert len(sessions) == len(names)
            await asyncio.sleep(GRACE + 0.5)  # while they are there, the turns go on
            for session in sessions:
                found = await client.get(f"/v1/sessions/{session}")
                assert found.json()["status"] == "running"
            for waiter in waiters.values():
                getattr(waiter, leaves)()
            left = time.monotonic()
            for session in sessions:
                async with asyncio.timeout(PATIENCE):
                    while (found := await client.get(f"/v1/sessions/{session}")).json()[
                        "status"
                    ] == "running":
                        await asyncio.sleep(0.05)
                assert found.json()["status"] == "cancelled"
            assert time.monotonic() - left < GRACE + ALLOWANCE + 1
            if leaves == "end_side" and program == "waited":
                # It is answered all the same.
                for name, waiter in waiters.items():
                    status, _, body = await waiter.answer()
                    assert status == 200, name
                    assert "poll" in name or body["status"] == "cancelled"
            await until_held(server, 0)


async def test_who_has_only_ended_its_side_gets_its_answer(waited: ServerProcess) -> None:
    short = execute(context={"seconds": GRACE + 0.5})
    data = asking("POST", "/v1/sessions/execute", KEY, short)
    poll = asking("GET", f"/v1/events?events=app.never&wait={GRACE}", KEY)
    async with _all(waited, {"execute": data, "poll": poll}) as (waiters,):
        for waiter in waiters.values():
            waiter.end_side()
        status, _, body = await waiters["execute"].answer()
        assert (status, body["status"], body["output"]) == (200, "success", "At last.")
        assert (await waiters["poll"].answer())[0] == 200


async def test_a_stop_answers_what_waits_at_the_drain(serve: Serve) -> None:
    server = serve(agents={"silent": "support.agents:silent"})
    async with server.client() as client:
        session = await started(client, {})
        async with _all(server, waits(KEY, session)) as (waiters,):
            began = time.monotonic()
            server.terminate()
            answers = {name: await waiter.answer() for name, waiter in waiters.items()}
            # What runs is cancelled, and what is answered with its end is no error.
            for name in ("execute", "join"):
                status, _, body = answers.pop(name)
                assert (status, body["status"]) == (200, "cancelled")
            for name in ("poll", "compact poll"):
                status, _, body = answers.pop(name)
                assert (status, body["events"][-1]["type"]) == (200, "done")
            # What waits for its turn still does at the next start.
            status, headers, body = answers.pop("queued")
            assert (status, body["status"]) == (202, "queued")
            assert headers["location"] == f"/v1/sessions/{session}"
            for name, (status, headers, body) in answers.items():
                assert (name, status) == (name, 503)
                assert body["error"]["code"] == "UNAVAILABLE", name
                assert body["error"]["retry_after"] > 0
                assert int(headers["retry-after"]) > 0
            assert await asyncio.to_thread(server.wait) == 0
            assert time.monotonic() - began < 4
