"""A node over a real SQLite file for every test, and agents written here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .agents import Gate
from .rig import Rig


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def gate(rig: Rig) -> Gate:
    """The agent `gate`: says what the test tells it to, when the test tells it to."""
    made = Gate()
    rig.agents["gate"] = made
    return made
