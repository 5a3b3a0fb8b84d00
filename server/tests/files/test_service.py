"""Files over blobs and records: whole or nothing, sealed from others, and no content left over."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from resonantgenesis_server.files.base import BlobError, Blobs
from resonantgenesis_server.files.service import FileService, pieces
from resonantgenesis_server.metrics import METERS
from resonantgenesis_server.model.errors import (
    Internal,
    NotFound,
    PayloadTooLarge,
    Unavailable,
)
from resonantgenesis_server.records.base import Organization, SessionRecord, StoreUnusable
from resonantgenesis_server.records.files import Content, FileRecord, Owner
from resonantgenesis_server.records.store import Records
from structlog.testing import capture_logs

from .conftest import Stored

pytestmark = pytest.mark.anyio


async def put(files: FileService, owner: Owner, content: bytes, name: str = "f") -> FileRecord:
    async with files.receiving(len(content)) as upload:
        await upload.write(content)
        digest = await upload.finish()
        return await files.create(upload, owner, name, "text/plain", digest)


async def content_of(files: FileService, file: FileRecord) -> bytes:
    async with await files.open(file) as blob:
        return await blob.read(0, blob.size)


async def test_a_file_comes_and_goes(files: FileService, org: Organization, stored: Stored) -> None:
    me = Owner(org.id, "ann")
    made = await put(files, me, b"content", "a.txt")
    assert (made.content.name, made.content.size) == ("a.txt", 7)
    assert await files.get(me, made.id) == made
    assert (await files.list(me, limit=5, cursor=None)).items == [made]
    assert await content_of(files, made) == b"content"
    await files.delete(me, made.id)
    assert await stored.left() == []
    for gone in (files.get(me, made.id), files.delete(me, made.id), files.open(made)):
        with pytest.raises(NotFound, match="no such file"):
            await gone


async def test_pieces_of_any_size_make_one_file(files: FileService, org: Organization) -> None:
    pieces = [bytes([n % 256]) * (n * 37 % 5_000) for n in range(300)]
    async with files.receiving() as upload:
        for piece in pieces:
            await upload.write(piece)
        assert upload.size == sum(map(len, pieces))
        made = await files.create(upload, Owner(org.id), "f", "x/y", await upload.finish())
    assert await content_of(files, made) == b"".join(pieces)


async def test_what_is_too_large_leaves_nothing(
    files: FileService, org: Organization, stored: Stored
) -> None:
    with pytest.raises(PayloadTooLarge) as caught:
        async with files.receiving(1_000_001):
            raise AssertionError("refused before a byte of it")
    assert caught.value.details == {"limit": 1_000_000}
    async with files.receiving(10) as upload:  # less than what comes
        await upload.write(bytes(999_999))
        await upload.write(b"x")
        with pytest.raises(PayloadTooLarge):
            await upload.write(b"y")
    assert await stored.left() == []
    assert len(await content_of(files, await put(files, Owner(org.id), bytes(1_000_000)))) == 10**6


async def test_an_upload_that_breaks_off_leaves_nothing(files: FileService, stored: Stored) -> None:
    with pytest.raises(ConnectionError):
        async with files.receiving() as upload:
            await upload.write(bytes(700_000))
            assert await stored.left()
            raise ConnectionError
    async with files.receiving() as upload:
        await upload.write(bytes(700_000))
        await upload.finish()
    assert await stored.left() == []


async def test_content_goes_with_the_last_file_that_holds_it(
    files: FileService, org: Organization, stored: Stored
) -> None:
    me = Owner(org.id)
    first, second = [await put(files, me, b"the same") for _ in range(2)]
    assert len(await stored.left()) == 1
    await files.delete(me, first.id)
    assert await content_of(files, second) == b"the same"
    await files.delete(me, second.id)
    assert await stored.left() == []


async def test_content_that_no_file_holds_is_collected(
    impatient: FileService, records: Records, org: Organization, stored: Stored
) -> None:
    """As after a session was removed, or a process died between the content and its record."""
    row = SessionRecord("sess_1", org.id, None, "guide", "created", 0, 1.0, 1.0)
    await records.sessions.upsert_many([row])
    await put(impatient, Owner(org.id, None, "sess_1"), b"made in the session")
    kept = await put(impatient, Owner(org.id), b"kept")
    async with impatient.receiving() as upload:
        await upload.write(b"nobody's")
        await upload.finish()
        await upload.keep()
    assert len(await stored.left()) == 3
    await records.sessions.delete(["sess_1"])
    assert await impatient.collect() == 2
    assert await impatient.collect() == 0
    assert await content_of(impatient, kept) == b"kept"
    assert len(await stored.left()) == 1


async def test_content_about_to_be_recorded_is_not_collected(
    files: FileService, records: Records, org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = records.files.create
    collected: list[int] = []

    async def slow(*arguments: object, **more: object) -> FileRecord:
        # The content is in its place, and no record says so yet.
        collected.append(await files.collect())
        return await create(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(records.files, "create", slow)
    made = await put(files, Owner(org.id), b"content")
    assert collected == [0]
    assert await content_of(files, made) == b"content"


@pytest.mark.parametrize("first_in", ["release", "create"])
async def test_content_recorded_while_it_is_given_up_is_not_collected(
    files: FileService,
    records: Records,
    org: Organization,
    monkeypatch: pytest.MonkeyPatch,
    first_in: str,
) -> None:
    """Whichever of the two comes to the records first."""
    me = Owner(org.id)
    first = await put(files, me, b"content")
    create, release = records.files.create, records.files.release
    kept, go, released = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def late(*arguments: object, **more: object) -> FileRecord:
        kept.set()
        await go.wait()
        return await create(*arguments, **more)  # type: ignore[arg-type]

    async def releasing(digests: Sequence[str]) -> Sequence[str]:
        if first_in == "create":
            go.set()
            await second
        found = await release(digests)
        go.set()
        released.set()
        return found

    monkeypatch.setattr(records.files, "create", late)
    monkeypatch.setattr(records.files, "release", releasing)
    second = asyncio.create_task(put(files, me, b"content"))
    await kept.wait()
    await files.delete(me, first.id)
    assert released.is_set()
    assert await content_of(files, await second) == b"content"


async def test_content_that_comes_again_while_it_is_removed_is_there(
    files: FileService, blobs: Blobs, org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = Owner(org.id)
    first = await put(files, me, b"content")
    remove = blobs.remove
    uploads: list[FileRecord] = []

    async def removing(names: Sequence[str]) -> int:
        # No row names it any more; now somebody uploads the same.
        monkeypatch.setattr(blobs, "remove", remove)
        uploads.append(await put(files, me, b"content"))
        return await remove(names)

    monkeypatch.setattr(blobs, "remove", removing)
    await files.delete(me, first.id)
    assert await content_of(files, uploads[0]) == b"content"


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_two_nodes_upload_and_delete_the_same(
    stored: Stored, request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    """At once, each with records and a store of its own; nobody loses what it has."""
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    if database == "postgresql":
        url = str(request.getfixturevalue("postgres"))
    every = [await Records.open(url) for _ in range(2)]
    stores = [await stored.open(shared=True) for _ in range(2)]
    nodes = [
        FileService(records.files, blobs, limit=1_000_000)
        for records, blobs in zip(every, stores, strict=True)
    ]
    me = Owner((await every[0].organizations.create("first")).id)

    async def come_and_go(number: int) -> None:
        node, other = nodes[number % 2], nodes[(number + 1) % 2]
        for turn in range(6):
            content = b"x" * (turn % 2)
            made = await put(node, me, content)
            assert await content_of(other, made) == content
            await (node if turn % 3 else other).delete(me, made.id)
            if number == turn:
                await node.collect()

    await asyncio.gather(*(come_and_go(number) for number in range(8)))
    assert await stored.left() == []
    for opened in (*stores, *every):
        await opened.close()


async def test_many_at_once(files: FileService, org: Organization, stored: Stored) -> None:
    me = Owner(org.id)

    async def come_and_go(number: int) -> None:
        for turn in range(5):
            made = await put(files, me, b"x" * (turn % 2))
            assert len(await content_of(files, made)) == turn % 2
            await files.delete(me, made.id)
            if number % 3 == 0:
                await files.collect()

    await asyncio.gather(*(come_and_go(number) for number in range(12)))
    assert await stored.left() == []


async def test_a_store_that_fails_is_told_to_clients_without_its_reason(
    files: FileService,
    blobs: Blobs,
    org: Organization,
    records: Records,
    stored: Stored,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    me = Owner(org.id)
    made = await put(files, me, b"content")
    await stored.change(records, made, None)
    with pytest.raises(Internal) as missing:
        await files.open(made)
    place = str(stored.root or (stored.bucket and stored.bucket.name))
    assert place not in missing.value.message
    assert await content_of(files, await put(files, me, b"content")) == b"content", "mended"
    assert await content_of(files, made) == b"content"

    async def broken(*_: object) -> int:
        raise BlobError("/secret/path: I/O error")

    monkeypatch.setattr(blobs, "remove", broken)
    await files.delete(me, made.id)  # is deleted all the same
    with pytest.raises(NotFound):
        await files.get(me, made.id)
    await blobs.close()
    with pytest.raises(Unavailable) as unusable:
        await put(files, me, b"more")
    assert unusable.value.retry_after and place not in unusable.value.message


async def test_a_record_that_cannot_be_written_leaves_no_file(
    impatient: FileService, records: Records, org: Organization, stored: Stored
) -> None:
    async with impatient.receiving() as upload:
        await upload.write(b"content")
        digest = await upload.finish()
        with pytest.raises(StoreUnusable):
            await impatient.create(upload, Owner("org_none"), "f", "x/y", digest)
    assert await impatient.collect() == 1
    assert await stored.left() == []


@pytest.mark.parametrize("file_id", ["", "a b", "x" * 200, "../x", "file\x00", "fil\ud800"])
async def test_what_is_no_id_is_no_file(
    files: FileService, org: Organization, file_id: str
) -> None:
    with pytest.raises(NotFound):
        await files.get(Owner(org.id), file_id)
    with pytest.raises(NotFound):
        await files.delete(Owner(org.id), file_id)


async def test_damaged_content_is_told_and_never_ended(
    files: FileService, records: Records, org: Organization, stored: Stored
) -> None:
    me = Owner(org.id)
    content = b"0123456789" * 1_000
    file = await put(files, me, content)
    await stored.change(records, file, b"x" + content[1:])
    counted = METERS.damaged.counts["file"]
    given = b""
    with capture_logs() as told, pytest.raises(Internal, match="damaged"):
        async with await files.open(file) as blob:
            async for piece in pieces(blob, 0, file.content.size, 4_096):
                given += piece
    assert len(given) < len(content)
    assert [line["event"] for line in told] == [
        "a file's content is damaged; restore it from a backup"
    ]
    assert METERS.damaged.counts["file"] == counted + 1
    async with await files.open(file) as blob:  # of a part nobody can say
        assert [piece async for piece in pieces(blob, 5, 10, 4_096)] == [b"56789"]
    for changed in (content[:-1], content + b"0"):
        await stored.change(records, file, changed)
        with pytest.raises(Internal, match="damaged"):
            await files.open(file)
    assert METERS.damaged.counts["file"] == counted + 3
    await put(files, me, content)  # who uploads it again mends it
    assert await content_of(files, file) == content


async def test_content_of_another_store_is_missing_until_it_comes_again(
    files: FileService, records: Records, org: Organization
) -> None:
    """As after the setting was changed, and the contents were not moved."""
    me, content = Owner(org.id), Content("a", "x/y", 7, hashlib.sha256(b"content").hexdigest())
    file = await records.files.create(me, content, blob="name-of-another-store")
    with pytest.raises(Internal, match="missing"):
        await files.open(file)
    await put(files, me, b"content")
    assert await content_of(files, file) == b"content"
    other = await records.files.create(me, Content("b", "x/y", 1, "ab" * 32), blob="elsewhere")
    await files.delete(me, other.id)
    assert await records.files.blob_of("ab" * 32) is None
