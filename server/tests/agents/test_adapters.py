"""Agents of other libraries, with the libraries themselves."""

from __future__ import annotations

import importlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from resonantgenesis_server import adapters
from resonantgenesis_server.agent_api import (
    Ask,
    Keep,
    PastTurn,
    Step,
    ToolCall,
    ToolResult,
    Turn,
    Usage,
)
from resonantgenesis_server.agents.base import Answer
from resonantgenesis_server.agents.engines.python import PythonAgent
from support.models import Call, FakeProvider, Reply

pytestmark = pytest.mark.anyio

EXAMPLE = Path(__file__).parents[3] / "examples" / "pydantic_ai_agent"


class People:
    """Answer every question with the next of these decisions."""

    def __init__(self, *decisions: bool) -> None:
        self.asked: list[Ask] = []
        self._decisions = list(decisions)

    async def ask(self, ask: Ask) -> Answer:
        self.asked.append(ask)
        return Answer(ask.call_id, approved=self._decisions.pop(0), reason="too dear")

    def ask_from_thread(self, ask: Ask) -> Answer:
        raise NotImplementedError


@pytest.fixture
def desk(provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example's agent, on the provider of the tests."""
    monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("MODEL", "openai-chat:m")
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.delitem(sys.modules, "agent", raising=False)
    module = importlib.import_module("agent")
    monkeypatch.delitem(sys.modules, "agent")
    return PythonAgent("agent:answer", module.answer)


async def run(agent: PythonAgent, turn: Turn) -> list[Any]:
    return [chunk async for chunk in agent.run(turn)]


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk for chunk in chunks if isinstance(chunk, str))


async def test_text_from_a_generator(make_turn: Any) -> None:
    async def count(goal: str) -> AsyncIterator[str]:
        for word in goal.split():
            yield word

    assert await run(PythonAgent("m:a", adapters.text(count)), make_turn("a b")) == ["a", "b"]


async def test_tools_steps_history_and_usage(
    provider: FakeProvider, desk: PythonAgent, make_turn: Any
) -> None:
    call = Call("order_total", {"order": 4}, "call-1")
    provider.answer("m", Reply.saying("Let me see.", calls=[call]), Reply.saying("It is 40."))
    chunks = await run(desk, make_turn("How much?", history=[PastTurn("Hi", "Hello", "success")]))
    assert text_of(chunks) == "Let me see.It is 40."
    assert [chunk for chunk in chunks if not isinstance(chunk, str)] == [
        Step("model"),
        ToolCall("order_total", {"order": 4}, "call-1"),
        ToolResult("order_total", 40.0, "call-1"),
        Step("model", "completed"),
        Step("model"),
        Usage(22, 14),
        Step("model", "completed"),
    ]
    said = [message["content"] for message in provider.seen[0].body["messages"]]
    assert said[-3:] == ["Hi", "Hello", "How much?"]


@pytest.mark.parametrize("approved", [True, False])
async def test_a_call_that_needs_approval(
    provider: FakeProvider, desk: PythonAgent, make_turn: Any, approved: bool
) -> None:
    call = Call("refund", {"order": 4}, "call-1")
    provider.answer("m", Reply(calls=[call]), Reply.saying("So be it."))
    people = People(approved)
    chunks = await run(desk, make_turn("Refund", asks=people))
    assert [(ask.kind, ask.tool, ask.args) for ask in people.asked] == [
        ("approval", "refund", {"order": 4})
    ]
    assert len([chunk for chunk in chunks if isinstance(chunk, ToolCall)]) <= 1
    [result] = [chunk for chunk in chunks if isinstance(chunk, ToolResult)]
    assert result.is_error is not approved
    assert result.result == ("order 4 is paid back" if approved else "denied: too dear")
    assert text_of(chunks) == "So be it."
    # Another process goes on where this one waited: the model is not asked for the call again.
    [kept] = [chunk.value for chunk in chunks if isinstance(chunk, Keep)]
    provider.answer("m", Reply.saying("Still so."))
    again = await run(desk, make_turn("Refund", asks=People(approved), kept=kept))
    assert text_of(again) == "Still so."


@pytest.mark.parametrize(
    ("adapter", "library", "package"),
    [
        (adapters.langgraph, "langgraph", "langgraph"),
        (adapters.langchain, "langchain_core", "langchain-core"),
        (adapters.openai_agents, "agents", "openai-agents"),
        (adapters.pydantic_ai, "pydantic_ai", "pydantic-ai-slim"),
    ],
)
def test_a_missing_library_is_named(
    monkeypatch: pytest.MonkeyPatch, adapter: Any, library: str, package: str
) -> None:
    for name in [*sys.modules]:
        if name.startswith("resonantgenesis_server.adapters."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ModuleNotFoundError, match=rf"needs the package {package} \(pip install"):
        adapter(object())


def test_what_no_agent_is_is_refused() -> None:
    with pytest.raises(TypeError, match=r"takes a pydantic_ai\.Agent, not object"):
        adapters.pydantic_ai(object())
