"""`/v1/files`: what comes down is what went up, in parts too, and nobody else sees it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from files_harness import World, opened
from resonantgenesis_server.files.base import BlobWriter
from resonantgenesis_server.files.disk import DiskWriter
from resonantgenesis_server.files.s3 import S3Writer
from starlette.types import Message

pytestmark = pytest.mark.anyio
CONTENT = bytes(range(256)) * 40


@pytest.fixture(params=["disk", "s3"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    bucket = request.getfixturevalue("storage").bucket() if request.param == "s3" else None
    async with opened(tmp_path / "data", bucket, file=1_000_000) as made:
        yield made


def digest_of(content: bytes) -> dict[str, str]:
    encoded = base64.b64encode(hashlib.sha256(content).digest()).decode()
    return {"Content-Digest": f"sha-256=:{encoded}:"}


async def test_up_and_down(world: World) -> None:
    answer = await world.client.post("/v1/files?name=r%C3%A9sum%C3%A9.pdf", content=CONTENT)
    assert answer.status_code == 201
    made = answer.json()
    path = answer.headers["location"]
    assert path == f"/v1/files/{made['id']}"
    assert made == {
        "id": made["id"],
        "name": "résumé.pdf",
        "size": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "content_type": "application/pdf",
        "subject": None,
        "session_id": None,
        "created_at": made["created_at"],
    }
    assert (await world.client.get(path)).json() == made
    assert (await world.client.get("/v1/files")).json()["data"] == [made]
    down = await world.client.get(f"{path}/content")
    assert (down.status_code, down.content) == (200, CONTENT)
    for name, value in {
        "content-type": "application/pdf",
        "content-length": str(len(CONTENT)),
        "accept-ranges": "bytes",
        "etag": f'"{made["sha256"]}"',
        "repr-digest": digest_of(CONTENT)["Content-Digest"],
        "x-content-type-options": "nosniff",
        "content-disposition": 'attachment; filename="r_sum_.pdf";'
        " filename*=UTF-8''r%C3%A9sum%C3%A9.pdf",
        "cache-control": "private, no-cache, no-transform",
    }.items():
        assert down.headers[name] == value
    assert "sandbox" in down.headers["content-security-policy"]
    assert (await world.client.delete(path)).status_code == 204
    for gone in (path, f"{path}/content"):
        missing = await world.client.get(gone)
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "NOT_FOUND")
    assert (await world.client.delete(path)).status_code == 404
    assert world.kept() == []


async def test_head_is_get_without_a_body(world: World) -> None:
    made = await world.upload(CONTENT)
    path = f"/v1/files/{made['id']}/content"
    get, head = await world.client.get(path), await world.client.head(path)
    varying = {"x-request-id"}
    assert {k: v for k, v in head.headers.items() if k not in varying} == {
        k: v for k, v in get.headers.items() if k not in varying
    }
    assert (head.status_code, head.content) == (200, b"")
    # Ranges are for GET.
    ranged = await world.client.head(path, headers={"Range": "bytes=0-1"})
    assert ranged.headers["content-length"] == str(len(CONTENT))


async def test_parts(world: World) -> None:
    made = await world.upload(CONTENT)
    path, etag = f"/v1/files/{made['id']}/content", f'"{made["sha256"]}"'

    async def get(**headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await world.client.get(path, headers=named)

    part = await get(Range="bytes=100-299")
    assert (part.status_code, part.content) == (206, CONTENT[100:300])
    assert part.headers["content-range"] == f"bytes 100-299/{len(CONTENT)}"
    assert part.headers["content-length"] == "200"
    assert part.headers["etag"] == etag
    assert (await get(Range="bytes=-5", If_Range=etag)).content == CONTENT[-5:]
    for ignored in (
        {"Range": "bytes=1-2", "If_Range": '"other"'},
        {"Range": "bytes=0-1,4-5"},
        {"Range": "pages=1-2"},
    ):
        whole = await get(**ignored)
        assert (whole.status_code, whole.content) == (200, CONTENT)
        assert "content-range" not in whole.headers
    refused = await get(Range=f"bytes={len(CONTENT)}-")
    assert (refused.status_code, refused.json()["error"]["code"]) == (416, "RANGE_NOT_SATISFIABLE")
    assert refused.headers["content-range"] == f"bytes */{len(CONTENT)}"
    known = await get(If_None_Match=f'"x", {etag}', Range="bytes=0-1")
    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", etag)
    assert "content-type" not in known.headers
    assert (await world.client.head(path, headers={"If-None-Match": "*"})).status_code == 304


async def test_an_empty_file(world: World) -> None:
    made = await world.upload(b"", "empty")
    assert (made["size"], made["sha256"]) == (0, hashlib.sha256(b"").hexdigest())
    path = f"/v1/files/{made['id']}/content"
    for headers in ({}, {"Range": "bytes=0-"}, {"Range": "bytes=-5"}):
        down = await world.client.get(path, headers=headers)
        assert (down.status_code, down.content) == (200, b"")


async def test_content_is_checked_against_its_digest(world: World) -> None:
    made = await world.upload(CONTENT, headers=digest_of(CONTENT))
    wrong = await world.client.post(
        "/v1/files?name=a", content=CONTENT, headers=digest_of(b"other")
    )
    error = wrong.json()["error"]
    assert (wrong.status_code, error["code"]) == (422, "INVALID_REQUEST")
    assert made["sha256"] in error["details"]["fields"]["Content-Digest"]
    assert world.kept() == [made["sha256"]]


async def test_a_repeated_upload_makes_one_file(world: World) -> None:
    headers = {"Idempotency-Key": "k1"}
    first = await world.upload(CONTENT, headers=headers)
    again = await world.client.post("/v1/files?name=a.txt", content=CONTENT, headers=headers)
    assert (again.status_code, again.json()) == (201, first)
    assert again.headers["idempotency-replayed"] == "true"
    for changed in (
        {"url": "/v1/files?name=a.txt", "content": CONTENT + b"x"},
        {"url": "/v1/files?name=b.txt", "content": CONTENT},
        {"url": "/v1/files?name=a.txt&subject=ann", "content": CONTENT},
    ):
        refused = await world.client.post(**changed, headers=headers)  # type: ignore[arg-type]
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "CONFLICT")
    others = await world.upload(CONTENT, headers=headers | await world.token(subject="ann"))
    assert others["id"] != first["id"]
    assert len((await world.client.get("/v1/files")).json()["data"]) == 2
    assert world.kept() == [first["sha256"]]
    bad = await world.client.post(
        "/v1/files?name=a", content=b"x", headers={"Idempotency-Key": "k" * 300}
    )
    assert bad.json()["error"]["details"]["fields"].keys() == {"Idempotency-Key"}


async def test_a_refusal_does_not_use_the_key_up(world: World) -> None:
    headers = {"Idempotency-Key": "k1"}
    wrong = await world.client.post(
        "/v1/files?name=a.txt", content=CONTENT, headers=headers | digest_of(b"other")
    )
    assert wrong.status_code == 422
    assert (await world.upload(CONTENT, headers=headers))["size"] == len(CONTENT)


async def test_uploads_with_one_key_at_once_make_one_file(world: World) -> None:
    async def upload() -> tuple[int, str]:
        answer = await world.client.post(
            "/v1/files?name=a", content=CONTENT, headers={"Idempotency-Key": "k"}
        )
        return answer.status_code, answer.json().get("id", "")

    answers = await asyncio.gather(*(upload() for _ in range(8)))
    made = {file_id for status, file_id in answers if status == 201}
    assert len(made) == 1 and {status for status, _ in answers} <= {201, 409}
    assert len((await world.client.get("/v1/files")).json()["data"]) == 1


async def pieces(total: int, size: int = 10_000) -> AsyncIterator[bytes]:
    for _ in range(total // size):
        yield bytes(size)


async def test_the_limit_with_and_without_a_length(world: World) -> None:
    assert (await world.upload(bytes(1_000_000)))["size"] == 1_000_000
    for content in (bytes(1_000_001), pieces(1_010_000)):
        answer = await world.client.post("/v1/files?name=a", content=content)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (413, "PAYLOAD_TOO_LARGE")
        assert error["details"] == {"limit": 1_000_000}
        assert answer.headers["connection"] == "close"
    assert len(world.kept()) == 1


async def test_what_is_announced_too_large_is_refused_unread(world: World) -> None:
    sent: list[Message] = []
    asked_before_answer = 0

    async def receive() -> Message:
        nonlocal asked_before_answer
        asked_before_answer += not sent
        return {"type": "http.request", "body": b"x", "more_body": len(sent) < 2}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-length", b"1000001")]
    headers.append((b"authorization", world.client.headers["authorization"].encode()))
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/files",
        "query_string": b"name=a",
        "http_version": "1.1",
        "headers": headers,
    }
    await world.parts.app(scope, receive, send)
    assert (sent[0]["status"], asked_before_answer) == (413, 0)


async def test_a_client_that_leaves_leaves_nothing(world: World) -> None:
    steps = iter(
        [
            {"type": "http.request", "body": bytes(600_000), "more_body": True},
            {"type": "http.disconnect"},
        ]
    )
    sent: list[Message] = []

    async def receive() -> Message:
        return next(steps)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/files",
        "query_string": b"name=a",
        "http_version": "1.1",
        "headers": [(b"authorization", world.client.headers["authorization"].encode())],
    }
    await world.parts.app(scope, receive, send)
    assert (sent, world.kept()) == ([], [])


async def test_the_socket_is_read_no_faster_than_the_disk_takes_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk_is_back, waiting = asyncio.Event(), asyncio.Event()
    kind: Any = DiskWriter if world.bucket is None else S3Writer
    write = kind.write

    async def slow(writer: BlobWriter, data: bytes) -> None:
        waiting.set()
        await disk_is_back.wait()
        await write(writer, data)

    monkeypatch.setattr(kind, "write", slow)
    taken = 0

    async def content() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(90):
            taken += 1
            yield bytes(10_000)

    upload = asyncio.create_task(world.client.post("/v1/files?name=a", content=content()))
    await waiting.wait()
    for _ in range(200):
        await asyncio.sleep(0)
    assert taken * 10_000 < 300_000
    disk_is_back.set()
    assert (await upload).json()["size"] == 900_000


#: Query, headers, status, the field that is named.
BAD: list[tuple[str, dict[str, str], int, str | None]] = [
    ("", {}, 422, "name"),
    ("name=", {}, 422, "name"),
    ("name=a/b", {}, 422, "name"),
    ("name=..", {}, 422, "name"),
    ("name=%00", {}, 422, "name"),
    ("name=" + "x" * 256, {}, 422, "name"),
    ("name=" + "x" * 5_000, {}, 422, "name"),
    ("name=a&subject=", {}, 422, "subject"),
    ("name=a&subject=" + "x" * 201, {}, 422, "subject"),
    ("name=a&subject=%00", {}, 422, "subject"),
    ("name=a", {"Content-Type": "nonsense"}, 422, "Content-Type"),
    ("name=a", {"Content-Digest": "nonsense"}, 422, "Content-Digest"),
    ("name=a", {"Content-Type": "multipart/form-data; boundary=x"}, 415, None),
    ("name=a", {"Content-Encoding": "gzip"}, 415, None),
]


async def test_bad_uploads(world: World) -> None:
    for query, headers, status, field in BAD:
        answer = await world.client.post(f"/v1/files?{query}", content=b"x", headers=headers)
        assert answer.status_code == status, (query, headers, answer.text)
        if field is not None:
            assert answer.json()["error"]["details"]["fields"].keys() == {field}, query
    assert world.kept() == []


async def test_a_disk_that_is_full(tmp_path: Path) -> None:
    async with opened(tmp_path / "data", disk_reserve=1 << 40) as world:
        answer = await world.client.post("/v1/files?name=a", content=b"x")
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (503, "UNAVAILABLE")
        assert error["retry_after"] > 0 and answer.headers["retry-after"]
        assert str(tmp_path) not in answer.text
        assert world.kept() == []


async def test_pages_and_those_of_a_session(world: World) -> None:
    bound = await world.token(session_id="sess_1", subject="ann")
    of_session = await world.upload(b"1", headers=bound)
    for number in range(4):
        await world.upload(bytes([number]))
    found: list[str] = []
    cursor = None
    while True:
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await world.client.get("/v1/files", params=params)).json()
        found += [file["id"] for file in page["data"]]
        cursor = page["next_cursor"]
        assert page["has_more"] == (cursor is not None)
        if cursor is None:
            break
    assert len(set(found)) == len(found) == 5
    for headers in ({}, bound):
        page = await world.client.get("/v1/files?session_id=sess_1", headers=headers)
        assert page.json()["data"] == [of_session]
        page = await world.client.get("/v1/files?session_id=sess_2", headers=headers)
        assert page.json()["data"] == []


async def test_the_alias(world: World) -> None:
    answer = await world.client.post("/api/v1/files?name=a", content=b"x")
    made = answer.json()
    down = await world.client.get(f"/api/v1/files/{made['id']}/content")
    assert (answer.status_code, down.content) == (201, b"x")


async def test_other_methods(world: World) -> None:
    for method, path, allow in (
        ("PUT", "/v1/files", {"GET", "HEAD", "POST"}),
        ("POST", "/v1/files/file_x/content", {"GET", "HEAD"}),
        ("POST", "/v1/files/file_x", {"GET", "HEAD", "DELETE"}),
        ("POST", "/v1/events/export", {"GET"}),
        ("POST", "/v1/sessions/sess_x/export", {"GET"}),
    ):
        answer = await world.client.request(method, path)
        assert answer.status_code == 405, path
        assert set(answer.headers["allow"].split(", ")) == allow, path
