"""What servers of chat completions do otherwise than OpenAI's: one row of a table each."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import structlog
from resonantgenesis_server.agents.base import Turn
from resonantgenesis_server.agents.engines.llm.calls import ModelFailure, Reasoning
from resonantgenesis_server.agents.engines.llm.engine import LlmEngine
from resonantgenesis_server.agents.engines.llm.models import Models
from resonantgenesis_server.agents.engines.llm.openai_wire import ChatDecoder
from resonantgenesis_server.agents.engines.llm.settings import LlmSettings
from resonantgenesis_server.agents.tools.toolbox import Toolbox
from resonantgenesis_server.model.chunks import Step, ToolCall
from resonantgenesis_server.model.errors import AgentError

from .llm_agents import Echo, text_of
from .llm_quirks import Json, QuirkServer, packets, rows

pytestmark = pytest.mark.anyio


class Other(Echo):
    name = "other"


async def run_row(server: QuirkServer) -> tuple[list[Any], AgentError | None]:
    row = server.row
    provider = row.get("provider", "local")
    settings = {"retries": 0, "base_urls": {provider: f"{server.url}/v1"}} | row.get("settings", {})
    engine = LlmEngine(Models(LlmSettings(**settings)), Toolbox([Echo(), Other()]))
    agent = engine.build({"model": f"{provider}:m", "show_reasoning": True, "temperature": 0.5,
                          "max_output_tokens": 50})  # fmt: skip
    chunks: list[Any] = []
    try:
        async with asyncio.timeout(20):
            async for chunk in agent.run(Turn("do it", "sess_1", 1, "a")):
                chunks.append(chunk)
    except AgentError as error:
        return chunks, error
    finally:
        await engine.close()
    return chunks, None


@pytest.mark.parametrize("row", rows(), ids=lambda row: str(row["name"]))
async def test_a_quirk(row: Json) -> None:
    began = time.monotonic()
    with structlog.testing.capture_logs() as logs:
        async with QuirkServer(row).running() as server:
            chunks, error = await run_row(server)
    assert time.monotonic() - began < 10
    steps = [chunk for chunk in chunks if isinstance(chunk, Step)]
    thoughts = "".join(step.detail for step in steps if step.status == "progress")
    calls = [[chunk.tool, chunk.args] for chunk in chunks if isinstance(chunk, ToolCall)]
    ends = [step.finish_reason for step in steps if step.status == "completed"]
    wanted_calls = row.get("calls", [])
    assert server.faults == []
    assert (None if error is None else error.code) == row.get("error"), error
    assert calls == wanted_calls
    text = text_of(chunks)
    if wanted_calls and error is None:
        assert text.endswith("ok")
        text = text.removesuffix("ok")
        assert ends[-1] == "stop"
    if "text" in row:
        assert text == row["text"]
    if "thoughts" in row:
        assert thoughts == row["thoughts"]
    if error is None:
        assert ends[0] == row.get("finish", "tool_calls" if wanted_calls else "stop")
    if "says" in row:
        assert row["says"] in str(logs)
    if "requests" in row:
        assert len(server.bodies) == row["requests"]
    if "back" in row:
        [said] = [m for m in server.bodies[-1]["messages"] if m.get("tool_calls")]
        for name, value in row["back"].items():
            if name == "calls":
                for call, fields in zip(said["tool_calls"], value, strict=True):
                    assert {key: call.get(key) for key in fields} == fields
            else:
                assert said.get(name) == value


@pytest.mark.parametrize("row", rows(), ids=lambda row: str(row["name"]))
def test_a_quirk_cut_at_every_byte(row: Json) -> None:
    """What a server sends at once and byte by byte comes to the same."""
    raw = packets(row)
    assert decoded([raw[n : n + 1] for n in range(len(raw))]) == decoded([raw])


def decoded(parts: list[bytes]) -> tuple[str, str, list[Any]]:
    decoder = ChatDecoder(think=True)
    deltas: list[Any] = []
    try:
        for part in parts:
            deltas += decoder.feed(part)
        deltas += decoder.close()
    except ModelFailure as failure:
        deltas.append(failure.kind)
    text = "".join(delta for delta in deltas if isinstance(delta, str))
    thoughts = "".join(delta.text for delta in deltas if isinstance(delta, Reasoning))
    return text, thoughts, [d for d in deltas if not isinstance(d, str | Reasoning)]
