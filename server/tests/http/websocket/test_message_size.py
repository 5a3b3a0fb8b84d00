"""No message of the server's is over 1,000,000 bytes, whatever its content."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resonantgenesis_server.codec.events import entry_of
from resonantgenesis_server.codec.json import dumps
from resonantgenesis_server.codec.websocket import chunk_message, event_envelope, event_message
from resonantgenesis_server.feed.compact import compact
from resonantgenesis_server.log.base import Entry
from resonantgenesis_server.model.chunks import Text, ToolResult
from resonantgenesis_server.model.errors import AgentError
from resonantgenesis_server.model.events import NewEvent
from resonantgenesis_server.model.limits import LARGEST_PART, MAX_MESSAGE, Limits
from resonantgenesis_server.sessions.chunks import ChunkMaker
from resonantgenesis_server.sessions.session_log import TurnEvents
from resonantgenesis_server.sessions.state import SessionInfo
from ws_harness import Server, is_chunk

SESSION = "s" * 128
#: Characters that take from one byte of JSON to six, in one and in many bytes of UTF-8.
WIDE = ["a", '"', "\\", "\n", "\x01", "\x1f", "\x7f", "\x85", "é", "\u2028", "\u2029", "\ud800",
        "€", "\U0001f600", "\ufffe"]  # fmt: skip
PIECES = st.lists(st.sampled_from(WIDE), min_size=1, max_size=8).map("".join)
LARGEST = Limits(
    chunk=LARGEST_PART, context=LARGEST_PART, goal=1 << 20, output=2 << 20, chunks_per_session=10**6
)


def entries(limits: Limits, text: str, count: int) -> list[Entry]:
    """A turn's chunks whose agent yields a text so often."""
    made = ChunkMaker(SESSION, 2**31 - 1, "a" * 64, 1_000, limits)
    found = [each for _ in range(count) for each in made.encode(Text(text))]
    found.append(made.done("success", dict.fromkeys(made.usage(), 2**53)))
    return [Entry(2**31 - 1, each.kind, each.body, 1) for each in found]


@settings(max_examples=25)
@given(PIECES, st.sampled_from([1, 1_000, 40_000]), st.sampled_from([Limits(), LARGEST]))
def test_chunks_of_any_text_fit_and_stay_whole(piece: str, size: int, limits: Limits) -> None:
    text = (piece * size)[:40_000]
    count = max(1, 1_300_000 // len(text) // 6) if len(text) > 100 else 3
    made = entries(limits, text, count)
    whole = "".join(orjson.loads(each.body)["content"] for each in made if each.kind == "message")
    paired = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert whole == paired * count
    for each in [*made, *compact(made)]:
        assert len(chunk_message(each, SESSION)) <= MAX_MESSAGE
    done = orjson.loads(made[-1].body)
    assert whole.startswith(done["output"])
    assert done.get("output_truncated", False) == (len(done["output"]) < len(whole))


@pytest.mark.parametrize("limits", [Limits(), LARGEST], ids=["default", "largest"])
@pytest.mark.parametrize("wide", ["a", "\x01", "\u2029"])
def test_what_is_cut_leaves_nothing_that_would_have_fitted(wide: str, limits: Limits) -> None:
    made = entries(limits, wide * 1_400_000, 1)
    done = orjson.loads(made[-1].body)
    assert done["output_truncated"] is True
    assert LARGEST_PART - 16 < len(dumps(done["output"])) <= LARGEST_PART + 2
    assert len(chunk_message(made[-1], SESSION)) <= MAX_MESSAGE


@settings(max_examples=15)
@given(PIECES, st.sampled_from([Limits(), LARGEST]))
def test_tool_results_fit_or_fail_the_turn(piece: str, limits: Limits) -> None:
    for size in (limits.chunk // 7, limits.chunk):
        made = ChunkMaker(SESSION, 1, "a", 10, limits)
        try:
            found = list(made.encode(ToolResult("t", piece * (size // len(piece)), "c" * 100)))
        except AgentError as error:
            assert error.code == "PAYLOAD_TOO_LARGE"
            continue
        for each in found:
            message = chunk_message(Entry(1, each.kind, each.body, 1), SESSION)
            assert len(message) <= MAX_MESSAGE


def check_event(event: NewEvent) -> dict[str, Any]:
    """Both forms fit; the flat one, parsed."""
    body = entry_of(event).body
    entry = Entry(2**31 - 1, event.type, body, 1_700_000_000_000_000)
    assert len(event_envelope(entry, "f" * 32)) <= MAX_MESSAGE
    flat = event_message(entry, "f" * 32)
    assert len(flat) <= MAX_MESSAGE
    message: dict[str, Any] = json.loads(flat)
    assert message["data"] == json.loads(body)["data"]
    return message


@settings(max_examples=25)
@given(PIECES, st.integers(1, 500), st.sampled_from([0, 1, 60_000, 150_000, 155_000]))
def test_events_of_any_data_fit(piece: str, fields: int, size: int) -> None:
    data: dict[str, Any] = {"long": (piece * size)[:size].encode("utf-8", "replace").decode()}
    data |= {f"f{n}": n for n in range(fields)}
    message = check_event(NewEvent("evt_1", "app.large", data, {"key_id": "k"}))
    if size < 60_000:
        assert message["long"] == data["long"]
    assert message["f0"] == 0  # what is small is lifted although the large was not


@pytest.mark.parametrize("wide", WIDE)
@pytest.mark.parametrize("size", [65_536, 1 << 20])
def test_a_goal_is_sent_as_far_as_it_fits(wide: str, size: int) -> None:
    goal = (wide * size).encode("utf-8", "replace")[:size].decode("utf-8", "ignore")
    info = SessionInfo(SESSION, "org", "a" * 64, "s" * 200, {}, {}, 1.0)
    message = check_event(TurnEvents(info, 1, "key", "req").started(goal))
    assert goal.startswith(message["data"]["goal"])
    assert ("goal_truncated" in message["data"]) == (message["data"]["goal"] != goal)
    assert size > 65_536 or "goal_truncated" not in message["data"]


@pytest.mark.anyio
@pytest.mark.parametrize("wide", ["x", "\x01", "\u2028"])
async def test_a_long_answer_ends_for_a_client_that_takes_a_mebibyte(
    server: Server, wide: str
) -> None:
    async with server.connect(max_size=1 << 20) as client:
        goal, context = f"{wide!r}", {"size": 1_300_000, "text": wide}
        sent = {"agent_id": "saying", "goal": goal, "context": context}
        await client.ask("started", "execute", **sent)
        chunks = await client.done()
    done = chunks[-1]
    whole = "".join(chunk["content"] for chunk in chunks if chunk["type"] == "text")
    assert whole == wide * 1_300_000
    assert done["output_truncated"] is True and whole.startswith(done["output"])
    assert all(is_chunk(chunk) for chunk in chunks)
    session = done["session_id"]
    shown = (await server.http.get(f"/v1/sessions/{session}")).json()
    assert (shown["output"], shown["output_truncated"]) == (done["output"], True)
    polled: dict[str, Any] = {"position": 0, "events": [{"type": ""}]}
    while polled["events"][-1]["type"] != "done":
        path = f"/v1/sessions/{session}/events?after={polled['position']}"
        polled = (await server.http.get(path)).json()
    assert polled["events"][-1]["output"] == done["output"]
    told = await asyncio.wait_for(_streamed(server.http, session), 20)
    assert told["output"] == done["output"]


async def _streamed(http: httpx.AsyncClient, session: str) -> dict[str, Any]:
    answer = await http.get(f"/v1/sessions/{session}/stream?resume_from=0&turn=1")
    last = [line for line in answer.text.split("\n") if line.startswith("data:")][-1]
    found: dict[str, Any] = json.loads(last.removeprefix("data:"))
    return found
