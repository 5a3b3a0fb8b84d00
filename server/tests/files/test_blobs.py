"""What every store of blobs promises: whole or not at all, safe to read, nothing left over."""

from __future__ import annotations

import asyncio
import hashlib
import random
from dataclasses import dataclass

import pytest
from resonantgenesis_server.files.base import BlobDamaged, BlobError, BlobGone, Blobs
from resonantgenesis_server.records.base import Organization
from resonantgenesis_server.records.files import Content, Owner
from resonantgenesis_server.records.store import Records

from .conftest import PART, Stored

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Kept:
    name: str
    digest: str


async def put(blobs: Blobs, *pieces: bytes) -> Kept:
    writer = await blobs.begin()
    for piece in pieces:
        await writer.write(piece)
    digest = await writer.finish()
    name = await writer.keep()
    await writer.discard()
    return Kept(name, digest)


async def read(blobs: Blobs, kept: Kept) -> bytes:
    async with await blobs.find(kept.name, kept.digest) as blob:
        return await blob.read(0, blob.size)


def pieces_of(content: bytes, rng: random.Random) -> list[bytes]:
    """The content in pieces of any size, some of them empty."""
    cuts = sorted(rng.randrange(len(content) + 1) for _ in range(6))
    return [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 5 * PART, 1_000_000])
async def test_what_comes_out_is_what_went_in(blobs: Blobs, size: int) -> None:
    rng = random.Random(size)
    content = rng.randbytes(size)
    kept = await put(blobs, *pieces_of(content, rng))
    assert kept.digest == hashlib.sha256(content).hexdigest()
    assert await blobs.size(kept.name) == size
    for step in (size + 1, 70_000, 300_000):
        async with await blobs.find(kept.name, kept.digest) as blob:
            assert blob.size == size
            parts = [await blob.read(at, step) for at in range(0, size, step)]
            assert await blob.read(size, step) == b""
        assert b"".join(parts) == content
        assert all(len(part) == step for part in parts[:-1])


async def test_parts_in_any_order(blobs: Blobs) -> None:
    rng = random.Random(1)
    content = rng.randbytes(500_000)
    kept = await put(blobs, content)
    for _ in range(10):
        start = rng.randrange(len(content))
        end = rng.randrange(start, len(content)) + 1
        async with await blobs.find(kept.name, kept.digest, start=start, end=end) as blob:
            assert blob.size == len(content)
            assert await blob.read(start, end - start) == content[start:end]
            # Also what was not told: behind the end, and before the beginning.
            assert await blob.read(end, 1_000) == content[end : end + 1_000]
            assert await blob.read(7, 9) == content[7:16]


async def test_the_same_content_may_lie_twice_under_names_of_its_own(
    blobs: Blobs, stored: Stored
) -> None:
    first, second = await put(blobs, b"con", b"tent"), await put(blobs, b"content")
    assert first.digest == second.digest and first.name != second.name
    assert len(await stored.left()) == 2
    assert await blobs.remove([first.name]) == 1
    assert await read(blobs, second) == b"content"


@pytest.mark.parametrize("size", [1, 3 * PART])
async def test_what_is_discarded_leaves_nothing(blobs: Blobs, stored: Stored, size: int) -> None:
    for finished in (False, True):
        writer = await blobs.begin()
        for _ in range(size // 7 // 1_000 + 1):
            await writer.write(b"content" * 1_000)
        if finished:
            await writer.finish()
            assert len(await stored.left()) == 1
        await writer.discard()
        await writer.discard()
        assert await stored.left() == []
        with pytest.raises(ValueError, match="not open"):
            await writer.write(b"more")


async def test_keep_comes_after_finish(blobs: Blobs) -> None:
    writer = await blobs.begin()
    with pytest.raises(ValueError, match="keep before finish"):
        await writer.keep()
    await writer.discard()


async def test_who_reads_reads_to_the_end_though_it_is_removed(blobs: Blobs) -> None:
    kept = await put(blobs, b"content")
    async with await blobs.find(kept.name, kept.digest) as blob:
        assert await blob.read(0, 3) == b"con"
        assert await blobs.remove([kept.name]) == 1
        assert await blob.read(3, 100) == b"tent"
    with pytest.raises(BlobGone):
        await blobs.find(kept.name, kept.digest)
    with pytest.raises(BlobGone):
        await blobs.size(kept.name)
    await blobs.remove([kept.name])  # is nothing that could fail


async def test_all_names_and_nothing_else(blobs: Blobs, stored: Stored) -> None:
    names = [(await put(blobs, bytes([number]))).name for number in range(20)]
    if stored.root is not None:
        (stored.root / names[0][:2] / "README").write_text("not ours")
    else:
        assert stored.bucket is not None
        stored.bucket.write("some/prefix/up/README", b"not ours")
        stored.bucket.write("some/other/up/" + "ab" * 16, b"not ours")
    found = [name async for batch in blobs.batches(0) for name in batch]
    assert sorted(found) == sorted(names)
    assert [batch async for batch in blobs.batches(3600) if batch] == []


@pytest.mark.parametrize("name", ["", "ab", "../" * 10, "AB" * 32, "ab" * 32 + "\n", "AB" * 16])
async def test_what_is_no_name_is_no_path(blobs: Blobs, name: str) -> None:
    for call in (blobs.find(name, "ab" * 32), blobs.size(name)):
        with pytest.raises(BlobGone, match="no blob's name"):
            await call
    assert await blobs.remove([name]) == 0


async def test_a_writer_whose_caller_was_cancelled_leaves_nothing(
    blobs: Blobs, stored: Stored
) -> None:
    """Whatever call of it was under way, in a thread that nobody can stop."""
    for number in range(30):

        async def write() -> None:
            writer = await blobs.begin()
            try:
                for _ in range(50):
                    await writer.write(bytes(100_000))
                await writer.finish()
            finally:
                await writer.discard()

        task = asyncio.create_task(write())
        for _ in range(number * number):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await blobs.close()  # every thread has ended
    assert await stored.left() == []
    with pytest.raises(BlobError, match="closed"):
        await blobs.begin()


async def test_what_was_changed_is_not_given_out_as_whole(
    blobs: Blobs, stored: Stored, records: Records, org: Organization
) -> None:
    content = bytes(range(256)) * 40
    kept = await put(blobs, content)
    described = Content("a", "x/y", len(content), kept.digest)
    file = await records.files.create(Owner(org.id), described, blob=kept.name)
    for bit in (0, 1, 5_000 * 8, len(content) * 8 - 1):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        await stored.change(records, file, bytes(changed))
        for size in (1_000, len(content), len(content) + 1):
            async with await blobs.find(kept.name, kept.digest) as blob:
                given = 0
                with pytest.raises(BlobDamaged):
                    while True:
                        given += len(await blob.read(given, size))
                assert given < len(content)
                assert await blob.read(100, 10)  # a part
