"""Blobs on disk and in S3-compatible storage, and the service over them and real records."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from resonantgenesis_server.files.base import Blobs
from resonantgenesis_server.files.disk import DiskBlobs
from resonantgenesis_server.files.s3 import S3Blobs, S3Place
from resonantgenesis_server.files.service import FileService
from resonantgenesis_server.records.base import Organization
from resonantgenesis_server.records.files import FileRecord
from resonantgenesis_server.records.store import Records
from support.s3 import Bucket, Storage

#: Bytes of a part in storage, so that little content is more than one.
PART = 64 * 1024


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Stored:
    """What the two stores hold, as seen from outside. Names of what was kept begin with `kept/`."""

    def __init__(self, root: Path | None, bucket: Bucket | None) -> None:
        self.root = root
        self.bucket = bucket

    async def open(self, shared: bool = False) -> Blobs:
        if self.bucket is not None:
            return await S3Blobs.open(self._place(self.bucket), part=PART)
        assert self.root is not None
        return await DiskBlobs.open(self.root, shared=shared)

    async def left(self) -> list[str]:
        """Everything, finished or not."""
        return await asyncio.to_thread(self._left)

    async def change(self, records: Records, file: FileRecord, content: bytes | None) -> None:
        """Put this in the place of the content of a file; None: remove it."""
        name = await records.files.blob_of(file.content.sha256)
        assert name is not None
        if self.root is not None:
            path = self.root / name[:2] / name
            path.unlink() if content is None else path.write_bytes(content)
            return
        assert self.bucket is not None
        key = f"some/prefix/up/{name}"
        if content is None:
            await asyncio.to_thread(self.bucket.remove, key)
        else:
            await asyncio.to_thread(self.bucket.write, key, content)

    def _left(self) -> list[str]:
        if self.root is not None:
            return left_in(self.root)
        assert self.bucket is not None
        return self.bucket.objects() + self.bucket.uploads()

    @staticmethod
    def _place(bucket: Bucket) -> S3Place:
        return S3Place.parse(bucket.address, bucket.endpoint)


@pytest.fixture(params=["disk", "s3"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Stored:
    """Of the test's own."""
    if request.param == "disk":
        return Stored(tmp_path / "files", None)
    storage: Storage = request.getfixturevalue("storage")
    return Stored(None, storage.bucket())


@pytest.fixture
async def blobs(stored: Stored) -> AsyncIterator[Blobs]:
    opened = await stored.open()
    yield opened
    await opened.close()


@pytest.fixture
async def records(tmp_path: Path) -> AsyncIterator[Records]:
    opened = await Records.open(f"sqlite:///{tmp_path / 'records.db'}")
    yield opened
    await opened.close()


@pytest.fixture
async def org(records: Records) -> Organization:
    return await records.organizations.create("first")


@pytest.fixture
def files(records: Records, blobs: Blobs) -> FileService:
    return FileService(records.files, blobs, limit=1_000_000)


@pytest.fixture
def impatient(records: Records, blobs: Blobs) -> FileService:
    """Takes what belongs to no file for left over at once."""
    return FileService(records.files, blobs, limit=1_000_000, abandoned=0)


def left_in(root: Path) -> list[str]:
    """Every file below, without the directories."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
