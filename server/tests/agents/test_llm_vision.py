"""Images that tools give: which models are shown them, and what becomes of refusals."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from resonantgenesis_server.agents.base import Turn
from resonantgenesis_server.agents.engines.llm.calls import (
    Message,
    ModelCall,
    ModelFailure,
    ToolMessage,
    UserMessage,
)
from resonantgenesis_server.agents.engines.llm.settings import LlmSettings, ModelName, parse_model
from resonantgenesis_server.agents.engines.llm.vision import Sight
from resonantgenesis_server.agents.tools.images import MAX_IMAGE, Image, read_image
from resonantgenesis_server.model.chunks import ToolResult
from support.models import Call, FakeProvider, Reply

from .llm_agents import PNG, Photo, Talk, text_of

pytestmark = pytest.mark.anyio
MakeTurn = Callable[..., Turn]
MakeTalk = Callable[..., Talk]
SEEING = {"vision": ["local:*", "anthropic:*"]}
BOTH = pytest.mark.parametrize("model", ["local:m", "anthropic:m"])


@pytest.fixture
async def make_talk(provider: FakeProvider) -> AsyncIterator[MakeTalk]:
    made: list[Talk] = []

    def make(**settings: Any) -> Talk:
        made.append(Talk(provider, Photo(), **settings))
        return made[-1]

    yield make
    for talk in made:
        await talk.engine.close()


def images_in(body: dict[str, Any]) -> list[str]:
    """The images of a request as base64, in either protocol."""
    parts = [
        part
        for message in body["messages"]
        if isinstance(message["content"], list)
        for part in message["content"]
    ]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    own = [part["source"] for part in parts if part["type"] == "image"]
    assert all(source["media_type"] == "image/png" for source in own)
    return [url.removeprefix("data:image/png;base64,") for url in urls] + [s["data"] for s in own]


@BOTH
async def test_a_model_that_sees_is_shown_the_images_of_a_step(
    provider: FakeProvider, make_talk: MakeTalk, make_turn: MakeTurn, model: str
) -> None:
    calls = [Call("photo", {}, "x"), Call("echo", {}, "y"), Call("photo", {"count": 5}, "z")]
    provider.answer("m", Reply(calls=calls), Reply(calls=calls[:1]), Reply.saying("A pixel."))
    chunks = await make_talk(**SEEING).run(make_turn(), model)
    assert text_of(chunks) == "A pixel."
    results = [chunk.result for chunk in chunks if isinstance(chunk, ToolResult)]
    assert results.count("[image, image/png: not shown]") == 3  # as clients see it
    first, second, third = (seen.body for seen in provider.seen)
    assert images_in(first) == []
    assert images_in(second) == [PNG.data] * 4
    assert images_in(third) == [PNG.data] * 5
    assert "results above: photo, photo, photo, photo. 2 more are not shown." in str(second)
    if model == "local:m":
        roles = [message["role"] for message in second["messages"]]
        assert roles == ["user", "assistant", "tool", "tool", "tool", "user"]
    else:  # one message: results first, as Anthropic wants it
        kinds = [part["type"] for part in second["messages"][-1]["content"]]
        assert kinds == ["tool_result"] * 3 + ["text"] + ["image"] * 4


@BOTH
async def test_a_model_that_does_not_see_is_told_of_them(
    provider: FakeProvider, make_talk: MakeTalk, make_turn: MakeTurn, model: str
) -> None:
    provider.answer("m", Reply(calls=[Call("photo")]), Reply.saying("So."))
    assert text_of(await make_talk().run(make_turn(), model)) == "So."
    assert images_in(provider.seen[-1].body) == []
    assert "not shown" in str(provider.seen[-1].body)


def refusing(status: int, words: str) -> Callable[[int, Any], Reply]:
    """A model that calls for a photo, refuses its image, and answers without."""

    def script(_number: int, body: Any) -> Reply:
        if images_in(body):
            return Reply.refusing(status, "invalid_request_error", words)
        has_result = "not shown" in str(body["messages"])
        return Reply.saying("So.") if has_result else Reply(calls=[Call("photo")])

    return script


@BOTH
@pytest.mark.parametrize(
    ("status", "words", "asked"),
    [
        (400, "this model does not support image input", [3, 2]),
        (404, "No endpoints found that support image input", [3, 2]),
        (500, "image input is not supported - hint: you may need to provide the mmproj", [3, 2]),
        (400, "Could not process image", [3, 3]),  # this one, not any
    ],
)
async def test_images_that_are_refused_are_left_out(
    provider: FakeProvider,
    make_talk: MakeTalk,
    make_turn: MakeTurn,
    model: str,
    status: int,
    words: str,
    asked: list[int],
) -> None:
    provider.answer("m", script=refusing(status, words))
    talk = make_talk(retries=0, **SEEING)
    for count in asked:
        provider.seen.clear()
        assert text_of(await talk.run(make_turn(), model)) == "So."
        assert len(provider.seen) == count


@pytest.mark.parametrize(
    ("name", "sees"),
    [
        *((name, True) for name in ("openai:gpt-5-mini", "openai-chat:gpt-4o", "openai:o3")),
        *((name, True) for name in ("anthropic:claude-haiku-4-5", "google:gemini-2.5-flash")),
        *((name, True) for name in ("openrouter:anthropic/claude-sonnet-4", "ollama:qwen2.5vl:7b")),
        *((name, True) for name in ("ollama:llava", "ollama:llama3.2-vision", "ollama:gemma3")),
        *((name, False) for name in ("ollama:llama3.2", "openai:gpt-3.5-turbo", "local:qwen3")),
        *((name, False) for name in ("deepseek:deepseek-chat", "groq:openai/gpt-oss-120b")),
    ],
)
def test_models_that_are_known_to_see(name: str, sees: bool) -> None:
    assert Sight(parse_model(name), LlmSettings().vision, set()).sees is sees


def test_only_images_that_providers_take() -> None:
    def read(raw: bytes) -> str | None:
        image = read_image(base64.b64encode(raw).decode())
        return None if image is None else image.content_type

    assert read(b"\x89PNG\r\n\x1a\nx") == "image/png"
    assert read(b"\xff\xd8\xff\xe0x") == "image/jpeg"
    assert read(b"RIFF\x01\n\x03\x04WEBPVP8 ") == "image/webp"
    assert read(b"GIF89a;") == "image/gif"
    for raw in (b"", b"not really", b"<svg/>", b"BM1234", b"RIFF1234WAVE", b"%PDF-1.7"):
        assert read(raw) is None
    assert read(b"GIF89a" + bytes(MAX_IMAGE - 6)) == "image/gif"
    assert read(b"GIF89a" + bytes(MAX_IMAGE)) is None
    assert read_image("R0lGODlh\nOw==\n") == Image("image/gif", "R0lGODlhOw==")
    assert read_image("no base64!") is None and read_image("R0lGODlhO") is None


def test_the_oldest_images_give_way() -> None:
    sight = Sight(ModelName("local", "m"), ["local:*"], set())
    large = Image("image/gif", "R0lG" * (MAX_IMAGE // 3))
    messages: list[Message] = []
    for number in range(8):
        messages.append(ToolMessage(str(number), "photo", "r"))
        sight.show(messages, [("photo", large)])
    assert [len(m.images) for m in messages if isinstance(m, UserMessage)] == [1] * 4
    assert [m.call_id for m in messages if isinstance(m, ToolMessage)] == list("01234567")
    assert isinstance(messages[-1], UserMessage)


def test_what_has_nothing_to_do_with_images_gives_up_none() -> None:
    blind: set[str] = set()
    sight = Sight(ModelName("local", "m"), ["local:*"], blind)
    call = ModelCall("m", "", [UserMessage("see", [PNG])])
    for failure in (
        ModelFailure("refused", "HTTP 400 bad schema"),
        ModelFailure("rate_limited", "too many images per minute"),
        ModelFailure("unavailable", "the image service is overloaded"),
    ):
        assert not sight.gives_up(call, failure)
    assert len(call.messages) == 1
    refusal = ModelFailure("model", "HTTP 404 No endpoints found that support image input")
    assert sight.gives_up(call, refusal)
    assert call.messages == []
    assert not blind  # it may have been something else
    sight.answered()
    assert blind == {"local:m"} and not sight.sees
