"""OpenAI's own SDKs, unmodified: Responses that resume, conversations, chat completions."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import httpx
import openai
import pytest
from support.node import run_client
from support.proxy import EvilProxy
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
    assert len(found["cuts"]) >= 20
    assert all(each == [True, "1 2 3 4", "response.completed"] for each in found["cuts"])


def test_background_and_cancel(found: dict[str, Any]) -> None:
    begun, ended = found["cancel"]
    assert begun in {"queued", "in_progress"} and ended == "cancelled"


def test_a_reload_in_mid_answer_and_two_tabs(found: dict[str, Any]) -> None:
    assert found["reload"] == [[0, True, "cancelled"], [10, True, "cancelled"]]


def test_an_approval(found: dict[str, Any]) -> None:
    assert found["approval"] == ["mcp_approval_request", "completed", "Paid."]


def test_a_conversation_is_a_session(found: dict[str, Any]) -> None:
    assert found["conversation"] == {
        "items": ["count to 2", "1 2", "count to 3", "1 2 3"],
        "before": True,
    }


def test_failures_show_as_failures(found: dict[str, Any]) -> None:
    assert found["failed"] == ["failed", "the shop is closed"]
    assert found["refusals"] == [[401, "UNAUTHENTICATED"], [404, "AGENT_NOT_FOUND"]]


def test_a_chat_completion(found: dict[str, Any]) -> None:
    assert "= 30" in found["completion"].pop("tooled")
    assert found["completion"] == {"text": "1 2 3", "end": ["stop"], "usage": True}


def test_a_cut_of_a_completion_is_never_a_success(found: dict[str, Any]) -> None:
    """Its client cannot go on: it has an error, or it has the end."""
    cuts = found["cutCompletions"]
    assert len(cuts) >= 10 and all(error or ended for error, ended in cuts)
    assert [True, False] in cuts


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


async def test_the_python_sdk_goes_on_behind_a_cut(server: ServerProcess) -> None:
    proxy = EvilProxy(server.port, lambda: next(modes), Random(1))
    seen: list[Any] = []
    async with proxy.running():
        url, cuts = f"{proxy.url}/openai/v1", 0
        for budget in (1_500, 2_300, 4_000):
            modes = itertools.chain(["cut"], itertools.repeat("pass"))
            proxy.budget = lambda budget=budget: budget
            async with openai.AsyncOpenAI(base_url=url, api_key=KEY) as client:
                seen = []
                try:
                    async for event in await client.responses.create(
                        model="guide", input="count to 4", stream=True
                    ):
                        seen.append(event)
                except (openai.APIConnectionError, httpx.HTTPError):
                    cuts += 1
            async with openai.AsyncOpenAI(base_url=url, api_key=KEY) as client:
                last = seen[-1].sequence_number
                rest = await client.responses.retrieve(
                    seen[0].response.id, stream=True, starting_after=last
                )
                seen += [event async for event in rest]
            assert [event.sequence_number for event in seen] == list(range(len(seen)))
            assert seen[-1].type == "response.completed"
            assert seen[-1].response.output_text == "1 2 3 4"
    assert cuts == 3


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
    assert "waits for an answer" in str(response.output[-2])
    assert response.output[-1].type == "mcp_approval_request"


@pytest.mark.parametrize("approve", [True, False])
async def test_an_approval_is_asked_and_answered(
    client: openai.AsyncOpenAI, tmp_path: Path, approve: bool
) -> None:
    """The answer goes on with the turn, in a response of its own; once, however often it comes."""
    conversation = await client.conversations.create()
    where: dict[str, Any] = {"model": "buyer", "conversation": conversation.id}
    async with client.responses.stream(input=str(tmp_path / "paid"), **where) as stream:
        asked = await stream.get_final_response()
    request = asked.output[-1]
    assert (asked.status, request.type) == ("completed", "mcp_approval_request")
    assert request.type == "mcp_approval_request" and "paid" in request.arguments
    said: Any = {"type": "mcp_approval_response", "approve": approve}
    said |= {"approval_request_id": request.id}
    with pytest.raises(openai.ConflictError):
        await client.responses.create(input="and?", **where)
    async with client.responses.stream(
        model="buyer", input=[said], previous_response_id=asked.id
    ) as stream:
        events = [event async for event in stream]
        ended = await stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    call = ended.output[0]
    assert call.type == "mcp_call" and call.approval_request_id == request.id
    assert (call.status, call.name) == ("completed" if approve else "failed", "refund")
    assert ended.output_text == ("Paid." if approve else "Not paid.")
    assert (ended.id, ended.previous_response_id) == (f"{asked.id}.1", asked.id)
    again = await client.responses.create(input=[said], **where)
    assert (again.id, again.output_text) == (ended.id, ended.output_text)
    assert (tmp_path / "paid").exists() == approve
    # Both parts can be read again, and the conversation has all.
    first = [event async for event in await client.responses.retrieve(asked.id, stream=True)]
    assert first[-1].type == "response.completed"
    former = await client.responses.retrieve(asked.id)
    assert [item.type for item in former.output] == [item.type for item in asked.output]
    items = [item async for item in client.conversations.items.list(conversation.id, order="asc")]
    assert [item.type for item in items] == [
        "message", "message", "mcp_call", "mcp_approval_request", "mcp_approval_response",
        "mcp_call", "message",
    ]  # fmt: skip
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(f"{asked.id}.2")


async def test_the_clients_own_function_and_a_question(client: openai.AsyncOpenAI) -> None:
    tool: Any = {"type": "function", "name": "location", "parameters": {"type": "object"}}
    asked = await client.responses.create(model="location", input="where?", tools=[tool])
    call = asked.output[-1]
    assert call.type == "function_call" and (call.name, call.call_id) == ("location", "where")
    output: Any = {"type": "function_call_output", "call_id": "where", "output": '{"city": "Ulm"}'}
    ended = await client.responses.create(
        model="location", input=[output], previous_response_id=asked.id
    )
    assert ended.status == "completed" and ended.output[-1].type == "message"

    asked = await client.responses.create(model="questions", input="go")
    calls = [item for item in asked.output if item.type == "function_call"]
    assert {call.name for call in calls} == {"ask"} and "Number 0?" in calls[0].arguments
    said: list[Any] = [
        {"type": "function_call_output", "call_id": call.call_id, "output": "7"} for call in calls
    ]
    with pytest.raises(openai.UnprocessableEntityError, match="n2"):
        await client.responses.create(
            model="questions", input=said[:2], previous_response_id=asked.id
        )
    with pytest.raises(openai.UnprocessableEntityError, match="previous_response_id"):
        await client.responses.create(model="questions", input=said)
    ended = await client.responses.create(
        model="questions", input=said, previous_response_id=asked.id
    )
    assert ended.output_text == "7 7 7"


async def test_a_chat_completion_calls_the_clients_function(client: openai.AsyncOpenAI) -> None:
    tool: Any = {"type": "function", "function": {"name": "location", "parameters": {}}}
    messages: list[Any] = [{"role": "user", "content": "where?"}]
    options: dict[str, Any] = {"model": "location", "tools": [tool]}
    async with client.chat.completions.stream(messages=messages, **options) as stream:
        streamed = [event async for event in stream]
        asked = await stream.get_final_completion()
    assert streamed
    [choice] = asked.choices
    assert choice.finish_reason == "tool_calls" and choice.message.tool_calls
    [call] = choice.message.tool_calls
    assert call.type == "function" and call.function.name == "location"
    whole = await client.chat.completions.create(messages=messages, **options)
    assert whole.choices[0].finish_reason == "tool_calls", "a turn of its own"
    said = {"role": "tool", "tool_call_id": call.id, "content": '{"city": "Ulm"}'}
    messages += [choice.message.model_dump(exclude_unset=True), said]
    async with client.chat.completions.stream(messages=messages, **options) as stream:
        ended = await stream.get_final_completion()
    assert ended.choices[0].finish_reason == "stop"
    assert ended.choices[0].message.content == "In Ulm." and ended.id == f"{asked.id}.1"
    again = await client.chat.completions.create(messages=messages, **options)
    assert again.choices[0].message.content == "In Ulm.", "a repeat answers nothing twice"
    # Further words are a further turn, whose agent sees the answer.
    messages += [ended.choices[0].message.model_dump(exclude_unset=True)]
    messages += [{"role": "user", "content": "and now?"}]
    next_one = await client.chat.completions.create(messages=messages, **options)
    assert next_one.choices[0].finish_reason == "tool_calls"


async def test_a_chat_completion_asks_questions(client: openai.AsyncOpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "go"}]
    asked = (await client.chat.completions.create(model="questions", messages=messages)).choices[0]
    calls = asked.message.tool_calls or []
    assert [call.function.name for call in calls if call.type == "function"] == ["ask"] * 3
    messages.append(asked.message.model_dump(exclude_unset=True))
    said: list[Any] = [
        {"role": "tool", "tool_call_id": call.id, "content": str(n)} for n, call in enumerate(calls)
    ]
    with pytest.raises(openai.UnprocessableEntityError, match="n2"):
        await client.chat.completions.create(model="questions", messages=messages + said[:2])
    ended = await client.chat.completions.create(model="questions", messages=messages + said)
    assert ended.choices[0].message.content == "0 1 2"
    for wrong in ("call_1", "call_sess_none.1.n0"):
        other: Any = {"role": "tool", "tool_call_id": wrong, "content": "1"}
        with pytest.raises((openai.UnprocessableEntityError, openai.NotFoundError)):
            await client.chat.completions.create(model="questions", messages=[*messages, other])


async def test_a_request_that_the_sdk_sends_again_joins_its_turn(
    client: openai.AsyncOpenAI,
) -> None:
    def again(count: int) -> dict[str, Any]:
        headers = {"x-stainless-retry-count": str(count)}
        return {"model": "guide", "input": "count to 5", "extra_headers": headers}

    first, second = [await client.responses.create(**again(0)) for _ in range(2)]
    assert first.id != second.id, "the same question may be asked twice"
    for _ in range(2):
        assert (await client.responses.create(**again(1))).id == second.id
    messages: list[Any] = [{"role": "user", "content": "go"}]
    with pytest.raises(openai.InternalServerError) as failed:
        await client.chat.completions.create(model="refusing", messages=messages)
    assert failed.value.response.headers["x-should-retry"] == "false"


async def test_what_is_no_response_is_not_found(client: openai.AsyncOpenAI) -> None:
    for name in ("resp_none", "resp_sess_0000000000000000000a.1", "sess_0.1"):
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(name)
    for name in ("conv_none", "conv_-00000000a" + 20 * "b"):
        with pytest.raises(openai.NotFoundError):
            await client.conversations.retrieve(name)
    with pytest.raises(openai.UnprocessableEntityError):
        await client.chat.completions.create(
            model="guide", messages=[{"role": "assistant", "content": "nothing was asked"}]
        )
