"""A disk is full: a node's own, or the database's. Nothing acknowledged is lost, and once there is
room all goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from support.fleet import (
    PATIENCE,
    SECRET,
    Fleet,
    Viewer,
    check_log,
    client_of,
    last_codes,
    running,
    until,
    watched,
)
from support.postgres import PostgresServer
from support.server import ServerProcess
from support.wire import execute, read_all

pytestmark = pytest.mark.anyio


class SmallDisk:
    """A file system of its own, which can be filled to the last byte."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        options = f"size={megabytes}m,mode=711"
        mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
            why = "no file system can be mounted here, which root can"
            pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)

    def fill(self) -> None:
        with (self.folder / "filler").open("ab", buffering=0) as filler:
            for size in (1 << 20, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        filler.write(b"x" * size)

    def empty(self) -> None:
        (self.folder / "filler").unlink()

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(tmp_path / "disk", 24)
    yield disk
    disk.close()


async def turns_go_on(fleet: Fleet, name: str) -> None:
    """A turn at every node, seen at every other."""
    for node in fleet.nodes:
        async with node.client() as client:
            started = await execute(client, goal="count to 3")
        for other in fleet.nodes:
            async with client_of(other.url) as client:
                kept = await read_all(client, started["session_id"])
                assert kept[-1].body["status"] == "success", name


async def test_a_nodes_own_disk_is_full(postgres: str, small: SmallDisk, tmp_path: Path) -> None:
    """What it keeps for itself are uploads, its clock and its log. No turn needs them."""
    with running(tmp_path, [postgres] * 2, limits__disk_reserve=0) as fleet:
        full = ServerProcess(
            small.folder / "data",
            log=small.folder / "log",
            store=postgres,
            secret=SECRET,
            limits__disk_reserve=0,
        )
        fleet.nodes.append(full.start())
        async with fleet.balancer.running(), full.client() as client:
            small.fill()
            await turns_go_on(fleet, "full")
            refused = await client.post("/v1/files?name=a", content=b"x" * 2_000_000)
            assert refused.status_code == 503, refused.text
            async with fleet.nodes[0].client() as other:
                taken = await other.post("/v1/files?name=a", content=b"x" * 2_000_000)
                assert taken.status_code == 201, taken.text
            assert (await client.get("/readyz")).status_code == 200
            small.empty()
            await turns_go_on(fleet, "empty")
            taken = await client.post("/v1/files?name=a", content=b"x" * 2_000_000)
            assert taken.status_code == 201, taken.text
        assert fleet.living == fleet.nodes


@pytest.fixture
def cramped(tmp_path: Path) -> Iterator[tuple[PostgresServer, SmallDisk]]:
    """A database on a small disk."""
    server = PostgresServer({"min_wal_size": "32MB", "max_wal_size": "48MB"})
    disk = SmallDisk(server.folder / "small", 160)
    data = server.folder / "small" / "data"
    try:
        subprocess.run(["cp", "-a", str(server.data), str(data)], check=True)
        server.data = data
        yield server.start(), disk
    finally:
        disk.close()
        server.close()


class Arriving:
    """Turns that begin all the time, and those that were acknowledged."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.known: list[str] = []
        self.refused = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._run())
        try:
            yield
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        padding = "x" * 20_000
        headers = {"Prefer": "respond-async"}
        async with client_of(self._fleet.balancer.url) as client:
            while True:
                body = {"agent_id": "guide", "goal": "count to 3", "context": {"why": padding}}
                try:
                    answer = await client.post("/v1/sessions/execute", json=body, headers=headers)
                except httpx.TransportError:
                    continue
                if answer.status_code == 202:
                    self.known.append(answer.json()["session_id"])
                else:
                    assert answer.status_code == 503, answer.text
                    assert answer.json()["error"]["code"] == "UNAVAILABLE"
                    self.refused += 1
                await asyncio.sleep(0.02)


async def fill_the_database(
    database: PostgresServer, disk: SmallDisk, fleet: Fleet, sessions: int
) -> None:
    body = {"goal": "count to 100000", "context": {"words_per_second": 20}}
    async with fleet.nodes[0].client() as client:
        started = await asyncio.gather(*(execute(client, **body) for _ in range(sessions)))
    names = [each["session_id"] for each in started]
    viewers = [Viewer(name, fleet.addresses(fleet.nodes[1])) for name in names]
    arriving = Arriving(fleet)
    async with watched(viewers) as tasks, client_of(fleet.balancer.url) as client:
        async with arriving.running():
            await until(lambda: len(arriving.known) >= 20)
            await until(lambda: all(len(viewer.frames) > 5 for viewer in viewers))
            await asyncio.to_thread(disk.fill)
            await until(lambda: arriving.refused >= 5)
            await asyncio.to_thread(disk.empty)
            if database.has_ended:  # as it does without room for its write-ahead log
                await asyncio.to_thread(database.start)
            known = len(arriving.known)
            await until(lambda: len(arriving.known) >= known + 20)
        print(f"{len(arriving.known)} turns acknowledged, {arriving.refused} refused")
        for name in names:  # some may have failed: they had to be written
            await client.post(f"/v1/sessions/{name}/cancel")
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*tasks)
        for viewer in viewers:
            kept = await read_all(client, viewer.session_id, resume_from=0)
            assert kept == viewer.frames
            check_log(kept, viewer.frames)
        for name in arriving.known:
            kept = await read_all(client, name, resume_from=0)
            check_log(kept, kept)
            assert len(last_codes(kept)) == 1
    assert fleet.living == fleet.nodes


async def test_the_databases_disk_is_full(
    cramped: tuple[PostgresServer, SmallDisk], tmp_path: Path
) -> None:
    database, disk = cramped
    with running(tmp_path, [database.database()] * 2) as fleet:
        async with fleet.balancer.running():
            await fill_the_database(database, disk, fleet, 4)


@pytest.mark.soak
async def test_the_databases_disk_is_full_five_times(
    cramped: tuple[PostgresServer, SmallDisk], tmp_path: Path
) -> None:
    database, disk = cramped
    with running(tmp_path, [database.database()] * 3) as fleet:
        async with fleet.balancer.running():
            for _ in range(5):
                await fill_the_database(database, disk, fleet, 50)
