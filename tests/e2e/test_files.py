"""Files over real sockets: constant memory, nothing left of what breaks off, slow ones awaited."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from resonantgenesis import ConnectionLost, InvalidRequest, ResonantGenesis, SyncResonantGenesis
from support.server import KEY, Serve, ServerProcess, bearer
from support.transfers import answer_of, connected, head, kept, resident, until

MIB = 1024 * 1024
#: What the server's memory may grow by, whatever goes through it.
MARGIN = 30 * MIB


def pattern(number: int) -> bytes:
    """The MiB with this number; no two are alike."""
    return (b"%07d " % number) * (MIB // 8)


async def blocks(mebibytes: int) -> AsyncIterator[bytes]:
    for number in range(mebibytes):
        yield pattern(number)


class Memory:
    """The largest memory of a server that was seen while something went through it."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self.idle = self.most = resident(server)

    def look(self, *_: object) -> None:
        self.most = max(self.most, resident(self._server))

    def check(self) -> None:
        assert self.most - self.idle < MARGIN, (self.idle // MIB, self.most // MIB)


async def up_and_down(server: ServerProcess, folder: Path, mebibytes: int) -> None:
    """With and without a Content-Length, in one piece and in parts."""
    async with ResonantGenesis(api_key=KEY, base_url=server.url) as sdk:
        # Whatever is loaded when it is first used is loaded now.
        small = await sdk.files.upload(b"small", name="small")
        await sdk.files.download(small.id, folder / "small")
        memory = Memory(server)
        made = await sdk.files.upload(blocks(mebibytes), name="big", on_progress=memory.look)
        assert made.size == mebibytes * MIB
        path = await sdk.files.download(made.id, folder / "big", on_progress=memory.look)
        with path.open("rb") as file:
            for number in range(mebibytes):
                assert file.read(MIB) == pattern(number)
            assert file.read() == b""
        again = await sdk.files.upload(path, on_progress=memory.look)
        assert again.sha256 == made.sha256
        path.unlink()
        for file_id in (small.id, made.id, again.id):
            await sdk.files.delete(file_id)
    assert kept(server) == []
    memory.check()


async def test_256_mib_up_and_down_in_constant_memory(serve: Serve, tmp_path: Path) -> None:
    await up_and_down(serve(), tmp_path, 256)


@pytest.mark.soak
async def test_4_gib_up_and_down_in_constant_memory(serve: Serve, tmp_path: Path) -> None:
    await up_and_down(serve(), tmp_path, 4096)


async def test_readers_that_do_not_read_cost_no_memory_and_nobody_else_time(serve: Serve) -> None:
    server = serve()
    async with ResonantGenesis(api_key=KEY, base_url=server.url) as sdk:
        made = await sdk.files.upload(blocks(32), name="big")
        memory = Memory(server)
        path = f"/v1/files/{made.id}/content"
        connections = [connected(server) for _ in range(40)]
        pairs = [await one.__aenter__() for one in connections]
        for reader, writer in pairs:
            writer.write(head("GET", path))
            assert (await answer_of(reader))[0] == 200
        for _ in range(20):  # others are served as if nobody were there
            assert (await sdk.files.get(made.id)).size == made.size
            memory.look()
        memory.check()
        # Who reads after all gets everything.
        reader, _ = pairs[0]
        found = hashlib.sha256()
        for _ in range(32):
            found.update(await reader.readexactly(MIB))
        assert found.hexdigest() == made.sha256
        for one in connections:
            await one.__aexit__(None, None, None)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that takes files of at most 16 MiB and is soon impatient."""
    server = ServerProcess(
        tmp_path_factory.mktemp("small") / "data", limits__file=16 * MIB, limits__stall=1
    )
    yield server.start()
    server.stop()
    assert server.errors() == []


async def test_too_large_is_told_before_anything_is_read(small: ServerProcess) -> None:
    async with connected(small) as (reader, writer):
        writer.write(head("POST", "/v1/files?name=a", f"Content-Length: {16 * MIB + 1}"))
        status, headers = await answer_of(reader)
        assert (status, headers["connection"]) == (413, "close")
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        assert body["error"]["code"] == "PAYLOAD_TOO_LARGE"
    # And where the client waits to be asked, it is not.
    async with connected(small) as (reader, writer):
        lines = (f"Content-Length: {16 * MIB + 1}", "Expect: 100-continue")
        writer.write(head("POST", "/v1/files?name=a", *lines))
        assert (await answer_of(reader))[0] == 413
    async with connected(small) as (reader, writer):
        lines = ("Content-Length: 1", "Expect: 100-continue")
        writer.write(head("POST", "/v1/files?name=a", *lines))
        assert (await answer_of(reader))[0] == 100
        writer.write(b"x")
        assert (await answer_of(reader))[0] == 201


async def test_common_clients_see_a_refusal_in_mid_body(
    small: ServerProcess, tmp_path: Path
) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(24 * MIB)
    before = kept(small)
    with SyncResonantGenesis(api_key=KEY, base_url=small.url) as sync:
        async with ResonantGenesis(api_key=KEY, base_url=small.url) as sdk:
            for name, code in (("a", "PAYLOAD_TOO_LARGE"), ("a/b", "INVALID_REQUEST")):
                for attempt in (
                    sdk.files.upload(big, name=name),
                    sdk.files.upload(blocks(24), name=name),
                    asyncio.to_thread(sync.files.upload, big, name=name),
                ):
                    with pytest.raises(InvalidRequest) as raised:
                        await attempt
                    assert raised.value.code == code
    curl = await asyncio.create_subprocess_exec(
        "curl", "--silent", "--max-time", "30", "--upload-file", str(big), "--request", "POST",
        "--header", f"Authorization: Bearer {KEY}", f"{small.url}/v1/files?name=a",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await curl.communicate()
    assert json.loads(out)["error"]["code"] == "PAYLOAD_TOO_LARGE"
    assert kept(small) == before


async def test_uploads_that_break_off_leave_nothing(small: ServerProcess) -> None:
    before = kept(small)
    for lines, body in (
        (["Content-Length: 2000000"], bytes(1_000_000)),
        (["Transfer-Encoding: chunked"], b"f4240\r\n" + bytes(1_000_000) + b"\r\n"),
    ):
        async with connected(small) as (_, writer):
            writer.write(head("POST", "/v1/files?name=a", *lines) + body)
            await until(lambda: len(kept(small)) == len(before) + 1)
        await until(lambda: kept(small) == before)


async def test_an_upload_that_stands_still_is_ended(small: ServerProcess) -> None:
    before = kept(small)
    async with asyncio.timeout(20), connected(small) as (reader, writer):
        writer.write(head("POST", "/v1/files?name=a", "Content-Length: 10") + b"12345")
        status, headers = await answer_of(reader)
        error = json.loads(await reader.readexactly(int(headers["content-length"])))["error"]
        assert (status, error["code"]) == (422, "INVALID_REQUEST")
        assert "body" in error["details"]["fields"]
    assert kept(small) == before


async def test_a_download_that_stands_still_is_ended(small: ServerProcess) -> None:
    async with ResonantGenesis(api_key=KEY, base_url=small.url) as sdk:
        # More than the system's own buffers between the two hold.
        made = await sdk.files.upload(blocks(16), name="a")
        async with asyncio.timeout(20), connected(small) as (reader, writer):
            writer.write(head("GET", f"/v1/files/{made.id}/content"))
            assert (await answer_of(reader))[0] == 200
            await until(lambda: "broken off" in small.log)
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await reader.readexactly(16 * MIB)
        await sdk.files.delete(made.id)


async def test_revoking_a_key_ends_its_uploads_and_downloads(serve: Serve) -> None:
    server = serve()
    async with server.client() as client:
        made = await client.post("/v1/keys", json={"name": "short", "scopes": ["*"]})
        key = made.json()["key"]
        file = await client.post("/v1/files?name=a", content=blocks(16))
        path = f"/v1/files/{file.json()['id']}/content"
        # Of the same size, by another key: it goes on.
        async with (
            asyncio.timeout(30),
            connected(server) as (up, sending),
            connected(server) as (down, asking),
            connected(server) as (spared, other),
        ):
            sending.write(head("POST", "/v1/files?name=b", "Content-Length: 99", key=key) + b"x")
            asking.write(head("GET", path, key=key))
            other.write(head("GET", path))
            for reader in (down, spared):
                assert (await answer_of(reader))[0] == 200
            await until(lambda: len(kept(server)) == 2)
            await client.delete(f"/v1/keys/{made.json()['id']}")
            status, headers = await answer_of(up)
            assert (status, headers["www-authenticate"]) == (401, "Bearer")
            await until(lambda: "broken off" in server.log)
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await down.readexactly(16 * MIB)
            assert len(await spared.readexactly(16 * MIB)) == 16 * MIB
    await until(lambda: len(kept(server)) == 1)


async def test_a_client_that_leaves_in_mid_download_is_noticed(serve: Serve) -> None:
    server = serve()
    async with server.client() as client:
        made = (await client.post("/v1/files?name=a", content=blocks(16))).json()
        descriptors = Path(f"/proc/{server.server_pid}/fd")

        def is_open() -> bool:
            return any(made["sha256"] in str(one.readlink()) for one in list(descriptors.iterdir()))

        async with connected(server) as (reader, writer):
            writer.write(head("GET", f"/v1/files/{made['id']}/content"))
            assert (await answer_of(reader))[0] == 200
            await until(is_open)
        await until(lambda: not is_open())


async def test_a_deleted_file_is_downloaded_to_its_end(serve: Serve) -> None:
    server = serve()
    async with server.client() as client:
        made = (await client.post("/v1/files?name=a", content=blocks(16))).json()
        async with connected(server) as (reader, writer):
            writer.write(head("GET", f"/v1/files/{made['id']}/content"))
            assert (await answer_of(reader))[0] == 200
            assert (await client.delete(f"/v1/files/{made['id']}")).status_code == 204
            assert kept(server) == []
            content = await reader.readexactly(16 * MIB)
    assert hashlib.sha256(content).hexdigest() == made["sha256"]


async def test_a_full_disk_is_unavailable_and_the_rest_goes_on(serve: Serve) -> None:
    server = serve(may_complain=True, limits__disk_reserve=1 << 40)
    async with ResonantGenesis(api_key=KEY, base_url=server.url, max_retries=0) as sdk:
        with pytest.raises(Exception, match="no room for files") as raised:
            await sdk.files.upload(b"x", name="a")
        assert getattr(raised.value, "code", "") == "UNAVAILABLE"
        assert (await sdk.sessions.execute("guide", "count to 3")).status == "success"
    assert kept(server) == []


async def test_exports_begin_at_once_and_respect_slow_readers(serve: Serve) -> None:
    """A session far larger than any buffer, read by one that does not read."""
    server = serve(agents={"paced": "support.agents:paced"}, limits__chunks_per_session=100_000)
    async with ResonantGenesis(api_key=KEY, base_url=server.url) as sdk:
        goal = "x" * 1_000
        ended = await sdk.sessions.execute("paced", goal, context={"count": 30_000})
        path = f"/v1/sessions/{ended.session_id}/export"
        answer = httpx.get(f"{server.url}{path}", headers=bearer(), timeout=30)
        assert len(answer.content) > 30 * MIB
        memory = Memory(server)
        connections = [connected(server) for _ in range(20)]
        pairs = [await one.__aenter__() for one in connections]
        for reader, writer in pairs:
            writer.write(head("GET", path))
            assert (await answer_of(reader))[0] == 200
            await reader.readline()  # the size of the first piece
            first = json.loads(await reader.readline())
            assert (first["type"], first["position"]) == ("session", ended.position)
        memory.look()
        memory.check()
        # Deleted under its readers, an export is never ended as if it were whole.
        await sdk.sessions.delete(ended.session_id)
        for reader, _ in pairs[:3]:
            rest = b""
            with contextlib.suppress(ConnectionError):
                rest = await reader.read(-1)
            assert len(rest) < len(answer.content) and not rest.endswith(b"0\r\n\r\n")
        for one in connections:
            await one.__aexit__(None, None, None)
        lines = answer.text.splitlines()
        assert len(lines) == ended.position + 2
        whole = json.loads(lines[-1])
        assert (whole["type"], whole["position"]) == ("done", ended.position)


async def test_without_the_server_an_upload_is_lost(serve: Serve) -> None:
    server = serve()
    server.stop()
    async with ResonantGenesis(api_key=KEY, base_url=server.url, max_retries=0) as sdk:
        with pytest.raises(ConnectionLost):
            await sdk.files.upload(b"x", name="a")
