"""Records and log in real files."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

# The test folders are no packages.
sys.path.insert(0, str(Path(__file__).parent))

from usage_support import Stores


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> str | None:
    """The address of a database; None: files."""
    return None if request.param == "sqlite" else request.getfixturevalue("postgres")


@pytest.fixture
async def stores(tmp_path: Path, store: str | None) -> AsyncIterator[Stores]:
    opened = Stores(tmp_path, store=store)
    await opened.open()
    yield opened
    await opened.close()
