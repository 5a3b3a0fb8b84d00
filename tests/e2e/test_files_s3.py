"""Files in S3-compatible storage, by a server as users run it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from resonantgenesis import ResonantGenesis
from support.s3 import CREDENTIALS, Bucket, Storage, running_storage
from support.server import COMMAND, KEY, Serve, ServerProcess, bearer
from support.transfers import connected, head, until

from .test_files import MIB, Memory, blocks, pattern


@pytest.fixture
def bucket(storage: Storage) -> Bucket:
    return storage.bucket()


def settings(bucket: Bucket, **more: Any) -> dict[str, Any]:
    return {"files": bucket.address, "files_endpoint": bucket.endpoint, **more}


async def up_and_down(server: ServerProcess, bucket: Bucket, folder: Path, mebibytes: int) -> None:
    async with ResonantGenesis(api_key=KEY, base_url=server.url) as sdk:
        # Whatever is loaded when it is first used is loaded now.
        small = await sdk.files.upload(blocks(20), name="small")
        await sdk.files.download(small.id, folder / "small")
        memory = Memory(server)
        made = await sdk.files.upload(blocks(mebibytes), name="big", on_progress=memory.look)
        path = await sdk.files.download(made.id, folder / "big", on_progress=memory.look)
        with path.open("rb") as file:
            for number in range(mebibytes):
                assert file.read(MIB) == pattern(number)
            assert file.read() == b""
        again = await sdk.files.upload(path, on_progress=memory.look)
        assert again.sha256 == made.sha256
        assert len(bucket.objects()) == 2, "the same content lies once"
        for file_id in (small.id, made.id, again.id):
            await sdk.files.delete(file_id)
    assert bucket.objects() + bucket.uploads() == []
    memory.check()


async def test_64_mib_up_and_down_in_bounded_memory(
    serve: Serve, bucket: Bucket, tmp_path: Path
) -> None:
    await up_and_down(serve(**settings(bucket)), bucket, tmp_path, 64)


@pytest.mark.soak
async def test_1_gib_up_and_down_in_bounded_memory(
    serve: Serve, bucket: Bucket, tmp_path: Path
) -> None:
    await up_and_down(serve(**settings(bucket)), bucket, tmp_path, 1024)


async def test_downloads_whole_in_part_and_not_again(serve: Serve, bucket: Bucket) -> None:
    server = serve(**settings(bucket))
    content = os.urandom(300_000)
    async with server.client() as client:
        made = (await client.post("/v1/files?name=a", content=content)).json()
        path, etag = f"/v1/files/{made['id']}/content", f'"{made["sha256"]}"'
        assert made["sha256"] == hashlib.sha256(content).hexdigest()

        async def get(method: str = "GET", **headers: str) -> httpx.Response:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return await client.request(method, path, headers=named)

        assert (await get()).content == content
        part = await get(Range="bytes=200000-250000", If_Range=etag)
        assert (part.status_code, part.content) == (206, content[200_000:250_001])
        assert (await get(Range="bytes=-5")).content == content[-5:]
        assert (await get(Range="bytes=0-4", If_Range='"other"')).content == content
        assert (await get(Range="bytes=300000-")).status_code == 416
        assert (await get(If_None_Match=etag)).status_code == 304
        whole = await get("HEAD")
        assert (whole.headers["content-length"], whole.content) == ("300000", b"")
        empty = (await client.post("/v1/files?name=empty", content=b"")).json()
        assert (await client.get(f"/v1/files/{empty['id']}/content")).content == b""
        wrong = {"Content-Digest": "sha-256=:" + "A" * 43 + "=:"}
        refused = await client.post("/v1/files?name=b", content=b"other", headers=wrong)
        assert refused.status_code == 422
    assert len(bucket.objects()) == 2


async def test_a_client_that_leaves_leaves_nothing(serve: Serve, bucket: Bucket) -> None:
    server = serve(**settings(bucket))
    for size in (1, 20):
        async with connected(server) as (_, writer):
            writer.write(head("POST", "/v1/files?name=a", f"Content-Length: {64 * MIB}"))
            writer.write(bytes(size * MIB))
            if size > 5:
                await until(lambda: bucket.uploads() != [])
        await until(lambda: bucket.objects() + bucket.uploads() == [])
    async with server.client() as client:
        assert (await client.get("/v1/files")).json()["data"] == []


async def test_kill_in_mid_upload_takes_nothing_and_shows_nothing(
    serve: Serve, bucket: Bucket
) -> None:
    server = serve(**settings(bucket))
    content = os.urandom(8 * MIB)
    async with server.client() as client:
        made = (await client.post("/v1/files?name=kept", content=content)).json()
    before = bucket.objects()
    async with connected(server) as (_, writer):
        writer.write(head("POST", "/v1/files?name=a", f"Content-Length: {64 * MIB}"))
        writer.write(bytes(16 * MIB))
        await until(lambda: bucket.uploads() != [] and bucket.parts(bucket.uploads()[0]) > 0)
        server.kill()
    server.start()
    async with server.client() as client:
        assert (await client.get("/v1/files")).json()["data"] == [made]
        down = await client.get(f"/v1/files/{made['id']}/content")
        assert down.content == content
    assert bucket.objects() == before
    # Its parts are new: they are no object, and go after a day.
    assert len(bucket.uploads()) == 1


async def test_while_the_storage_is_away_all_else_goes_on(serve: Serve, tmp_path: Path) -> None:
    with running_storage(tmp_path / "log") as storage:
        bucket = storage.bucket()
        server = serve(may_complain=True, **settings(bucket))
        async with server.client() as client:
            made = (await client.post("/v1/files?name=a", content=b"content")).json()
            storage.kill()
            path = f"/v1/files/{made['id']}"
            for answer in (
                await client.post("/v1/files?name=b", content=b"other"),
                await client.get(f"{path}/content"),
            ):
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "UNAVAILABLE")
                assert int(answer.headers["retry-after"]) >= 1
            assert (await client.get(path)).json() == made
            assert (await client.delete(path)).status_code == 204
            assert (await client.get("/readyz")).status_code == 200
        server.logged("files cannot be used")
        # And a start does not wait for it.
        server.stop()
        server.start()
        server.logged("the storage of files cannot be reached")


async def test_presigned_downloads(serve: Serve, bucket: Bucket, tmp_path: Path) -> None:
    server = serve(**settings(bucket, files_presigned=60))
    content = os.urandom(6 * MIB)
    async with server.client() as client, httpx.AsyncClient() as anybody:
        made = (await client.post("/v1/files?name=r%C3%A9sum%C3%A9.html", content=content)).json()
        path, etag = f"/v1/files/{made['id']}/content", f'"{made["sha256"]}"'
        answer = await client.get(path)
        assert (answer.status_code, answer.content) == (307, b"")
        assert answer.headers["cache-control"] == "private, no-store"
        address = answer.headers["location"]
        down = await anybody.get(address)
        assert down.content == content
        assert down.headers["content-type"] == "application/octet-stream"
        name = "r_sum_.html\"; filename*=UTF-8''r%C3%A9sum%C3%A9.html"
        assert down.headers["content-disposition"] == f'attachment; filename="{name}'
        part = await anybody.get(address, headers={"Range": "bytes=7-9"})
        assert (part.status_code, part.content) == (206, content[7:10])
        # What the storage cannot answer as we do, we do.
        for method, headers, status in (
            ("HEAD", {}, 200),
            ("GET", {"If-None-Match": etag}, 304),
            ("GET", {"Range": "bytes=0-4", "If-Range": etag}, 206),
            ("GET", {"Range": f"bytes={len(content)}-"}, 416),
            ("GET", {"Prefer": "return=representation"}, 200),
            ("GET", {"Prefer": 'handling=lenient, return="representation"'}, 200),
        ):
            same = await client.request(method, path, headers=headers)
            assert same.status_code == status, (method, headers)
        empty = (await client.post("/v1/files?name=empty", content=b"")).json()
        assert (await client.get(f"/v1/files/{empty['id']}/content")).status_code == 200
        # Nobody gets an address of what is not theirs.
        token = await client.post("/v1/tokens", json={"scopes": ["files:read"], "subject": "ann"})
        stranger = {"Authorization": f"Bearer {token.json()['token']}"}
        assert (await client.get(path, headers=stranger)).status_code == 404
        nobody = await anybody.get(f"{server.url}{path}")
        assert nobody.status_code == 401
    async with ResonantGenesis(api_key=KEY, base_url=server.url) as sdk:
        saved = await sdk.files.download(made["id"], tmp_path / "sdk")
        assert saved.read_bytes() == content
    environment = {**os.environ, "RESONANTGENESIS_API_KEY": KEY}
    environment["RESONANTGENESIS_BASE_URL"] = server.url
    command = [*COMMAND, "files", "get", made["id"], str(tmp_path / "cli")]
    curl = ["curl", "--silent", "--location", "--max-time", "30", f"{server.url}{path}"]
    curl += ["--header", f"Authorization: Bearer {KEY}", "--output", str(tmp_path / "curl")]
    for program in (command, curl):
        done = await asyncio.to_thread(
            subprocess.run, program, env=environment, capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "cli").read_bytes() == (tmp_path / "curl").read_bytes() == content
    assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in server.log
    assert "X-Amz-Signature" not in server.log


def refusal(tmp_path: Path, environment: dict[str, str] | None = None, **options: Any) -> str:
    """The one line with which a server does not start."""
    server = ServerProcess(tmp_path / "data", **options)
    mine = server._environment() | (environment or {})
    done = subprocess.run(
        server.command(0), env=mine, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2, done.stderr
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return lines[-1]


def test_what_cannot_work_is_told_at_the_start(bucket: Bucket, tmp_path: Path) -> None:
    there = settings(bucket)
    assert "NoSuchBucket" in refusal(tmp_path, **there | {"files": "s3://nobodys-bucket/x"})
    assert "s3://bucket/prefix" in refusal(tmp_path, **there | {"files": "s3://b//"})
    assert "s3://bucket/prefix" in refusal(tmp_path, **there | {"files": "gs://bucket"})
    secret = "s3://key:hidden-secret@bucket"
    told = refusal(tmp_path, **there | {"files": secret})
    assert "AWS_" in told and "hidden-secret" not in told
    without = {"AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"}
    without["AWS_SKIP_SIGNATURE"] = "true"
    told = refusal(tmp_path, without, **there, files_presigned=60)
    assert "AWS_SECRET_ACCESS_KEY" in told
    assert "files_presigned" in refusal(tmp_path, files_presigned=60)
    (tmp_path / "obstore.py").write_text("raise ModuleNotFoundError(name='obstore')\n")
    hidden = {"PYTHONPATH": str(tmp_path)}
    assert "resonantgenesis-server[s3]" in refusal(tmp_path, hidden, **there)


async def test_a_directory_that_nodes_share(serve: Serve, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    first, second = serve(files=shared), serve(files=shared)
    content = os.urandom(2 * MIB)
    async with first.client() as client:
        async with connected(first) as (reader, writer):
            writer.write(head("POST", "/v1/files?name=a", f"Content-Length: {len(content)}"))
            writer.write(content[:MIB])
            await until(lambda: len(list((shared / "tmp").iterdir())) == 1)
            second.stop()
            second.start()  # its start leaves the others' uploads alone
            writer.write(content[MIB:])
            assert b" 201 " in await reader.readline()
        (made,) = (await client.get("/v1/files")).json()["data"]
        down = await client.get(f"/v1/files/{made['id']}/content", headers=bearer())
        assert down.content == content
