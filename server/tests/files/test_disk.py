"""Blobs on a real disk: whole or not at all, safe to read, nothing left of what was given up."""

from __future__ import annotations

import asyncio
import hashlib
import resource
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from resonantgenesis_server.files import disk
from resonantgenesis_server.files.base import BlobError, BlobsFull
from resonantgenesis_server.files.disk import DiskBlobs

from .conftest import left_in
from .test_blobs import Kept, put, read

pytestmark = pytest.mark.anyio


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
async def blobs(root: Path) -> AsyncIterator[DiskBlobs]:
    opened = await DiskBlobs.open(root)
    yield opened
    await opened.close()


async def test_it_lies_under_its_digest_for_its_owner_only(blobs: DiskBlobs, root: Path) -> None:
    kept = await put(blobs, b"content")
    assert kept.name.startswith(f"{kept.digest}.")
    assert left_in(root) == [f"{kept.digest[:2]}/{kept.name}"]
    path = root / kept.digest[:2] / kept.name
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_what_a_process_left_half_written_goes_at_the_next_start(root: Path) -> None:
    first = await DiskBlobs.open(root)
    kept = await put(first, b"kept")
    await (await first.begin()).write(b"half")
    assert len(left_in(root)) == 2
    second = await DiskBlobs.open(root)
    assert left_in(root) == [f"{kept.digest[:2]}/{kept.name}"]
    assert await read(second, kept) == b"kept"
    # It may be without a record, if that process died before it had written one.
    assert [batch async for batch in second.batches(3600)] == [[kept.name]]
    await second.close()
    await first.close()


async def test_nodes_that_share_a_directory_leave_each_others_uploads_alone(root: Path) -> None:
    first = await DiskBlobs.open(root, shared=True)
    writer = await first.begin()
    await writer.write(b"half")
    second = await DiskBlobs.open(root, shared=True)
    assert await second.clear(3600) == 0
    await writer.write(b" and half")
    await writer.finish()
    kept = Kept(await writer.keep(), await writer.finish())
    assert await read(second, kept) == b"half and half"
    assert [batch async for batch in second.batches(3600) if batch] == []
    # What nobody has written to for long was left by a node that died.
    await (await first.begin()).write(b"half")
    assert await second.clear(0) == 1
    assert left_in(root) == [f"{kept.digest[:2]}/{kept.name}"]
    await second.close()
    await first.close()


async def test_a_blob_of_an_older_version_has_its_digest_for_a_name(
    blobs: DiskBlobs, root: Path
) -> None:
    digest = hashlib.sha256(b"content").hexdigest()
    (root / digest[:2]).mkdir()
    (root / digest[:2] / digest).write_bytes(b"content")
    assert await read(blobs, Kept(digest, digest)) == b"content"
    assert await blobs.size(digest) == 7
    assert await blobs.remove([digest]) == 1


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
    kept = await put(blobs, b"content")
    assert await read(blobs, kept) == b"content"
    assert [batch async for batch in blobs.batches(0)]
    await blobs.remove([kept.name])
    watching = False
    assert seen == []


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
    digest = (await put(blobs, b"content")).digest
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
