"""Tool calls as servers send them: every mixture of index, id, name and pieces says the same."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from resonantgenesis_server.agents.engines.llm.calls import CallRequest
from resonantgenesis_server.agents.engines.llm.openai.decoder import ChatDecoder

Json = dict[str, Any]
values = st.one_of(st.integers(0, 9), st.text('{}"ab: ,', max_size=5), st.just({"in": {}}))
arguments = st.dictionaries(st.sampled_from("abc"), values, max_size=3)
called = st.lists(st.tuples(st.sampled_from(["search", "sum"]), arguments), min_size=1, max_size=4)


@dataclass(frozen=True)
class Dialect:
    """How a server writes its calls."""

    index: str  # right, from 1, text, absent, null, empty, zero
    ids: str  # once, each, one (for all calls), fresh (in each piece), absent, null, empty
    names: str  # once, each
    head: bool  # id and name come before the arguments
    batch: bool  # the first pieces of all calls in one delta, and so on
    as_object: bool

    @property
    def is_clear(self) -> bool:
        """Whether anybody could tell the calls apart."""
        if self.ids == "fresh" and self.names == "each" and self.head:
            return False
        by_index = self.index in {"right", "from 1", "text"}
        if self.batch:  # side by side: each piece says whose it is
            return by_index or self.ids == "each"
        return by_index or self.ids in {"once", "each"} or not self.head or self.names == "once"

    def places(self, number: int) -> Json:
        index: Json = {
            "right": {"index": number},
            "from 1": {"index": number + 1},
            "text": {"index": str(number)},
            "null": {"index": None},
            "empty": {"index": ""},
            "zero": {"index": 0},
            "absent": {},
        }
        place: Json = index[self.index]
        return place

    def id_of(self, number: int, piece: int) -> Json:
        ids: Json = {
            "once": {"id": f"id-{number}"} if piece == 0 else {},
            "each": {"id": f"id-{number}"},
            "one": {"id": "call"} if piece == 0 else {},
            "fresh": {"id": f"id-{number}-{piece}"},
            "null": {"id": None},
            "empty": {"id": ""},
            "absent": {},
        }
        given_id: Json = ids[self.ids]
        return given_id

    def pieces(self, number: int, name: str, args: Json, cuts: list[int]) -> list[Json]:
        text = json.dumps(args)
        places = [0, *sorted({cut % len(text) for cut in cuts} - {0}), len(text)]
        parts: list[Any] = [text[a:b] for a, b in itertools.pairwise(places)]
        if self.as_object:
            parts = [args]
        if self.head:
            parts.insert(0, "")
        return [
            {
                **self.places(number),
                **self.id_of(number, piece),
                "type": "function",
                "function": {
                    **({"name": name} if piece == 0 or self.names == "each" else {}),
                    "arguments": part,
                },
            }
            for piece, part in enumerate(parts)
        ]


dialects = st.builds(
    Dialect,
    st.sampled_from(["right", "from 1", "text", "absent", "null", "empty", "zero"]),
    st.sampled_from(["once", "each", "one", "fresh", "absent", "null", "empty"]),
    st.sampled_from(["once", "each"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


@settings(max_examples=400)
@given(called, dialects, st.lists(st.integers(1, 99), max_size=3))
def test_as_many_calls_come_out_as_the_model_made(
    calls: list[tuple[str, Json]], dialect: Dialect, cuts: list[int]
) -> None:
    assume(dialect.is_clear)
    if dialect.ids == "one" and dialect.index not in {"right", "from 1", "text"}:
        # Else the same call once more, as some servers send it at the end.
        assume(len({json.dumps(call) for call in calls}) == len(calls))
    written = [dialect.pieces(n, *call, cuts) for n, call in enumerate(calls)]
    deltas = [[piece] for pieces in written for piece in pieces]
    if dialect.batch:
        longest = max(map(len, written))
        deltas = [[p[n] for p in written if n < len(p)] for n in range(longest)]
    decoder = ChatDecoder()
    out: list[Any] = []
    for delta in deltas:
        event = {"choices": [{"delta": {"tool_calls": delta}}]}
        out += decoder.feed(b"data: " + json.dumps(event).encode() + b"\n\n")
    out += decoder.feed(b'data: {"choices":[{"delta":{},"finish_reason":"tool_calls"}]}\n\n')
    out += decoder.close()
    found = [(r.tool, json.loads(r.arguments or "0")) for r in out if isinstance(r, CallRequest)]
    assert found == calls
