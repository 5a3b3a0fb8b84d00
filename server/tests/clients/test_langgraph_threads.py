"""The events of a thread: one sequence over its runs, whatever a client asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from resonantgenesis_server.clients.langgraph.messages import human_message
from resonantgenesis_server.clients.langgraph.thread_events import (
    ThreadEncoder,
    ThreadFilter,
    position_of,
    seq_of,
)
from resonantgenesis_server.clients.langgraph.threads import Thread
from resonantgenesis_server.codec.json import dumps
from resonantgenesis_server.log.base import Entry
from resonantgenesis_server.sessions.state import SessionState

from .turns import TURNS, WAITING_TURNS, chunk, entries

CHANNELS = (
    "values", "updates", "messages", "tools", "lifecycle", "input", "checkpoints", "custom",
)  # fmt: skip
SOME = st.sets(st.sampled_from(CHANNELS)).map(frozenset)
ALL = ThreadFilter(frozenset(CHANNELS))


async def _goals(first: int) -> Mapping[int, Any]:
    return {turn: human_message(f"m{turn}", "goal") for turn in range(first, 10)}


def encoder(shown: ThreadFilter = ALL) -> ThreadEncoder:
    return ThreadEncoder(Thread("t", "sess_1", SessionState()), 1, (), shown, _goals)


def read(fold: ThreadEncoder, thread: list[Entry]) -> list[bytes]:
    asyncio.run(fold.prepare(thread))
    return list(fold.encode(thread))


def event_of(frame: bytes) -> Any:
    place, name, data, *rest = frame.decode().splitlines()
    event = orjson.loads(data.removeprefix("data: "))
    assert rest == [""] and place == f"id: {event['seq']}" and name == f"event: {event['method']}"
    return event


def _joined(turns: list[list[Entry]]) -> list[Entry]:
    """The turns one after the other; all but the last one end."""
    kept = [turn for turn in turns[:-1] if turn and turn[-1].kind == "done"] + turns[-1:]
    found: list[Entry] = []
    for number, turn in enumerate(kept, 1):
        for entry in turn:
            body = orjson.loads(entry.body) | ({"turn": number} if entry.kind == "done" else {})
            found.append(Entry(len(found) + 1, entry.kind, dumps(body), 0))
    return found


THREADS = st.lists(TURNS | WAITING_TURNS, min_size=1, max_size=3).map(_joined)


@given(THREADS, SOME, st.data())
@settings(max_examples=40)
def test_the_events_of_a_thread_are_one_sequence(
    thread: list[Entry], channels: frozenset[str], data: st.DataObject
) -> None:
    whole = read(encoder(), thread)
    events = [event_of(frame) for frame in whole]
    assert len({event["event_id"] for event in events}) == len(events)
    seqs = [event["seq"] for event in events]
    assert seqs == sorted(set(seqs))
    # In parts, with a copy of the fold, and live.
    split = data.draw(st.integers(0, len(thread)))
    fold = encoder()
    before = read(fold, thread[:split])
    left = fold.copy()
    assert before + read(fold, thread[split:]) == whole
    assert before + read(left, thread[split:]) == whole
    # On some channels, and behind an event.
    since = data.draw(st.sampled_from([-1, *seqs]))
    some = read(encoder(ThreadFilter(channels, since=since)), thread)
    shown = {name.split(".")[0] for name in channels}
    assert some == [
        frame
        for frame, event in zip(whole, events, strict=True)
        if event["method"].split(".")[0] in shown and event["seq"] > since
    ]


@given(THREADS)
@settings(max_examples=40)
def test_a_threads_messages_are_whole_and_do_not_interleave(thread: list[Entry]) -> None:
    texts: dict[str, str] = {}
    spaces: dict[str, Any] = {}
    values: Any = None
    for event in map(event_of, read(encoder(), thread)):
        space, data = "/".join(event["params"]["namespace"]), event["params"]["data"]
        if event["method"] == "values":
            values = data
        if event["method"] != "messages":
            continue
        if data["event"] == "message-start":
            assert space not in spaces
            spaces[space] = {"id": data["id"], "index": -1, "open": False}
        message = spaces[space]
        if data["event"] == "content-block-start":
            assert not message["open"] and data["index"] == message["index"] + 1
            message |= {"open": True, "index": data["index"], "text": ""}
        elif data["event"] == "content-block-delta":
            assert message["open"] and data["index"] == message["index"]
            message["text"] += data["delta"].get("text", "")
        elif data["event"] == "content-block-finish":
            assert message["text"] == data["content"].get("text", "")
            message["open"] = False
            texts[message["id"]] = texts.get(message["id"], "") + message["text"]
        elif data["event"] == "message-finish":
            assert not message["open"]
            del spaces[space]
    if thread and thread[-1].kind in {"done", "waiting"}:
        said = {each["id"]: each["content"] for each in values["messages"]}
        assert not spaces
        assert all(said[name] == text for name, text in texts.items() if name in said)


def test_a_turn_that_waited_is_a_further_run() -> None:
    ask = chunk("input_required", call_id="c", kind="approval", tool="t", args={})
    turn = [ask, chunk("waiting", calls=["c"]), chunk("input", call_id="c", approved=True)]
    thread = entries(
        [*turn, chunk("message", content="a"), chunk("done", turn=1, status="success")]
    )
    found = [
        event_of(frame) for frame in read(encoder(ThreadFilter(frozenset({"lifecycle"}))), thread)
    ]
    runs = [event["event_id"].split(":")[1] for event in found]
    assert [event["params"]["data"]["event"] for event in found] == [
        "running", "interrupted", "running", "completed",
    ]  # fmt: skip
    assert runs[0] == runs[1] != runs[2] == runs[3]


def test_namespaces_and_depth() -> None:
    shown = ThreadFilter(frozenset({"messages", "custom:a"}), (("tools",),), 0)
    assert shown.shows("messages", ("tools:c",)) and not shown.shows("messages", ())
    assert not shown.shows("messages", ("tools:c", "x")) and not shown.shows("messages", ("tool",))
    assert shown.shows("custom:a", ("tools",)) and not shown.shows("custom:b", ("tools",))
    assert not ThreadFilter(frozenset({"messages"}), (("tools:d",),)).shows(
        "messages", ("tools:c",)
    )


def test_a_seq_is_behind_its_chunk_and_before_the_next() -> None:
    assert seq_of(0) == 0 and position_of(seq_of(7)) == 7 and seq_of(7) + 1 == 8 * 10_000


def test_a_reader_is_not_left_with_a_clean_end() -> None:
    assert ThreadEncoder.cuts
