"""A database, and where needed a PostgreSQL, of its own for every test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from resonantgenesis_server.log.postgres.log import PostgresLog
from support.postgres import PostgresServer

from .proxy import Proxy


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def log(postgres: str) -> AsyncIterator[PostgresLog]:
    opened = await PostgresLog.open(postgres)
    yield opened
    await opened.close()


@pytest.fixture
def own_server(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """One to be killed, which writes to the disk what it says it has written."""
    server = PostgresServer({})
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
async def proxy(postgres_server: PostgresServer, tmp_path: Path) -> AsyncIterator[Proxy]:
    """The way to the shared server, which can be cut."""
    async with Proxy(postgres_server.folder).running() as running:
        yield running
