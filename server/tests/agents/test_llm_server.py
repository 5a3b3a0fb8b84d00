"""Agents on models as users have them: made through the API, run by a server of its own process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.models import Call, FakeProvider, Reply
from support.server import ServerProcess
from support.wire import execute, reached, read_all, streaming

pytestmark = pytest.mark.anyio
KEY = "sk-the-key-of-the-provider"
Json = dict[str, Any]


@pytest.fixture(scope="module")
def models() -> Iterator[FakeProvider]:
    with FakeProvider(seed=3, key=KEY) as running:
        yield running


@pytest.fixture(scope="module")
def server(
    models: FakeProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    urls = {
        "local": models.url,
        "anthropic": models.url.removesuffix("/v1"),
        "wrong": models.url,
        "openai": "https://api.openai.com/v1",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OPENAI_API_KEY", raising=False)
        yield from _serve(urls, tmp_path_factory.mktemp("llm") / "data")


def _serve(urls: dict[str, str], data: Path) -> Iterator[ServerProcess]:
    running = ServerProcess(
        data,
        llm__base_urls=json.dumps(urls),
        llm__api_keys=json.dumps({"local": KEY, "anthropic": KEY, "wrong": "sk-not-this"}),
        llm__retry_delay=0.001,
        llm__history_chars=40,
    )
    yield running.start()
    running.stop()
    assert KEY not in running.log and "sk-not-this" not in running.log
    assert running.errors() == []


@pytest.fixture
async def client(server: ServerProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with server.client() as opened:
        yield opened


async def make_agent(client: httpx.AsyncClient, model: str, **fields: Any) -> str:
    body = {"name": "A", "engine": "llm", "model": model, **fields}
    made = await client.post("/v1/agents", json=body)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


async def run(client: httpx.AsyncClient, agent: str, goal: str = "hi", **body: Any) -> list[Json]:
    """The chunks of a turn, as a stream brings them."""
    asked = {"agent_id": agent, "goal": goal, "stream": True, **body}
    async with (
        asyncio.timeout(30),
        streaming(client, "POST", "/v1/sessions/execute", json=asked) as (response, frames),
    ):
        assert response.status_code == 200, response.text
        return [frame.body async for frame in frames]


def bare(chunk: Json) -> Json:
    return {k: v for k, v in chunk.items() if k not in {"position", "duration_ms"}}


@pytest.mark.parametrize("provider", ["local", "anthropic"])
async def test_a_turn_over_the_wire(
    models: FakeProvider, client: httpx.AsyncClient, provider: str
) -> None:
    agent = await make_agent(
        client, f"{provider}:m1", instructions="Be exact.", tools=["calculator"]
    )
    call = Call("calculator", {"expression": "6*7"})
    models.answer("m1", Reply.saying("Let me see.", calls=[call]), Reply.saying("It is 42."))
    chunks = await run(client, agent, "What is 6*7?", context={"user_name": "Alice"})
    assert [chunk["position"] for chunk in chunks] == list(range(1, len(chunks) + 1))
    rest = [bare(chunk) for chunk in chunks if chunk["type"] != "text"]
    assert rest == [
        rest[0] | {"type": "step", "step": 1, "name": "model", "status": "started"},
        {
            "type": "tool_call",
            "tool": "calculator",
            "args": {"expression": "6*7"},
            "call_id": "call_1_1",
        },
        {
            "type": "tool_result",
            "tool": "calculator",
            "result": {"expression": "6*7", "result": 42},
            "call_id": "call_1_1",
            "is_error": False,
        },
        {
            "type": "step",
            "step": 1,
            "name": "model",
            "status": "completed",
            "finish_reason": "tool_calls",
        },
        {"type": "step", "step": 2, "name": "model", "status": "started"},
        {
            "type": "step",
            "step": 2,
            "name": "model",
            "status": "completed",
            "finish_reason": "stop",
        },
        rest[6],
    ]
    done = rest[6]
    assert (done["status"], done["output"]) == ("success", "Let me see.It is 42.")
    usage = done["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["steps"]) == (22, 14, 2)
    said = str(models.asked("m1")[-2].body)
    assert "Be exact." in said and '{"user_name":"Alice"}' in said
    assert "docs_search" not in said  # only the tools that the agent names


async def test_a_conversation_remembers_as_much_as_its_budget(
    models: FakeProvider, client: httpx.AsyncClient
) -> None:
    models.answer("m2", Reply.saying("I am a model."))
    agent = await make_agent(client, "local:m2")
    chunks = await run(client, agent, "Who are you?", context="It is spring.")
    session = chunks[0]["session_id"]
    await run(client, agent, "Are you sure?", session_id=session)
    chunks = await run(client, agent, "Really?", session_id=session)
    first, second, third = (seen.body["messages"] for seen in models.asked("m2"))
    assert first == [
        {"role": "system", "content": "Context of this conversation:\nIt is spring."},
        {"role": "user", "content": "Who are you?"},
    ]
    assert second == [
        *first,
        {"role": "assistant", "content": "I am a model."},
        {"role": "user", "content": "Are you sure?"},
    ]
    assert [message["content"] for message in third[1:]] == [
        "Are you sure?",
        "I am a model.",
        "Really?",
    ]
    assert chunks[0]["detail"].startswith("the oldest turn is left out: ")
    assert "history_chars" in chunks[0]["detail"]


@pytest.mark.parametrize("provider", ["local", "anthropic"])
@pytest.mark.parametrize("how", ["cancelled", "timeout"])
async def test_the_end_of_a_turn_closes_the_providers_stream_and_keeps_what_was_said(
    models: FakeProvider, client: httpx.AsyncClient, provider: str, how: str
) -> None:
    model = f"stalls-{provider}-{how}"
    models.answer(model, Reply.saying("one two three", break_at=4, break_how="stall"))
    agent = await make_agent(client, f"{provider}:{model}")
    seconds = 0.5 if how == "timeout" else 60.0
    turn = await execute(client, agent_id=agent, goal="go", timeout_seconds=seconds)
    session = turn["session_id"]
    await reached(client, session, 2)
    if how == "cancelled":
        await client.post(f"/v1/sessions/{session}/cancel", json={})
    chunks = [frame.body for frame in await read_all(client, session)]
    assert chunks[-1]["status"] == how
    assert chunks[-1]["output"].startswith("one ")
    assert chunks[-1]["usage"]["output_tokens"] > 0
    assert await asyncio.to_thread(models.asked(model)[0].wait_left)


@pytest.mark.parametrize(
    ("model", "reply", "code", "says", "retry_after"),
    [
        ("local", Reply.refusing(429, "r", "x", retry_after="7"), "RATE_LIMITED", "in 7 s", 7),
        ("local", Reply.refusing(529, "o", "x"), "MODEL_UNAVAILABLE", "does not answer", None),
        ("local", Reply.saying("a b", break_at=1, break_how="cut"), "MODEL_UNAVAILABLE", "", None),
        (
            "local",
            Reply.refusing(400, "x", "too long", code="context_length_exceeded"),
            "AGENT_FAILED",
            "the conversation is too long for local:",
            None,
        ),
        (
            "wrong",
            Reply(),
            "AGENT_FAILED",
            "wrong refused the server's key: check WRONG_API_KEY or llm.api_keys.wrong",
            None,
        ),
    ],
)
async def test_what_clients_see_of_a_failure(
    models: FakeProvider,
    client: httpx.AsyncClient,
    model: str,
    reply: Reply,
    code: str,
    says: str,
    retry_after: float | None,
) -> None:
    name = f"fails-{code}-{reply.status}-{len(models.seen)}"
    models.answer(name, reply)
    chunks = await run(client, await make_agent(client, f"{model}:{name}"))
    error, done = chunks[-2:]
    assert (error["type"], error["code"], done["status"]) == ("error", code, "failed")
    assert says in error["message"]
    assert error.get("retry_after") == retry_after
    assert error["retryable"] == (code != "AGENT_FAILED")
    assert "sk-" not in json.dumps(chunks)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (None, "is missing"),
        ("gpt", "'gpt' is not PROVIDER:MODEL"),
        ("openai:gpt", "no key for openai: set OPENAI_API_KEY"),
        ("cohere:x", "cohere needs a library"),
        ("groq:x", "no key for groq: set GROQ_API_KEY"),
        ("nobody:x", "there is no provider 'nobody'"),
    ],
)
async def test_an_agent_whose_model_cannot_be_asked_is_refused(
    client: httpx.AsyncClient, model: str | None, says: str
) -> None:
    body = {"name": "A", "engine": "llm", "model": model}
    refused = await client.post("/v1/agents", json=body)
    assert refused.status_code == 422
    assert says in refused.json()["error"]["details"]["fields"]["model"]
    agent = await make_agent(client, "local:m")
    changed = await client.patch(f"/v1/agents/{agent}", json={"model": model})
    assert changed.status_code == 422
    if model is not None:
        chunks = await run(client, agent, model=model)
        assert (chunks[-2]["code"], says in chunks[-2]["message"]) == ("AGENT_FAILED", True)


async def test_a_request_may_name_another_model_and_fewer_tools(
    models: FakeProvider, client: httpx.AsyncClient
) -> None:
    models.answer("m3", Reply.saying("x"))
    agent = await make_agent(client, "local:other", defaults={"temperature": 0.5, "max_steps": 3})
    await run(client, agent, model="local:m3", tools=["current_time"])
    [seen] = models.asked("m3")
    assert [tool["function"]["name"] for tool in seen.body["tools"]] == ["current_time"]
    assert seen.body["temperature"] == 0.5


async def test_reasoning_is_shown_where_the_agent_says_so(
    models: FakeProvider, client: httpx.AsyncClient
) -> None:
    models.answer("m4", Reply.saying("So.", reasoning=["It must", " be so."]))
    defaults = {"show_reasoning": True, "reasoning_effort": "low"}
    chunks = await run(client, await make_agent(client, "local:m4", defaults=defaults))
    progress = [bare(chunk) for chunk in chunks if chunk.get("status") == "progress"]
    assert progress == [
        {
            "type": "step",
            "step": 1,
            "name": "model",
            "status": "progress",
            "detail": "It must be so.",
        }
    ]
    assert models.asked("m4")[0].body["reasoning_effort"] == "low"
    hidden = await run(client, await make_agent(client, "local:m4"))
    assert "It must" not in json.dumps(hidden)


async def test_the_providers_own_words_are_in_the_log_only(
    models: FakeProvider, client: httpx.AsyncClient, server: ServerProcess
) -> None:
    models.answer("m5", Reply.refusing(400, "invalid", "tool schema of org-77 is bad"))
    chunks = await run(client, await make_agent(client, "local:m5"))
    assert "org-77" not in json.dumps(chunks)
    (line,) = server.logged("model call failed", session=chunks[0]["session_id"])
    assert "org-77" in line["said"]
