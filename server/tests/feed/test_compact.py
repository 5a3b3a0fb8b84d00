"""Compact reading: the same text in fewer chunks."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from resonantgenesis_server.codec.json import dumps
from resonantgenesis_server.codec.sse import chunk_json
from resonantgenesis_server.feed.compact import MERGED_BYTES, compact
from resonantgenesis_server.log.base import Entry

pieces = st.lists(
    st.one_of(
        st.text(max_size=20).map(lambda text: ("message", {"type": "text", "content": text})),
        st.sampled_from(["step", "tool_call", "done", "error"]).map(lambda k: (k, {"type": k})),
        st.integers(1, 3).map(
            lambda n: ("message", {"type": "text", "content": "\u2028" * (n * 20_000)})
        ),
    ),
    max_size=40,
)


def log_of(chunks: list[tuple[str, dict[str, Any]]], first: int = 1) -> list[Entry]:
    return [Entry(first + n, kind, dumps(body), n) for n, (kind, body) in enumerate(chunks)]


def shown(entries: list[Entry]) -> list[dict[str, Any]]:
    return [orjson.loads(chunk_json(entry)) for entry in entries]


@settings(max_examples=200)
@given(pieces, st.integers(1, 1_000))
def test_the_same_text_in_ranges_that_join(
    chunks: list[tuple[str, dict[str, Any]]], first: int
) -> None:
    entries = log_of(chunks, first)
    merged = list(compact(entries))
    # Between chunks that are no text, the text is the same.
    assert _by_turns(shown(merged)) == _by_turns(shown(entries))
    # Ranges join without gap or overlap, and cover everything.
    place = first
    for chunk in shown(merged):
        assert chunk.get("from", chunk["position"]) == place
        place = chunk["position"] + 1
    assert place == first + len(entries)
    # The limit holds, and nothing is left apart that would have fitted together.
    for left, right in pairwise(merged):
        if left.kind == right.kind == "message":
            assert _parts(entries, left) + _size(_first(entries, left)) > MERGED_BYTES
    assert all(_size(e) <= MERGED_BYTES + 50 or "from" not in orjson.loads(e.body) for e in merged)


def _by_turns(chunks: list[dict[str, Any]]) -> list[str]:
    """Text joined between the other chunks, which stand for themselves."""
    found = [""]
    for chunk in chunks:
        if chunk["type"] == "text":
            found[-1] += chunk["content"]
        else:
            found += [f"<{chunk['type']} {chunk['position']}>", ""]
    return found


def _size(entry: Entry) -> int:
    """Of its text."""
    return len(entry.body) - len(b'{"type":"text","content":""}')


def _first(entries: list[Entry], merged: Entry) -> Entry:
    return entries[merged.position + 1 - entries[0].position]


def _parts(entries: list[Entry], merged: Entry) -> int:
    first = orjson.loads(merged.body).get("from", merged.position)
    base = entries[0].position
    return sum(_size(e) for e in entries[first - base : merged.position + 1 - base])


def test_one_chunk_alone_stays_as_it_is() -> None:
    entries = log_of([("message", {"type": "text", "content": "a"}), ("done", {"type": "done"})])
    assert list(compact(entries)) == entries
    assert list(compact([])) == []


def test_ten_thousand_words_become_one_chunk() -> None:
    entries = log_of([("message", {"type": "text", "content": "w "})] * 5_000)
    (only,) = shown(list(compact(entries)))
    assert only == {"type": "text", "content": "w " * 5_000, "from": 1, "position": 5_000}


def test_text_of_sub_agents_stays_as_it_is_and_ends_a_run() -> None:
    own = ("message", {"type": "text", "content": 'a "agent_id":'})
    other = ("message", {"type": "text", "content": "b", "agent_id": "helper"})
    merged = shown(list(compact(log_of([own, own, other, other, own]))))
    assert [(chunk.get("from"), chunk["position"]) for chunk in merged] == [
        (1, 2),
        (None, 3),
        (None, 4),
        (None, 5),
    ]
