from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from resonantgenesis_server.agents.base import PastTurn
from resonantgenesis_server.agents.engines.python import load
from resonantgenesis_server.model.chunks import Step, ToolCall, ToolResult

EXAMPLE = Path(__file__).parents[3] / "examples" / "agent_20_lines"


@pytest.mark.anyio
async def test_the_example_agent_runs(
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    collect: Callable[..., Awaitable[list[Any]]],
) -> None:
    monkeypatch.chdir(EXAMPLE)
    # Another example has a module of this name.
    monkeypatch.delitem(sys.modules, "agent", raising=False)
    agent = load("agent:answer")
    chunks = await collect(agent, "to be or not to be", history=[PastTurn("a", "b", "success")])
    counts = {"to": 2, "be": 2, "or": 1, "not": 1}
    assert chunks[:4] == [
        Step("count"),
        ToolCall("count_words", {"text": "to be or not to be"}, "1"),
        ToolResult("count_words", counts, "1"),
        Step("count", "completed"),
    ]
    assert "".join(chunks[4:]) == "to: 2\nbe: 2\nor: 1\nThis is turn 2 of our conversation."
