from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from resonantgenesis_server.agents.base import Agent, Turn
from resonantgenesis_server.model.chunks import AgentChunk

# What all suites share; see tests/conftest.py.
sys.path.insert(0, str(Path(__file__).parents[3] / "tests"))

from support.models import FakeProvider

MakeTurn = Callable[..., Turn]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def make_turn() -> MakeTurn:
    def make(goal: str = "a goal", **fields: Any) -> Turn:
        return Turn(**{"goal": goal, "session_id": "sess_1", "turn": 1, "agent_id": "a", **fields})

    return make


@pytest.fixture
def collect(make_turn: MakeTurn) -> Callable[..., Any]:
    """All chunks of one turn of an agent."""

    async def run(agent: Agent, goal: str = "a goal", **fields: Any) -> list[AgentChunk]:
        return [chunk async for chunk in agent.run(make_turn(goal, **fields))]

    return run


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current directory of its own, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """A provider of models, whose answers are cut at random bytes."""
    with FakeProvider(seed=7) as running:
        yield running
