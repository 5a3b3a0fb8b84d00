"""A disk that is full under the whole server: every request is answered, what was stored stays,
and once there is room everything goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from support.server import KEY, PATIENCE, ServerProcess

pytestmark = pytest.mark.anyio
EXECUTE = "/v1/sessions/execute"
#: Answers that say what is wrong: that the store cannot be used now, or that a file has no room.
REFUSED = {"UNAVAILABLE", "INTERNAL"}


class Disk:
    """Where a server keeps all, its log included; may be filled and emptied."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, server: ServerProcess | None) -> None:
        raise NotImplementedError

    def empty(self, server: ServerProcess | None) -> None:
        raise NotImplementedError


class Mounted(Disk):
    """A file system of its own; only root may mount one."""

    def fill(self, server: ServerProcess | None) -> None:
        with (self.folder / "filler").open("ab", buffering=0) as filler:
            for size in (1 << 20, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        filler.write(b"x" * size)

    def empty(self, server: ServerProcess | None) -> None:
        (self.folder / "filler").unlink()


class Limited(Disk):
    """No file of the server's process may grow."""

    def _limit(self, server: ServerProcess | None, size: int) -> None:
        assert server is not None
        resource.prlimit(server.server_pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def fill(self, server: ServerProcess | None) -> None:
        self._limit(server, 1)

    def empty(self, server: ServerProcess | None) -> None:
        self._limit(server, resource.RLIM_INFINITY)


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m,mode=700", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        why = "no file system can be mounted here, which root can"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
    yield Mounted(folder)
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(params=["mounted", "limited"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    if request.param == "mounted":
        made: Disk = request.getfixturevalue("mounted")
        return made
    return Limited(tmp_path)


Make = Callable[..., ServerProcess]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    servers: list[ServerProcess] = []

    def made(disk: Disk, key: str | None = KEY) -> ServerProcess:
        folder = disk.folder
        made = ServerProcess(folder / "data", log=folder / "log", key=key, limits__disk_reserve=0)
        servers.append(made)
        return made

    yield made
    for server in servers:
        server.stop()


async def turn(client: httpx.AsyncClient, **more: str) -> httpx.Response:
    return await client.post(EXECUTE, json={"agent_id": "guide", "goal": "What is 2+2?", **more})


async def test_turns_are_refused_while_it_is_full_and_run_when_there_is_room(
    disk: Disk, make: Make
) -> None:
    server = make(disk).start()
    async with server.client() as client:
        first = (await turn(client)).json()
        assert first["status"] == "success"
        disk.fill(server)
        for _ in range(12):  # what SQLite has room for in files of its own is used up
            for more in ({}, {"session_id": first["session_id"]}):
                answer = await turn(client, **more)
                told = answer.json()
                if answer.status_code == 200:
                    error = told.get("error")
                    assert told["status"] == "success" or error["code"] in REFUSED, told
                elif answer.status_code != 409:  # the turn before is still to be ended
                    assert (answer.status_code, told["error"]["code"]) == (503, "UNAVAILABLE")
                    assert answer.headers["retry-after"]
        assert answer.status_code in (503, 409), "it was never full"
        upload = await client.post("/v1/files?name=a", content=b"x" * 2_000_000)
        assert upload.status_code == 503, upload.text
        shown = await client.get(f"/v1/sessions/{first['session_id']}")
        assert shown.json()["turns"] >= 1
        page = await client.get(f"/v1/sessions/{first['session_id']}/events?after=0&limit=5000")
        assert page.json()["events"][0]["position"] == 1
        assert server.process.poll() is None
        disk.empty(server)
        body = await until_success(client, first["session_id"])
        assert body["output"] == first["output"]
        assert (await turn(client)).json()["status"] == "success"
    server.terminate()
    assert server.wait() == 0
    server.start()
    async with server.client() as client:
        events = (
            await client.get(f"/v1/sessions/{first['session_id']}/events?after=0&limit=5000")
        ).json()["events"]
        assert [event["position"] for event in events] == list(range(1, len(events) + 1))
        shown = (await client.get(f"/v1/sessions/{first['session_id']}")).json()
        listed = (await client.get("/v1/sessions?limit=200")).json()["data"]
        assert shown["status"] == "completed"
        assert {row["status"] for row in listed} <= {"completed", "failed"}


async def until_success(client: httpx.AsyncClient, session_id: str) -> dict[str, object]:
    """What waited for room is stored first; then the session takes a turn."""
    for _ in range(round(PATIENCE / 0.2)):
        answer = await turn(client, session_id=session_id)
        if answer.status_code == 200 and answer.json()["status"] == "success":
            body: dict[str, object] = answer.json()
            return body
        await asyncio.sleep(0.2)
    raise AssertionError(answer.text)


@pytest.mark.parametrize("left", [0, 8_192, 100_000])
async def test_a_first_start_on_a_full_disk_leaves_no_key_that_nobody_knows(
    mounted: Disk, make: Make, left: int
) -> None:
    server = make(mounted, key=None)
    mounted.fill(None)
    filler = mounted.folder / "filler"
    with filler.open("r+b") as file:
        file.truncate(filler.stat().st_size - left)
    server.launch()
    assert server.wait() == 2
    mounted.empty(None)
    server.start()
    key = (server.data / "api-key").read_text().strip()
    async with server.client(headers={"Authorization": f"Bearer {key}"}) as client:
        keys = (await client.get("/v1/keys")).json()["data"]
    assert len([each for each in keys if each["revoked_at"] is None]) == 1
    assert key != KEY
