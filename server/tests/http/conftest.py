"""The whole application over real records, asked in process."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

# The test folders are no packages (this one would hide the standard library's `http`).
sys.path.insert(0, str(Path(__file__).parent))

from http_harness import Serve, Service, open_service


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Starts services, e.g. `await serve(cors_origins=[…])`, and closes them."""
    opened: list[Service] = []

    async def start(**settings: object) -> Service:
        service = await open_service(tmp_path, **settings)  # type: ignore[arg-type]
        opened.append(service)
        return service

    yield start
    for service in opened:
        await service.close()


@pytest.fixture
async def service(serve: Serve) -> Service:
    return await serve()
