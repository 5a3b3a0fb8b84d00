"""OpenAI's own SDKs, unmodified: Responses that resume, conversations, chat completions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from support.node import run_client
from support.server import KEY, ServerProcess


@pytest.fixture(scope="module")
def found(server: ServerProcess) -> dict[str, Any]:
    return run_client("openai.mjs", server)


def test_a_whole_response_with_a_tool_call(found: dict[str, Any]) -> None:
    whole = found["whole"]
    assert whole["status"] == "completed" and "= 30" in whole["text"]
    assert whole["types"] == ["mcp_call", "message"]
    assert whole["numbers"] == list(range(len(whole["numbers"])))


def test_a_cut_anywhere_loses_and_doubles_nothing(found: dict[str, Any]) -> None:
    assert len(found["cuts"]) >= 10
    assert all(each == [True, "1 2 3 4", "response.completed"] for each in found["cuts"])


def test_background_and_cancel(found: dict[str, Any]) -> None:
    begun, ended = found["cancel"]
    assert begun in {"queued", "in_progress"} and ended == "cancelled"


def test_a_conversation_is_a_session(found: dict[str, Any]) -> None:
    assert found["conversation"] == {
        "items": ["count to 2", "1 2", "count to 3", "1 2 3"],
        "before": True,
    }


def test_failures_show_as_failures(found: dict[str, Any]) -> None:
    assert found["failed"] == ["failed", "the shop is closed"]
    assert found["refusals"] == [[401, "UNAUTHENTICATED"], [404, "AGENT_NOT_FOUND"]]


def test_a_chat_completion(found: dict[str, Any]) -> None:
    assert found["completion"] == {"text": "1 2 3", "end": ["stop"], "usage": True}


@pytest.fixture
async def client(server: ServerProcess) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/openai/v1", api_key=KEY) as made:
        yield made


async def test_the_python_sdk_streams_and_resumes(client: openai.AsyncOpenAI) -> None:
    assert "guide" in [model.id async for model in client.models.list()]
    async with client.responses.stream(model="guide", input="What is 12% of 250?") as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()
    assert "= 30" in final.output_text and final.status == "completed"
    again = await client.responses.retrieve(final.id, stream=True, starting_after=3)
    numbers = [event.sequence_number async for event in again]
    assert numbers == list(range(4, len(events)))[: len(numbers)] and numbers
    assert (await client.responses.retrieve(final.id)).output_text == final.output_text


async def test_a_busy_conversation_is_not_tried_again(client: openai.AsyncOpenAI) -> None:
    running = await client.responses.create(model="guide", input="count to 100000", background=True)
    with pytest.raises(openai.ConflictError) as refused:
        await client.responses.create(
            model="guide", input="count to 2", previous_response_id=running.id
        )
    assert refused.value.code == "SESSION_BUSY"
    assert refused.value.response.headers["x-should-retry"] == "false"
    await client.responses.cancel(running.id)


async def test_a_turn_that_waits_ends_its_answer(client: openai.AsyncOpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "order 7"}]
    whole = await client.chat.completions.create(model="refunds", messages=messages)
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == (
        "Looking. ",
        "stop",
    )
    response = await client.responses.create(model="refunds", input="order 7")
    assert (response.status, response.output_text) == ("completed", "Looking. ")
    assert "waits for an answer" in str(response.output[-1])


async def test_what_is_no_response_is_not_found(client: openai.AsyncOpenAI) -> None:
    for name in ("resp_none", "resp_sess_0000000000000000000a.1", "sess_0.1"):
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(name)
    with pytest.raises(openai.NotFoundError):
        await client.conversations.retrieve("conv_none")
    with pytest.raises(openai.UnprocessableEntityError):
        await client.chat.completions.create(
            model="guide", messages=[{"role": "assistant", "content": "nothing was asked"}]
        )
