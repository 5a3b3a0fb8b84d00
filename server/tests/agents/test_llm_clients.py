"""Both ways to a provider, over real HTTP: the lean one and pydantic-ai's."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest
from pydantic_ai.exceptions import UserError
from pydantic_ai.providers import infer_provider_class
from resonantgenesis_server.agents.engines.llm.calls import (
    AssistantMessage,
    CallRequest,
    Delta,
    Finish,
    ModelCall,
    ModelFailure,
    Sampling,
    ToolMessage,
    ToolSpec,
    UserMessage,
)
from resonantgenesis_server.agents.engines.llm.models import Models
from resonantgenesis_server.agents.engines.llm.openai import client as openai_client
from resonantgenesis_server.agents.engines.llm.settings import LlmSettings, ModelName
from resonantgenesis_server.model.chunks import Reasoning, Source
from resonantgenesis_server.model.errors import AgentError
from support.models import Call, FakeProvider, Reply

pytestmark = pytest.mark.anyio
LOOPS = [("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True})]
KEY = "sk-a-secret-of-the-server"
MakeModels = Callable[..., Models]


@pytest.fixture
async def make_models(provider: FakeProvider) -> AsyncIterator[MakeModels]:
    made: list[Models] = []

    def make(**fields: Any) -> Models:
        urls = {"local": provider.url, "anthropic": provider.url.removesuffix("/v1")}
        keys = {"local": KEY, "anthropic": KEY}
        models = Models(LlmSettings(**{"base_urls": urls, "api_keys": keys, **fields}))
        made.append(models)
        return models

    yield make
    for models in made:
        await models.close()


@pytest.fixture(params=["local", "anthropic"])
def through(request: pytest.FixtureRequest) -> str:
    """The provider's name: `local` is asked by the lean client, `anthropic` by pydantic-ai."""
    return str(request.param)


def question(text: str = "hi", **fields: Any) -> ModelCall:
    return ModelCall(**{"model": "m", "system": "", "messages": [UserMessage(text)], **fields})


async def ask(models: Models, through: str, call: ModelCall | None = None) -> list[Delta]:
    _, client = await models.find(f"{through}:m")
    return [delta async for delta in client.stream(call or question())]


async def test_an_answer(provider: FakeProvider, make_models: MakeModels, through: str) -> None:
    provider.answer("m", Reply.saying("Grüße, 世界 😀!", reasoning=["let me ", "think"]))
    deltas = await ask(make_models(), through)
    assert "".join(d for d in deltas if isinstance(d, str)) == "Grüße, 世界 😀!"
    assert "".join(d.content for d in deltas if isinstance(d, Reasoning)) == "let me think"
    end = deltas[-1]
    assert isinstance(end, Finish)
    assert (end.reason, end.input_tokens, end.output_tokens) == ("stop", 11, 7)
    [seen] = provider.seen
    assert KEY in {seen.headers.get("x-api-key"), seen.headers.get("authorization", "")[7:]}


async def test_sources(provider: FakeProvider, make_models: MakeModels, through: str) -> None:
    urls = ["https://a.example", "https://b.example", "https://a.example"]
    provider.answer("m", Reply.saying("So.", sources=urls))
    deltas = await ask(make_models(), through)
    assert [delta for delta in deltas if isinstance(delta, Source)] == [
        Source("https://a.example", "a title"),
        Source("https://b.example", "a title"),
    ]


async def test_parallel_calls_and_what_is_sent_back(
    provider: FakeProvider, make_models: MakeModels, through: str
) -> None:
    called = [Call("sum", {"of": [n]}, f"call-{n}") for n in (1, 2)]
    provider.answer("m", Reply.saying("One moment.", calls=called, reasoning=["h"]), Reply())
    models = make_models()
    tool = ToolSpec("sum", "adds", {"type": "object", "properties": {"of": {"type": "array"}}})
    call = question(system="be kind", tools=[tool], sampling=Sampling(0.5, 99))
    deltas = await ask(models, through, call)
    requests = [d for d in deltas if isinstance(d, CallRequest)]
    assert [(r.call_id, r.tool) for r in requests] == [("call-1", "sum"), ("call-2", "sum")]
    end = deltas[-1]
    assert isinstance(end, Finish) and end.reason == "tool_calls"
    call.messages += [
        AssistantMessage("One moment.", requests, end.native),
        ToolMessage("call-1", "sum", "1"),
        ToolMessage("call-2", "sum", "Error: no", True),
    ]
    await ask(models, through, call)
    first, second = (seen.body for seen in provider.seen)
    assert (first["temperature"], first["max_tokens"]) == (0.5, 99)
    assert "be kind" in str(first)
    said = str(second["messages"])
    # What only this provider understands goes back to it unchanged.
    assert ("c2lnbmVk" in said) == (through == "anthropic")
    for part in ("One moment.", "call-1", "call-2", "Error: no"):
        assert part in said


@pytest.mark.parametrize(
    ("reply", "kind", "retry_after"),
    [
        (
            Reply.refusing(429, "rate_limit_error", "slow down", retry_after="7"),
            "rate_limited",
            7.0,
        ),
        (Reply.refusing(401, "authentication_error", "bad key"), "key", None),
        (Reply.refusing(529, "overloaded_error", "Overloaded"), "unavailable", None),
        (Reply.refusing(503, "api_error", "later", retry_after="2"), "unavailable", 2.0),
        (Reply.refusing(404, "not_found_error", "model: m"), "model", None),
        (Reply.refusing(400, "invalid_request_error", "bad schema"), "refused", None),
        (
            Reply.refusing(
                400,
                "invalid_request_error",
                "prompt is too long: 210000 tokens > 200000 maximum",
                code="context_length_exceeded",
            ),
            "context",
            None,
        ),
        (
            Reply.refusing(413, "request_too_large", "Request exceeds the maximum size"),
            "context",
            None,
        ),
        (
            Reply.refusing(
                400, "invalid_request_error", "Your credit balance is too low to go on."
            ),
            "quota",
            None,
        ),
        (Reply.refusing(400, "invalid_request_error", "API key not valid."), "key", None),
        (
            Reply.refusing(400, "invalid_request_error", "Input is too long for requested model."),
            "context",
            None,
        ),
        (Reply.refusing(403, "permission_error", "Your team has no credits left"), "quota", None),
        (Reply.saying("a b c", break_at=2, break_how="cut"), "unavailable", None),
        (
            Reply.saying("a b c", break_at=2, error=("overloaded_error", "", "Overloaded")),
            "unavailable",
            None,
        ),
        (Reply.saying("a b c", break_at=2, break_how="short"), "unavailable", None),
    ],
)
async def test_failures(
    provider: FakeProvider,
    make_models: MakeModels,
    through: str,
    reply: Reply,
    kind: str,
    retry_after: float | None,
) -> None:
    provider.answer("m", reply)
    with pytest.raises(ModelFailure) as failed:
        await ask(make_models(), through)
    assert (failed.value.kind, failed.value.retry_after) == (kind, retry_after)
    assert KEY not in failed.value.said
    assert len(provider.seen) == 1, "a client tries nothing twice"


async def test_a_key_that_the_provider_repeats_is_not_told(
    provider: FakeProvider, make_models: MakeModels, through: str
) -> None:
    provider.answer("m", Reply.refusing(400, "invalid_request_error", f"bad: {KEY}!"))
    with pytest.raises(ModelFailure) as failed:
        await ask(make_models(), through)
    assert "bad: …!" in failed.value.said
    assert KEY not in str(failed.value)


async def test_a_provider_that_falls_silent(
    provider: FakeProvider, make_models: MakeModels, through: str
) -> None:
    provider.answer("m", Reply.saying("a b c", break_at=2, break_how="stall"))
    with pytest.raises(ModelFailure) as failed:
        await ask(make_models(idle_seconds=0.3), through)
    assert failed.value.kind == "unavailable"
    assert await asyncio.to_thread(provider.seen[0].wait_left)


@pytest.mark.parametrize("anyio_backend", LOOPS, ids=["asyncio", "uvloop"])
async def test_usage_that_came_while_the_loop_was_held_up_counts(
    make_models: MakeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_client, "_USAGE_SECONDS", 0.05)
    deltas: list[Delta] = []
    said = asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        _, client = await make_models(base_urls={"local": url}).find("local:m")

        async def read() -> None:
            async for delta in client.stream(question()):
                deltas.append(delta)
                said.set()

        reading = asyncio.create_task(read())
        connection, _ = await asyncio.get_running_loop().sock_accept(listener)
        with connection:
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
            end = b'{"choices": [{"delta": {"content": "all"}, "finish_reason": "stop"}]}'
            connection.sendall(head + b"data: " + end + b"\n\n")
            await said.wait()
            # The client waits for the usage. It comes at once, and the loop hears of it too late.
            usage = b'{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}'
            connection.sendall(b"data: " + usage + b"\n\ndata: [DONE]\n\n")
            time.sleep(0.1)
            await reading
    assert deltas == ["all", Finish("stop", 3, 4)]


async def test_no_provider_there(make_models: MakeModels, through: str) -> None:
    models = make_models(base_urls={through: "http://127.0.0.1:1"})
    with pytest.raises(ModelFailure) as failed:
        await ask(models, through)
    assert failed.value.kind == "unavailable"


@pytest.mark.parametrize("how", ["cancel", "close"])
async def test_who_goes_away_closes_the_providers_stream(
    provider: FakeProvider, make_models: MakeModels, through: str, how: str
) -> None:
    provider.answer("m", Reply.saying("a b c d", break_at=3, break_how="stall"))
    _, client = await make_models().find(f"{through}:m")
    begun = asyncio.Event()

    async def read() -> None:
        async with aclosing(client.stream(question())) as deltas:
            async for _ in deltas:
                begun.set()
                if how == "close":
                    return

    reading = asyncio.create_task(read())
    async with asyncio.timeout(10):
        await begun.wait()
        if how == "cancel":
            reading.cancel()
        await asyncio.wait({reading})
    assert reading.cancelled() == (how == "cancel")
    assert await asyncio.to_thread(provider.seen[0].wait_left)


async def test_a_connection_is_used_again(
    provider: FakeProvider, make_models: MakeModels, through: str
) -> None:
    provider.answer("m", Reply.saying("a b c"))
    models = make_models()
    for _ in range(4):
        await ask(models, through)
    assert provider.connections == 1


async def test_what_is_no_stream_is_unreadable_and_redirects_are_not_followed(
    provider: FakeProvider, make_models: MakeModels
) -> None:
    models = make_models(base_urls={"local": f"{provider.url}/nowhere"})
    with pytest.raises(ModelFailure) as failed:
        await ask(models, "local")
    assert failed.value.kind == "model"
    elsewhere = Reply.refusing(307, "", "", location=f"{provider.url}/chat/completions")
    provider.answer("m", elsewhere, Reply.saying("never"))
    with pytest.raises(ModelFailure) as failed:
        await ask(make_models(), "local")
    assert failed.value.kind == "refused"
    assert [seen.path for seen in provider.seen[1:]] == ["/v1/chat/completions"]


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (None, "model is missing; e.g. openai:"),
        ("gpt-5", "'gpt-5' is not PROVIDER:MODEL"),
        (":x", "is not PROVIDER:MODEL"),
        ("openai:gpt-5", "no key for openai: set OPENAI_API_KEY or llm.api_keys.openai"),
        ("openai-responses:gpt-5", "openai-responses is not set up: set OPENAI_API_KEY or"),
        ("anthropic:claude", "anthropic is not set up: set ANTHROPIC_API_KEY or"),
        ("deepseek:chat", "no key for deepseek: set DEEPSEEK_API_KEY or llm.api_keys.deepseek"),
        ("cohere:c", "cohere needs a library: pip install 'pydantic-ai-slim[cohere]'"),
        ("nobody:m", "there is no provider 'nobody'; llm.base_urls.nobody would make it"),
    ],
)
async def test_a_model_that_cannot_be_asked_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, model: str | None, says: str
) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "DEEPSEEK_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    models = Models(LlmSettings())
    with pytest.raises(AgentError) as refused:
        await models.find(model)
    assert says in refused.value.message
    assert refused.value.code == "AGENT_FAILED"
    await models.close()


@pytest.mark.parametrize("model", ["ollama:m", "openai:m", "anthropic:m"])
async def test_without_the_extra_it_says_how_to_install_it_before_it_asks_for_a_key(
    monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(AgentError, match=r"pip install 'resonantgenesis-server\[llm\]'"):
        await Models(LlmSettings()).find(model)


async def test_keys_and_addresses_come_from_the_customary_variables(
    monkeypatch: pytest.MonkeyPatch, provider: FakeProvider
) -> None:
    provider.answer("m", Reply.saying("x"))
    monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OLLAMA_BASE_URL", provider.url)
    models = Models(LlmSettings())
    for name in ("openai", "ollama"):
        assert await ask(models, name, question(sampling=Sampling(None, 5)))
    openai, ollama = provider.seen
    assert openai.headers["authorization"] == f"Bearer {KEY}"
    assert openai.body["max_completion_tokens"] == 5
    assert "authorization" not in ollama.headers
    assert ollama.body["max_tokens"] == 5
    await models.close()


#: Providers with a library of pydantic-ai's own that are asked by the lean client all the same.
LEAN = (
    *("deepseek", "fireworks", "moonshotai", "nebius", "openrouter", "ovhcloud", "sambanova"),
    "together",
)


@pytest.mark.parametrize("name", LEAN)
async def test_providers_of_chat_completions_are_where_pydantic_ai_has_them(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    theirs = infer_provider_class(name)
    for variable in ("MOONSHOTAI_BASE_URL", "SAMBANOVA_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    chosen = LlmSettings()
    assert chosen.chat_url(name) == theirs(api_key="k").base_url.rstrip("/")
    variable = ModelName(name, "m").key_variable
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(UserError, match=variable):
        theirs()
    models = Models(chosen)
    with pytest.raises(AgentError, match=f"no key for {name}: set {variable} or"):
        await models.find(f"{name}:m")
    await models.close()


async def test_addresses_and_headers_of_their_variables(
    monkeypatch: pytest.MonkeyPatch, provider: FakeProvider
) -> None:
    provider.answer("m", Reply.saying("<think>hm</think>So."))
    monkeypatch.delenv("VLLM_BASE_URL", raising=False)
    models = Models(LlmSettings())
    with pytest.raises(AgentError, match="vllm is not set up: set VLLM_BASE_URL or"):
        await models.find("vllm:m")
    monkeypatch.setenv("GROQ_BASE_URL", "https://proxy/")
    assert LlmSettings().chat_url("groq") == "https://proxy/openai/v1"
    for name in ("moonshotai", "sambanova", "vllm"):
        monkeypatch.setenv(f"{name.upper()}_BASE_URL", provider.url)
        monkeypatch.setenv(f"{name.upper()}_API_KEY", KEY)
        deltas = await ask(models, name)
        assert "".join(delta for delta in deltas if isinstance(delta, str)) == "So."
        assert provider.seen[-1].headers["authorization"] == f"Bearer {KEY}"
    monkeypatch.setenv("OPENROUTER_APP_URL", "https://app.example")
    monkeypatch.setenv("OPENROUTER_APP_TITLE", " An\r\napp ")
    here = Models(LlmSettings(base_urls={"openrouter": provider.url}))
    await ask(here, "openrouter")
    headers = provider.seen[-1].headers
    assert (headers["http-referer"], headers["x-title"]) == ("https://app.example", "An app")
    await models.close()
    await here.close()
