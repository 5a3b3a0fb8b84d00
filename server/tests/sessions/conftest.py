"""A node over a real log for every test, of each backend, and agents written here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .agents import Gate
from .rig import Rig


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["sqlite", "postgres"])
def log_url(request: pytest.FixtureRequest) -> str | None:
    """The database of the log; None: it is a file."""
    return str(request.getfixturevalue("postgres")) if request.param == "postgres" else None


@pytest.fixture
async def rig(tmp_path: Path, log_url: str | None) -> AsyncIterator[Rig]:
    made = Rig(tmp_path, log_url)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def gate(rig: Rig) -> Gate:
    """The agent `gate`: says what the test tells it to, when the test tells it to."""
    made = Gate()
    rig.agents["gate"] = made
    return made
