"""What servers of chat completions do otherwise than OpenAI's: one row of a table each."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from resonantgenesis_server.agents.base import Turn
from resonantgenesis_server.agents.engines.llm.calls import (
    Finish,
    ModelCall,
    ModelFailure,
    UserMessage,
)
from resonantgenesis_server.agents.engines.llm.engine import LlmEngine
from resonantgenesis_server.agents.engines.llm.models import Models
from resonantgenesis_server.agents.engines.llm.openai import client
from resonantgenesis_server.agents.engines.llm.openai.decoder import ChatDecoder
from resonantgenesis_server.agents.engines.llm.openai.texts import mended
from resonantgenesis_server.agents.engines.llm.settings import LlmSettings
from resonantgenesis_server.agents.tools.toolbox import Toolbox
from resonantgenesis_server.model.chunks import Reasoning, Step, ToolCall
from resonantgenesis_server.model.errors import AgentError

from .llm_agents import Echo, Photo, text_of
from .llm_quirks import Json, QuirkServer, packets, rows

pytestmark = pytest.mark.anyio


class Other(Echo):
    name = "other"


async def run_row(server: QuirkServer) -> tuple[list[Any], AgentError | None]:
    row = server.row
    provider = row.get("provider", "local")
    given_settings = {"retries": 0, "base_urls": {provider: f"{server.url}/v1"}} | row.get(
        "settings", {}
    )
    engine = LlmEngine(Models(LlmSettings(**given_settings)), Toolbox([Echo(), Other(), Photo()]))
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
async def test_a_quirk(row: Json, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_USAGE_SECONDS", 0.5)  # many rows leave the connection open
    began = time.monotonic()
    with structlog.testing.capture_logs() as logs:
        async with QuirkServer(row).running() as server:
            chunks, error = await run_row(server)
    assert time.monotonic() - began < (10 if row.get("then") != "open" else 5)
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
    if "images" in row:
        parts = [str(body["messages"]).count("'type': 'image_url'") for body in server.bodies]
        assert parts == row["images"]
    if "back" in row:
        [said] = [m for m in server.bodies[-1]["messages"] if m.get("tool_calls")]
        for name, value in row["back"].items():
            if name == "calls":
                for call, fields in zip(said["tool_calls"], value, strict=True):
                    assert {key: call.get(key) for key in fields} == fields
            else:
                assert said.get(name) == value


@pytest.mark.parametrize(("last", "seconds"), [("DONE", 2), ({"usage": [3, 4]}, 2.5), ("", 5)])
async def test_how_long_an_open_connection_is_waited_for(last: Any, seconds: float) -> None:
    row = {"sends": [{"say": "all"}, {"finish": "stop"}, last], "then": "open"}
    async with QuirkServer(row).running() as server:
        began = time.monotonic()
        chunks, error = await run_row(server)
        assert error is None and text_of(chunks) == "all"
        assert time.monotonic() - began < seconds


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/v1/chat/completions"])
@pytest.mark.parametrize("provider", ["ollama", "local"])
async def test_the_address_of_a_server(
    monkeypatch: pytest.MonkeyPatch, provider: str, path: str
) -> None:
    async with QuirkServer({"sends": [{"say": "all"}, "DONE"]}).running() as server:
        if provider == "ollama":
            monkeypatch.setenv("OLLAMA_BASE_URL", f"{server.url}{path}")
            chosen = LlmSettings()
        else:
            chosen = LlmSettings(base_urls={"local": f"{server.url}{path}"})
        models = Models(chosen)
        _, asked = await models.find(f"{provider}:m")
        for _ in range(2):
            deltas = [d async for d in asked.stream(ModelCall("m", "", [UserMessage("hi")]))]
            assert isinstance(deltas[-1], Finish)
        await models.close()
        # Looked for once; then it is known.
        assert len(server.bodies) == (3 if provider == "local" and path in {"", "/"} else 2)


def test_addresses_of_ollama(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("http://h:1", "http://h:1/", "http://h:1/v1/", "h:1", "http://h:1/api"):
        monkeypatch.setenv("OLLAMA_BASE_URL", address)
        assert LlmSettings().chat_url("ollama") == "http://h:1/v1"
    monkeypatch.setenv("OLLAMA_BASE_URL", "https://proxy/ollama/v1")
    assert LlmSettings().chat_url("ollama") == "https://proxy/ollama/v1"


@pytest.mark.parametrize("row", rows(), ids=lambda row: str(row["name"]))
def test_a_quirk_cut_at_every_byte(row: Json) -> None:
    """What a server sends at once and byte by byte comes to the same."""
    raw = packets(row)
    assert decoded([raw[n : n + 1] for n in range(len(raw))]) == decoded([raw])


@settings(max_examples=200)
@given(st.sampled_from(rows()), st.integers(0, 2_000), st.integers(0, 9), st.data())
def test_what_is_broken_is_a_failure_and_no_crash(
    row: Json, place: int, cut: int, data: st.DataObject
) -> None:
    raw = packets(row)
    place %= len(raw) + 1
    put = data.draw(
        st.sampled_from([b"", b'"', b"{", b"}", b"\n", b"\r", b"1e999", b"null", b"\xff"])
    )
    text, thoughts, _ = decoded([raw[:place], put + raw[place + cut :]])
    assert mended(text + thoughts) == text + thoughts, "half a character came out"


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
    thoughts = "".join(delta.content for delta in deltas if isinstance(delta, Reasoning))
    return text, thoughts, [d for d in deltas if not isinstance(d, str | Reasoning)]
