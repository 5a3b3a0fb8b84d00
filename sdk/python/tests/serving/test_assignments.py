"""A turn in a worker, without a server: what waits, what is sent again, what may be yielded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from resonantgenesis._serving.assignments import Assignment
from resonantgenesis._serving.handlers import encoded
from resonantgenesis.serving import Ask, Data, Keep, Text, ToolCall, ToolResult, Turn, Usage

pytestmark = pytest.mark.anyio

RAW: dict[str, Any] = {"goal": "x", "session_id": "s", "turn": 1, "agent_id": "a"}
WINDOW = 64 * 1024


class Produced:
    """A handler that counts what it could yield."""

    def __init__(self, count: int) -> None:
        self.count = 0
        self._most = count

    async def __call__(self, _turn: Turn) -> AsyncIterator[str]:
        for _ in range(self._most):
            self.count += 1
            yield "x" * 1_000


def assigned(handler: Any) -> Assignment:
    made = Assignment("asg_0_x", RAW, handler, WINDOW, 256 * 1024, lambda _: None, lambda _: None)
    made.start()
    return made


async def settled(what: Any) -> None:
    """Return once nothing has changed over many turns of the loop."""
    before = None
    while before != (before := what()):
        for _ in range(200):
            await asyncio.sleep(0)


def texts(messages: list[str]) -> str:
    return "".join("".join(json.loads(message)["chunks"]) for message in messages)


async def test_a_handler_waits_while_the_server_takes_nothing() -> None:
    produced = Produced(1_000)

    async def handler(turn: Turn) -> AsyncIterator[str]:
        async for item in produced(turn):
            yield item

    assignment = assigned(handler)
    await settled(lambda: produced.count)
    assert 60 <= produced.count <= 70
    sent = assignment.messages()
    await settled(lambda: produced.count)
    assert assignment.messages() == []
    assert produced.count <= 70
    while not assignment.is_done:
        assignment.acked(json.loads(sent[-1])["seq"])
        await settled(lambda: produced.count)
        sent += assignment.messages()
    assert texts(sent) == "x" * 1_000_000
    assert [json.loads(message)["seq"] for message in sent] == list(range(1, len(sent) + 1))
    assert json.loads(sent[-1])["is_last"]


async def test_many_small_chunks_are_several_messages() -> None:
    async def handler(_turn: Turn) -> AsyncIterator[str]:
        for _ in range(12_000):
            yield "x"

    assignment = assigned(handler)
    await assignment.ended()
    sizes = [len(json.loads(message)["chunks"]) for message in assignment.messages()]
    assert sizes == [5_000, 5_000, 2_000]


async def test_what_was_not_taken_is_sent_again_on_the_next_socket() -> None:
    produced = Produced(200)

    async def handler(turn: Turn) -> AsyncIterator[str]:
        async for item in produced(turn):
            yield item

    assignment = assigned(handler)
    await settled(lambda: produced.count)
    first = assignment.messages()
    assignment.resumed(0)
    again = assignment.messages()
    assert again[: len(first)] == first
    assignment.resumed(json.loads(first[-1])["seq"])
    assert not set(first) & set(assignment.messages())
    assignment.cancel()
    await assignment.ended()
    assert assignment.is_done


async def test_a_cancelled_handler_ends() -> None:
    ended = asyncio.Event()

    async def handler(_turn: Turn) -> AsyncIterator[str]:
        try:
            yield "a"
            await asyncio.sleep(3600)
        finally:
            ended.set()

    assignment = assigned(handler)
    await settled(assignment.messages)
    assignment.cancel()
    await assignment.ended()
    assert ended.is_set()
    assert assignment.is_done
    assert assignment.messages() == []


@pytest.mark.parametrize(
    ("value", "chunks"),
    [
        ("", []),
        ("a", ["a"]),
        (Text("a"), ["a"]),
        (Text("a", agent_id="b"), [{"type": "text", "content": "a", "agent_id": "b"}]),
        ("\ud83d\ude00 \ud83d", ["\N{GRINNING FACE} \N{REPLACEMENT CHARACTER}"]),
        (Keep([1]), [{"type": "keep", "value": [1]}]),
        (
            Data("n", {"a": 1}, transient=True),
            [{"type": "data", "name": "n", "data": {"a": 1}, "id": "", "transient": True}],
        ),
    ],
)
def test_values_become_chunks(value: object, chunks: list[Any]) -> None:
    assert [json.loads(each) for each in encoded(value)] == chunks


def test_an_ask_keeps_its_kind() -> None:
    (chunk,) = [json.loads(each) for each in encoded(Ask("approval", "m", "t"))]
    assert (chunk["type"], chunk["kind"], chunk["tool"]) == ("ask", "approval", "t")


def test_a_long_text_comes_in_pieces() -> None:
    pieces = [json.loads(each) for each in encoded("ab" * 50_000)]
    assert "".join(pieces) == "ab" * 50_000
    assert len(pieces) > 1


@pytest.mark.parametrize("value", [5, None, b"x", {"type": "text"}])
def test_what_is_no_chunk_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="a handler yields str, or one of"):
        encoded(value)


def test_a_result_that_no_server_could_read_is_refused() -> None:
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    with pytest.raises(TypeError, match="nests deeper"):
        encoded(ToolResult("t", deep))
    with pytest.raises(ValueError, match="JSON"):
        encoded(ToolResult("t", float("nan")))


def given(raw: dict[str, Any], *answers: tuple[str, Any]) -> dict[str, Any]:
    """The turn as it comes with the answers to what it asks."""
    found = {call_id: {"call_id": call_id, **answer} for call_id, answer in answers}
    return {**raw, "answers": {**raw.get("answers", {}), **found}}


async def chunks_of(handler: Any, raw: dict[str, Any]) -> tuple[list[Any], Any]:
    """What the handler says for the turn, and what is kept."""
    made = Assignment("asg_0_x", raw, handler, WINDOW, 256 * 1024, lambda _: None, lambda _: None)
    made.start()
    await made.ended()
    messages = [json.loads(message) for message in made.messages()]
    assert messages[-1]["is_last"]
    chunks = [chunk for message in messages for chunk in message["chunks"]]
    if "error" in messages[-1]:
        chunks.append(messages[-1]["error"])
    kept = [chunk["value"] for chunk in chunks if isinstance(chunk, dict) and "value" in chunk]
    shown = [chunk for chunk in chunks if isinstance(chunk, str) or chunk.get("type") != "keep"]
    return shown, kept[-1] if kept else None


async def refunds(turn: Turn) -> AsyncIterator[Any]:
    yield "Looking. "
    call = ToolCall("refund", {"order": 7}, "refund")
    yield call
    yield Usage(5, 1)
    yield Keep({"price": 40})
    decision = await turn.approve(call, "Pay?")
    yield ToolResult("refund", "paid" if decision else decision.refusal, "refund", not decision)
    why, who = await asyncio.gather(turn.ask("Why?"), turn.ask("Who?"))
    yield f"{why} {who}"


def refunds_in_a_thread(turn: Turn) -> Iterator[Any]:
    yield "Looking. "
    call = ToolCall("refund", {"order": 7}, "refund")
    yield call
    yield Usage(5, 1)
    decision = turn.approve_from_thread(call, "Pay?")
    yield ToolResult("refund", "paid" if decision else decision.refusal, "refund", not decision)
    why, who = turn.ask_from_thread("Why?"), turn.ask_from_thread("Who?")
    yield f"{why} {who}"


@pytest.mark.parametrize("handler", [refunds, refunds_in_a_thread])
async def test_a_handler_awaits_what_it_asks(handler: Any) -> None:
    """It runs again from its start in any worker, and says nothing twice."""
    [text, call, used, ask], kept = await chunks_of(handler, RAW)
    assert (text, call["type"], used["type"]) == ("Looking. ", "tool_call", "usage")
    assert (ask["type"], ask["kind"], ask["call_id"]) == ("ask", "approval", "refund")
    raw = given({**RAW, "kept": kept}, ("refund", {"approved": False, "reason": "no"}))
    [used, result, *asks], kept = await chunks_of(handler, raw)
    assert (used["type"], result["result"], result["is_error"]) == ("usage", "denied: no", True)
    ids = [ask["call_id"] for ask in asks]
    assert ids == (["ask_1_1", "ask_1_2"] if handler is refunds else ["ask_1_1"])
    raw = given({**raw, "kept": kept}, *((id, {"payload": id}) for id in ids))
    said, kept = await chunks_of(handler, raw)
    if handler is not refunds:  # a thread asks for one thing at a time
        assert [ask["call_id"] for ask in said[1:]] == ["ask_1_2"]
        said, kept = await chunks_of(
            handler, given({**raw, "kept": kept}, ("ask_1_2", {"payload": "ask_1_2"}))
        )
    assert said[1:] == ["ask_1_1 ask_1_2"]
    assert kept is None


async def test_what_a_handler_has_kept_comes_back_beside_its_asks() -> None:
    async def handler(turn: Turn) -> AsyncIterator[Any]:
        yield f"kept {turn.kept} "
        yield Keep([1, 2])
        yield str(await turn.ask("?"))

    _, kept = await chunks_of(handler, RAW)
    seen: list[Any] = []

    async def again(turn: Turn) -> AsyncIterator[Any]:
        seen.append(turn.kept)
        yield str(await turn.ask("?"))

    said, _ = await chunks_of(again, given({**RAW, "kept": kept}, ("ask_1_1", {"payload": 3})))
    assert (seen, said) == ([[1, 2]], ["3"])


async def test_a_declined_or_changed_ask_fails_the_turn() -> None:
    async def handler(turn: Turn) -> AsyncIterator[Any]:
        yield str(await turn.ask("?"))

    _, kept = await chunks_of(handler, RAW)
    declined = given({**RAW, "kept": kept}, ("ask_1_1", {"approved": False, "reason": "no"}))
    assert (await chunks_of(handler, declined))[0] == [
        {"message": "denied: no", "code": "AGENT_FAILED"}
    ]

    async def other(_turn: Turn) -> AsyncIterator[Any]:
        yield "something else"

    [said], _ = await chunks_of(other, given({**RAW, "kept": kept}, ("ask_1_1", {"payload": 1})))
    assert "did not ask as it had before" in said["message"]


@pytest.mark.parametrize("name", ["inbox", "files", "toolbox"])
def test_what_a_worker_has_not_is_named(name: str) -> None:
    with pytest.raises(AttributeError, match=f"a worker's turn has no {name}"):
        getattr(Turn.of(RAW), name)
