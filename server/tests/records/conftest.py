"""A real SQLite file and a real PostgreSQL database per test, and a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from resonantgenesis_server.records.base import Organization
from resonantgenesis_server.records.store import Records


class Clock:
    def __init__(self) -> None:
        self.now = 1_770_000_000.25

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'records.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """A new store on each backend."""
    name = "sqlite_url" if request.param == "sqlite" else "postgres"
    return str(request.getfixturevalue(name))


@pytest.fixture
async def records(url: str, clock: Clock) -> AsyncIterator[Records]:
    opened = await Records.open(url, clock=clock)
    yield opened
    await opened.close()


@pytest.fixture
async def org(records: Records) -> Organization:
    return await records.organizations.create("first")


@pytest.fixture
async def other(records: Records, org: Organization, clock: Clock) -> Organization:
    clock.now += 1
    return await records.organizations.create("second")
