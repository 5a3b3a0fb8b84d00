"""One store per test, for every backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .support import BACKENDS, Backend, Store


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    return BACKENDS[request.param](request, tmp_path)


@pytest.fixture
def elsewhere(request: pytest.FixtureRequest, backend: Backend, tmp_path: Path) -> Backend:
    """A place of the same kind for another store."""
    directory = tmp_path / "elsewhere"
    directory.mkdir()
    return BACKENDS[request.node.callspec.params["backend"]](request, directory)


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[Store]:
    opened = await backend.open()
    yield opened
    await opened.close()
