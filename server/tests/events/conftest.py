"""Records and log in real files, and the whole server without its sockets."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

# The test folders are no packages.
sys.path.insert(0, str(Path(__file__).parent))

from outbox_support import Stores
from resonantgenesis_server.config.settings import Settings


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> str | None:
    """The address of a database; None: files."""
    return None if request.param == "sqlite" else request.getfixturevalue("postgres")


@pytest.fixture
async def stores(tmp_path: Path, store: str | None) -> AsyncIterator[Stores]:
    opened = await Stores.open(tmp_path, store)
    yield opened
    await opened.close()


@pytest.fixture
def settings(tmp_path: Path, store: str | None) -> Settings:
    secret = None if store is None else "5e" * 32
    return Settings(
        data=tmp_path,
        store=store,
        secret=secret,
        bootstrap_key="rg_test_outbox_key",
        words_per_second=0,
    )
