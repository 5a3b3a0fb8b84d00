"""Files through kill -9, bad networks, and as the kernel saw them written."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
import random
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from resonantgenesis import ResonantGenesis, SyncResonantGenesis, Timeouts
from resonantgenesis._core.retry import Backoff
from support.proxy import EvilProxy
from support.server import KEY, Serve
from support.transfers import connected, head, kept, until

MIB = 1024 * 1024
CUTS = 20


def fates(rng: random.Random, cuts: int) -> Any:
    """So many connections that break in some way, then good ones."""
    broken = iter([rng.choice(["cut", "reset"]) for _ in range(cuts)])
    return lambda: next(broken, "pass")


def hasten(client: Any) -> Any:
    """Waits of milliseconds between attempts."""
    quick = Backoff(base=0.002, cap=0.01)
    client._transport.settings = dataclasses.replace(client._transport.settings, backoff=quick)
    return client


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_download_cut_twenty_times_is_whole(
    serve: Serve, tmp_path: Path, seed: int
) -> None:
    server = serve()
    rng = random.Random(seed)
    content = rng.randbytes(16 * MIB)
    async with server.client() as client:
        file_id = (await client.post("/v1/files?name=a", content=content)).json()["id"]
    proxy = EvilProxy(server.port, fates(rng, CUTS + 1), rng)
    proxy.budget = lambda: rng.randrange(20_000, 700_000)
    told: list[int] = []
    async with proxy.running(), asyncio.timeout(90):
        options: dict[str, Any] = {"api_key": KEY, "base_url": proxy.url, "max_retries": 5}
        if seed == 1:
            async with ResonantGenesis(**options) as sdk:
                path = await hasten(sdk).files.download(
                    file_id, tmp_path / "a", on_progress=lambda done, _: told.append(done)
                )
        else:
            with SyncResonantGenesis(**options) as sync:
                path = await asyncio.to_thread(hasten(sync).files.download, file_id, tmp_path / "a")
    assert path.read_bytes() == content
    # The first may have told what the file is; every other one broke a download.
    assert proxy.connections > CUTS
    assert told == sorted(told), "nothing was fetched twice"
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".part")] == []


async def test_a_download_that_stalls_is_resumed(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    content = os.urandom(2 * MIB)
    async with server.client() as client:
        file_id = (await client.post("/v1/files?name=a", content=content)).json()["id"]
    modes = iter(["stall", "stall"])
    proxy = EvilProxy(server.port, lambda: next(modes, "pass"), random.Random(1))
    proxy.budget = lambda: 500_000
    async with (
        proxy.running(),
        asyncio.timeout(60),
        ResonantGenesis(api_key=KEY, base_url=proxy.url, timeout=Timeouts(silence=0.5)) as sdk,
    ):
        path = await sdk.files.download(file_id, tmp_path / "a")
    assert path.read_bytes() == content


async def test_an_upload_whose_answer_is_lost_is_stored_once(serve: Serve) -> None:
    """The connection breaks right when the answer begins: the server has the file already."""
    server = serve()
    proxy = EvilProxy(server.port, fates(random.Random(1), 3), random.Random(1))
    proxy.budget = lambda: 1
    content = os.urandom(MIB)
    async with (
        proxy.running(),
        asyncio.timeout(60),
        ResonantGenesis(api_key=KEY, base_url=proxy.url) as sdk,
    ):
        made = await sdk.files.upload(content, name="a")
        assert made.sha256 == hashlib.sha256(content).hexdigest()
        assert [file.id for file in await sdk.files.list()] == [made.id]
    assert proxy.connections == 4
    await until(lambda: kept(server) == [f"{made.sha256[:2]}/{made.sha256}"])


async def test_kill_in_mid_upload_leaves_nothing_and_takes_nothing(serve: Serve) -> None:
    server = serve()
    content = os.urandom(MIB)
    async with server.client() as client:
        made = (await client.post("/v1/files?name=kept", content=content)).json()
    before = kept(server)
    async with connected(server) as (_, first), connected(server) as (_, second):
        first.write(head("POST", "/v1/files?name=a", f"Content-Length: {64 * MIB}"))
        second.write(head("POST", "/v1/files?name=b", "Transfer-Encoding: chunked"))
        first.write(bytes(4 * MIB))
        second.write(b"100000\r\n" + bytes(MIB) + b"\r\n")
        await until(lambda: len(kept(server)) == len(before) + 2)
        server.kill()
    assert len(kept(server)) == len(before) + 2
    server.start()
    assert kept(server) == before
    async with server.client() as client:
        assert (await client.get("/v1/files")).json()["data"] == [made]
        down = await client.get(f"/v1/files/{made['id']}/content")
        assert down.content == content


async def test_an_upload_goes_on_over_a_restart(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    path = tmp_path / "a.bin"
    path.write_bytes(os.urandom(32 * MIB))
    reached = asyncio.Event()

    def progress(sent: int, _: int | None) -> None:
        if sent > 8 * MIB:
            reached.set()

    async with (
        asyncio.timeout(60),
        ResonantGenesis(api_key=KEY, base_url=server.url, max_retries=20) as sdk,
    ):
        upload = asyncio.create_task(sdk.files.upload(path, on_progress=progress))
        await reached.wait()
        server.kill()
        server.start()
        made = await upload
    assert made.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert kept(server) == [f"{made.sha256[:2]}/{made.sha256}"]


async def test_content_without_a_record_goes_at_the_next_start(serve: Serve) -> None:
    """As if the process had died between the two."""
    server = serve()
    async with server.client() as client:
        made = (await client.post("/v1/files?name=a", content=b"kept")).json()
    server.stop()
    lost = server.data / "files" / "ab" / ("ab" * 32)
    lost.parent.mkdir(exist_ok=True)
    lost.write_bytes(b"nobody's")
    server.start()
    await until(lambda: not lost.exists())
    assert kept(server) == [f"{made['sha256'][:2]}/{made['sha256']}"]


# As the kernel saw it ---------------------------------------------------------------------------


def wrapper(output: Path) -> list[str]:
    calls = "fsync,fdatasync,rename,renameat,renameat2,write,writev,sendto,sendmsg"
    options = ["-f", "-y", "-s", "64", "--seccomp-bpf", "-e", f"trace={calls}"]
    return ["strace", *options, "-e", "signal=none", "-o", str(output)]


def done(lines: list[str], pattern: str, after: int = -1) -> int:
    """The line in which the first such call that begins behind line `after` has ended.

    A call that others overtake stands on two lines.
    """
    begins = re.compile(pattern)
    for place in range(after + 1, len(lines)):
        if begins.search(lines[place]):
            if not lines[place].endswith("<unfinished ...>"):
                return place
            # Small process ids are padded.
            resumed = re.compile(rf"{lines[place].split()[0]}\s+<\.\.\. ")
            return next(n for n in range(place, len(lines)) if resumed.match(lines[n]))
    raise AssertionError(f"no {pattern} after line {after}")


async def test_everything_is_synced_before_it_is_answered(serve: Serve, tmp_path: Path) -> None:
    """Content, then its name, then its directory, then its record; only then the answer."""
    trace = tmp_path / "trace"
    server = serve(wrapper=wrapper(trace))
    async with server.client() as client:
        answer = await client.post("/v1/files?name=a", content=os.urandom(300_000))
        digest = answer.json()["sha256"]
    server.stop()
    lines = trace.read_text(errors="replace").splitlines()
    synced = done(lines, r"fsync\(\d+<[^>]*/files/tmp/[0-9a-f]{32}>")
    moved = done(lines, rf"rename.*/files/tmp/.*/files/{digest[:2]}/{digest}", synced)
    folder = done(lines, rf"fsync\(\d+<[^>]*/files/{digest[:2]}>", moved)
    record = done(lines, r"fdatasync\(\d+<[^>]*/records\.db-wal>", folder)
    answered = [n for n, line in enumerate(lines) if '"HTTP/1.1 201' in line]
    assert answered and answered[0] > record
    # The directory of such digests was new, so the one that it stands in was synced too.
    done(lines, r"fsync\(\d+<[^>]*/data0/files>", synced)


@pytest.mark.parametrize("size", [10, 200_000])
async def test_what_the_disk_has_changed_is_never_ended(serve: Serve, size: int) -> None:
    """The connection is cut, the log says why; who uploads the file again mends it."""
    server = serve(may_complain=True)
    async with server.client() as client:
        content = b"x" * size
        made = (await client.post("/v1/files?name=a", content=content)).json()
        path = f"/v1/files/{made['id']}/content"
        (blob,) = (server.data / "files").glob(f"??/{made['sha256']}.*")
        changed = bytearray(content)
        changed[size // 2] ^= 1
        blob.write_bytes(changed)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(path)
        part = await client.get(path, headers={"Range": "bytes=1-3"})
        assert (part.status_code, part.content) == (206, b"xxx")
        server.logged("a file's content is damaged; restore it from a backup")
        counted = 'resonantgenesis_damaged_total{store="file"} 1.0'
        assert counted in (await client.get("/metrics")).text
        await client.post("/v1/files?name=a", content=content)
        assert (await client.get(path)).content == content
