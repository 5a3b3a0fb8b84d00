"""Blobs on a real disk: whole or not at all, safe to read, nothing left of what was given up."""

from __future__ import annotations

import asyncio
import hashlib
import resource
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resonantgenesis_server.files import disk
from resonantgenesis_server.files.base import BlobDamaged, BlobError, BlobGone, BlobsFull
from resonantgenesis_server.files.disk import DiskBlobs

from .conftest import left_in

pytestmark = pytest.mark.anyio


async def put(blobs: DiskBlobs, *pieces: bytes) -> str:
    writer = await blobs.begin()
    for piece in pieces:
        await writer.write(piece)
    digest = await writer.finish()
    await writer.keep()
    await writer.discard()
    return digest


async def read(blobs: DiskBlobs, digest: str) -> bytes:
    async with await blobs.find(digest) as blob:
        return await blob.read(0, blob.size)


@given(pieces=st.lists(st.binary(max_size=300), max_size=8), size=st.integers(1, 100))
@settings(max_examples=25, deadline=None)
def test_what_comes_out_is_what_went_in(pieces: list[bytes], size: int) -> None:
    async def there_and_back() -> None:
        with tempfile.TemporaryDirectory() as folder:
            blobs = await DiskBlobs.open(Path(folder) / "files")
            content = b"".join(pieces)
            digest = await put(blobs, *pieces)
            assert digest == hashlib.sha256(content).hexdigest()
            async with await blobs.find(digest) as blob:
                assert blob.size == len(content)
                parts = [await blob.read(at, size) for at in range(0, len(content), size)]
                assert await blob.read(len(content), size) == b""
            assert b"".join(parts) == content
            assert all(len(part) == size for part in parts[:-1])
            await blobs.close()

    asyncio.run(there_and_back())


async def test_it_lies_under_its_digest_for_its_owner_only(blobs: DiskBlobs, root: Path) -> None:
    digest = await put(blobs, b"content")
    assert left_in(root) == [f"{digest[:2]}/{digest}"]
    path = root / digest[:2] / digest
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_the_same_content_lies_once(blobs: DiskBlobs, root: Path) -> None:
    assert await put(blobs, b"con", b"tent") == await put(blobs, b"content")
    assert len(left_in(root)) == 1


async def test_nothing_can_be_opened_before_it_is_kept(blobs: DiskBlobs, root: Path) -> None:
    writer = await blobs.begin()
    await writer.write(b"content")
    digest = await writer.finish()
    with pytest.raises(BlobGone):
        await blobs.find(digest)
    assert [path.split("/")[0] for path in left_in(root)] == ["tmp"]
    await writer.discard()
    await writer.discard()
    assert left_in(root) == []
    with pytest.raises(ValueError, match="not open"):
        await writer.write(b"more")


async def test_what_a_process_left_half_written_goes_at_the_next_start(root: Path) -> None:
    first = await DiskBlobs.open(root)
    digest = await put(first, b"kept")
    await (await first.begin()).write(b"half")
    assert len(left_in(root)) == 2
    second = await DiskBlobs.open(root)
    assert left_in(root) == [f"{digest[:2]}/{digest}"]
    assert await read(second, digest) == b"kept"
    await second.close()
    await first.close()


async def test_who_reads_reads_to_the_end_though_it_is_removed(blobs: DiskBlobs) -> None:
    digest = await put(blobs, b"content")
    async with await blobs.find(digest) as blob:
        assert await blob.read(0, 3) == b"con"
        assert await blobs.remove([digest, "ab" * 32]) == 1
        assert await blob.read(3, 100) == b"tent"
    with pytest.raises(BlobGone):
        await blobs.find(digest)
    assert await blobs.remove([digest]) == 0


async def test_all_digests_and_nothing_else(blobs: DiskBlobs, root: Path) -> None:
    digests = [await put(blobs, bytes([number])) for number in range(20)]
    (root / digests[0][:2] / "README").write_text("not ours")
    found = [digest async for batch in blobs.batches() for digest in batch]
    assert sorted(found) == sorted(digests)


@pytest.mark.parametrize("digest", ["", "ab", "../" * 10, "AB" * 32, "ab" * 32 + "\n"])
async def test_what_is_no_digest_is_no_path(blobs: DiskBlobs, digest: str) -> None:
    with pytest.raises(ValueError, match="not a digest"):
        await blobs.find(digest)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The kernel refuses to make files larger than this, as it does on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_write_that_finds_no_room_is_told_and_leaves_nothing(
    blobs: DiskBlobs, root: Path
) -> None:
    writer = await blobs.begin()
    with largest_file(64 * 1024 * 1024):
        for _ in range(64):
            await writer.write(bytes(1024 * 1024))
        with pytest.raises(BlobsFull) as caught:
            await writer.write(b"one byte too many")
    assert "\n" not in str(caught.value)
    await writer.discard()
    assert left_in(root) == []
    assert await read(blobs, await put(blobs, b"there is room again")) == b"there is room again"


async def test_the_last_of_the_room_is_left_to_others(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = await DiskBlobs.open(root, reserve=1 << 60)
    with pytest.raises(BlobsFull):
        await blobs.begin()
    await blobs.close()
    blobs = await DiskBlobs.open(root)
    with pytest.raises(BlobsFull):
        await blobs.begin(1 << 60)
    # Also when the room goes while something is written.
    monkeypatch.setattr(disk, "SYNC_EVERY", 10)
    writer = await blobs.begin()
    await writer.write(b"123456789")
    monkeypatch.setattr(writer, "_target", replace(writer._target, reserve=1 << 60))
    with pytest.raises(BlobsFull):
        await writer.write(b"0")
    await writer.discard()
    assert left_in(root) == []
    await blobs.close()


async def test_a_writer_whose_caller_was_cancelled_leaves_nothing(
    blobs: DiskBlobs, root: Path
) -> None:
    """Whatever call of it was under way, in a thread that nobody can stop."""
    for number in range(30):

        async def write() -> None:
            writer = await blobs.begin()
            try:
                for _ in range(50):
                    await writer.write(bytes(100_000))
            finally:
                await writer.discard()

        task = asyncio.create_task(write())
        for _ in range(number):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await blobs.close()  # every thread has ended
    assert left_in(root) == []


async def test_what_cannot_be_used_says_so_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BlobError) as caught:
        await DiskBlobs.open(tmp_path / "file" / "files")
    assert "\n" not in str(caught.value) and str(tmp_path / "file") in str(caught.value)
    blobs = await DiskBlobs.open(tmp_path / "files")
    await blobs.close()
    with pytest.raises(BlobError, match="closed"):
        await blobs.begin()


#: Events of the interpreter's audit.
ON_DISK = {"open", "os.rename", "os.remove", "os.mkdir", "os.listdir", "os.scandir"}


async def test_the_event_loop_never_opens_a_file(blobs: DiskBlobs) -> None:
    """Nor writes, reads, renames or removes one: those wait for the disk."""
    seen: list[str] = []
    here = asyncio.get_running_loop()

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if not watching or event not in ON_DISK:
            return
        try:
            if asyncio.get_running_loop() is here:
                seen.append(f"{event} {arguments[0]!r}")
        except RuntimeError:
            return  # in a thread

    watching = True
    sys.addaudithook(watch)
    digest = await put(blobs, b"content")
    assert await read(blobs, digest) == b"content"
    assert [batch async for batch in blobs.batches()]
    await blobs.remove([digest])
    watching = False
    assert seen == []


async def test_what_the_disk_has_changed_is_not_given_out_as_whole(
    blobs: DiskBlobs, root: Path
) -> None:
    content = bytes(range(256)) * 40
    digest = await put(blobs, content)
    path = root / digest[:2] / digest
    for bit in (0, 1, 5_000 * 8, len(content) * 8 - 1):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        for size in (1_000, len(content), len(content) + 1):
            async with await blobs.find(digest) as blob:
                given = 0
                with pytest.raises(BlobDamaged):
                    while True:
                        given += len(await blob.read(given, size))
                assert given < len(content)
                assert await blob.read(100, 10)  # a part
    await put(blobs, content)  # who uploads it again mends it
    assert await read(blobs, digest) == content


async def test_a_folder_is_synced_until_that_succeeds(
    blobs: DiskBlobs, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it can be seen does not say that it will be there after the power was lost."""
    synced: list[Path] = []
    fails = 2
    sync = disk.sync_directory

    def flaky(path: Path) -> None:
        if path == root and len(synced) < fails:
            synced.append(path)
            raise OSError(5, "Input/output error", str(path))
        synced.append(path)
        sync(path)

    monkeypatch.setattr(disk, "sync_directory", flaky)
    for _ in range(fails):
        with pytest.raises(BlobError):
            await put(blobs, b"content")
    digest = await put(blobs, b"content")
    assert synced[fails:] == [root, root / digest[:2]]
    await put(blobs, b"content")
    assert synced[fails + 2 :] == [root / digest[:2]]
    # The process before this one may have died in between.
    again = await DiskBlobs.open(root)
    synced.clear()
    monkeypatch.setattr(disk, "sync_directory", synced.append)
    await put(again, b"content")
    assert synced == [root, root / digest[:2]]
    await again.close()
