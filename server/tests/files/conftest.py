"""Blobs in a directory of the test's own, and the service over them and real records."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from resonantgenesis_server.files.disk import DiskBlobs
from resonantgenesis_server.files.service import FileService
from resonantgenesis_server.records.base import Organization
from resonantgenesis_server.records.store import Records


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
async def blobs(root: Path) -> AsyncIterator[DiskBlobs]:
    opened = await DiskBlobs.open(root)
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
def files(records: Records, blobs: DiskBlobs) -> FileService:
    return FileService(records.files, blobs, limit=1_000_000)


def left_in(root: Path) -> list[str]:
    """Every file below, without the directories."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
