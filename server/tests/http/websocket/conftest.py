"""The whole server in process, with real sockets and our protocol classes, under uvloop."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

# The test folders are no packages; the servers load their agents from here by name, too.
sys.path.insert(0, str(Path(__file__).parent))

from ws_echo import echoing
from ws_harness import Serve, Server, running
from ws_raw import Raw


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Starts servers, e.g. `await serve(quiet=0.2)` with limits of sockets, and stops them."""
    async with AsyncExitStack() as stack:
        count = 0

        async def start(**options: Any) -> Server:
            nonlocal count
            count += 1
            folder = tmp_path / f"data{count}"
            folder.mkdir()
            return await stack.enter_async_context(running(folder, **options))

        yield start


@pytest.fixture
async def server(serve: Serve) -> Server:
    return await serve()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Of an echo."""
    with echoing() as found:
        yield found


@pytest.fixture
def raw(port: int) -> Iterator[Raw]:
    """A connection to the echo."""
    with Raw(port) as connection:
        yield connection
