"""A store of many organizations: what a node costs while hardly any of them does something.

Each has a key, a webhook, a session that had a turn, and its events.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest
from resonantgenesis_server.log.base import Append, NewEntry
from resonantgenesis_server.log.postgres.log import PostgresLog
from resonantgenesis_server.log.sqlite.log import SqliteLog
from resonantgenesis_server.model.events import event_stream
from resonantgenesis_server.model.ids import new_id
from resonantgenesis_server.records.access import each_organization
from resonantgenesis_server.records.credentials import CredentialHasher
from resonantgenesis_server.records.store import Records
from resonantgenesis_server.sessions.state import control_stream
from resonantgenesis_server.usage import UsageMeter
from support.fleet import PATIENCE, SECRET
from support.postgres import PostgresServer
from support.server import ServerProcess, bearer
from support.wire import execute, read_all

pytestmark = pytest.mark.anyio
#: `ORGANIZATIONS` chooses another number for the long campaign.
MANY = int(os.environ.get("ORGANIZATIONS", "10000"))
#: Organizations that are made at once, and the seconds for which an idle node is looked at.
_TOGETHER, _IDLE = 20, 60


@pytest.fixture(params=["embedded", "postgres"])
def store(request: pytest.FixtureRequest) -> str:
    if request.param == "embedded":
        return ""
    database: PostgresServer = request.getfixturevalue("database")
    return database.database()


def server_of(folder: Path, store: str) -> ServerProcess:
    settings = {"webhooks__allow_hosts": "127.0.0.1"} | ({"store": store} if store else {})
    return ServerProcess(folder, secret=SECRET, **settings)


def key_of(number: int) -> str:
    return f"rg_live_{number:048d}"


class Copies:
    """Copies of the first organization of a store that stands still."""

    def __init__(self, records: Records, log: SqliteLog | PostgresLog) -> None:
        self._records, self._log = records, log
        self._hasher = CredentialHasher(bytes.fromhex(SECRET))

    async def learn(self, session_id: str) -> None:
        first = await self._records.organizations.first()
        assert first is not None
        (self._key,) = (await self._records.keys.list(first.id)).items
        (self._webhook,) = (await self._records.webhooks.list(first.id)).items
        self._session_id, self._organization_id = session_id, first.id
        streams = [session_id, control_stream(session_id), event_stream(first.id)]
        self._streams = {name: (await self._log.read(name, 0)).entries for name in streams}
        self._fence = await self._log.next_fence()

    async def make(self, numbers: Iterable[int]) -> None:
        await asyncio.gather(*map(self._make, numbers))

    async def _make(self, number: int) -> None:
        organization = await self._records.organizations.create(f"Tenant {number}")
        key = await self._records.keys.create(
            organization.id,
            name="k",
            hash=self._hasher.hash(key_of(number)),
            scopes=frozenset({"*"}),
        )
        webhook = replace(self._webhook, id=new_id("whk"), organization_id=organization.id)
        await self._records.webhooks.create(webhook)
        names = {
            self._organization_id: organization.id,
            self._key.id: key.id,
            self._session_id: new_id("sess"),
        }
        for stream, entries in self._streams.items():
            renamed = [
                NewEntry(entry.kind, _renamed(entry.body.decode(), names).encode())
                for entry in entries
            ]
            is_session = not stream.startswith("events:")
            fence = self._fence if is_session else None
            await self._log.append(Append(_renamed(stream, names), renamed, fence=fence))


def _renamed(text: str, names: dict[str, str]) -> str:
    for before, after in names.items():
        text = text.replace(before, after)
    return text


async def fill(folder: Path, store: str, count: int) -> None:
    """Make the store, with so many organizations."""
    server = server_of(folder, store).start()
    async with server.client() as client:
        session_id = (await execute(client, goal="count to 3"))["session_id"]
        await read_all(client, session_id)
        webhook = {"url": "http://127.0.0.1:9/", "events": ["app.order.paid"]}
        made = await client.post("/v1/webhooks", json=webhook)
        assert made.status_code == 201, made.text
    server.stop()
    records = await Records.open(store or f"sqlite:///{folder / 'records.db'}")
    log = await (PostgresLog.open(store) if store else SqliteLog.open(folder / "log.db"))
    copies = Copies(records, log)
    await copies.learn(session_id)
    for first in range(1, count, _TOGETHER):
        await copies.make(range(first, min(first + _TOGETHER, count)))
    found = [len(page) async for page in each_organization(records.organizations)]
    assert sum(found) == count
    await UsageMeter.open(log, records.usage, records.organizations, monthly_tokens=0)
    await log.close()
    await records.close()


async def executes(server: ServerProcess, count: int, among: int) -> list[float]:
    """Milliseconds of so many executes, each of another organization."""
    took: list[float] = []
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        for number in range(count):
            headers = {**bearer(key_of(1 + number * 7 % (among - 1))), "Prefer": "respond-async"}
            began = time.perf_counter()
            body = {"agent_id": "guide", "goal": "count to 3"}
            answer = await client.post("/v1/sessions/execute", json=body, headers=headers)
            took.append(1_000 * (time.perf_counter() - began))
            assert answer.status_code == 202, answer.text
    return sorted(took)


async def lists(server: ServerProcess, number: int) -> None:
    """Return once an organization sees its session, with its own key."""
    async with (
        asyncio.timeout(PATIENCE),
        httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client,
    ):
        while True:
            answer = await client.get("/v1/sessions", headers=bearer(key_of(number)))
            if answer.status_code == 200:
                assert answer.json()["data"]
                return
            assert answer.status_code == 503, answer.text


async def look(folder: Path, store: str, count: int, idle: float) -> None:
    """Print what a node costs, and check that it costs next to nothing while nobody asks."""
    server = server_of(folder, store)
    try:
        for name in ("first", "second"):
            began = time.monotonic()
            await asyncio.to_thread(server.start)
            ready = time.monotonic() - began
            await lists(server, count - 1)
            listed = time.monotonic() - began
            process = psutil.Process(server.server_pid)
            await settled(process)
            print(f"{name} start: ready after {ready:.1f} s, lists after {listed:.1f} s")
            if name == "first":
                began = time.monotonic()
                await asyncio.to_thread(server.stop)
                print(f"stop: {time.monotonic() - began:.1f} s")
        before = sum(process.cpu_times()[:2])
        await asyncio.sleep(idle)
        used = sum(process.cpu_times()[:2]) - before
        threads, sockets = process.num_threads(), len(process.net_connections("all"))
        megabytes = process.memory_info().rss / 1e6
        print(f"idle: {used / idle:.1%} of a processor, {megabytes:.0f} MB")
        took = await executes(server, 200, count)
        print(f"execute: p50 {took[100]:.1f} ms, p99 {took[197]:.1f} ms")
        assert used / idle < 0.1
        assert threads < 40 and sockets < 40
        assert megabytes < 200 + count * 0.03
    finally:
        await asyncio.to_thread(server.stop)


async def settled(process: psutil.Process) -> None:
    """Return once it has ended what it does at its start."""
    async with asyncio.timeout(PATIENCE):
        busy = True
        while busy:
            before = sum(process.cpu_times()[:2])
            await asyncio.sleep(0.5)
            busy = sum(process.cpu_times()[:2]) - before > 0.1


async def test_two_hundred_organizations(tmp_path: Path) -> None:
    await fill(tmp_path / "data", "", 200)
    await look(tmp_path / "data", "", 200, idle=1)


@pytest.mark.soak
async def test_ten_thousand_organizations(store: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    await fill(folder, store, MANY)
    await look(folder, store, MANY, _IDLE)
