"""The fold of a turn's chunks into its message: it can stop anywhere and go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.codec import messages
from resonantgenesis_server.codec.messages import AnswerFold
from resonantgenesis_server.feed.compact import compact
from resonantgenesis_server.log.base import Entry

Json = dict[str, Any]
CASES = yaml.safe_load(
    (Path(__file__).parents[3] / "protocol" / "messages.yaml").read_text("utf-8")
)["cases"]

_words = st.text("ab ü", max_size=6)
_ids = st.sampled_from(["c1", "c2", "c3"])
_authors = st.sampled_from([{}, {}, {"agent_id": "sub", "parent": "c1"}])


def _chunk(type_: str, **fields: Any) -> st.SearchStrategy[Json]:
    known = st.fixed_dictionaries({"type": st.just(type_), **fields})
    return st.tuples(known, _authors).map(lambda two: {**two[0], **two[1]})


CHUNKS = st.one_of(
    _chunk("text", content=_words),
    _chunk("reasoning", content=_words),
    _chunk("tool_call", tool=st.just("t"), args=st.just({"a": 1}), call_id=_ids),
    _chunk("tool_result", tool=st.just("t"), result=_words, call_id=_ids, is_error=st.booleans()),
    _chunk("step", step=st.integers(1, 3), name=st.just("s"), status=st.just("started")),
    _chunk(
        "step",
        step=st.integers(1, 3),
        name=st.just("s"),
        status=st.sampled_from(["progress", "completed"]),
        detail=_words,
    ),
    _chunk("source", url=_words),
    _chunk("file", file_id=_ids, name=_words, content_type=_words, size=st.integers(0, 9)),
    _chunk("data", name=st.just("d"), id=_ids, data=_words),
    _chunk("data", name=st.just("d"), data=_words),
    _chunk("data", name=st.just("d"), id=_ids, data=_words, transient=st.just(True)),
    _chunk("user_message", message_id=_ids, content=_words, taken=st.booleans()),
    _chunk("input_required", call_id=_ids, kind=st.just("approval")),
    _chunk("input", call_id=_ids, approved=st.booleans(), status=st.just("answered")),
    _chunk("waiting", calls=st.just(["c1"])),
    _chunk("error", code=st.just("AGENT_FAILED"), message=_words, retryable=st.booleans()),
    _chunk("done", status=st.just("success"), usage=st.just({"steps": 1})),
    _chunk("of_tomorrow", content=_words),
)


def folded(chunks: list[Json]) -> Json:
    fold = AnswerFold()
    fold.add_all(chunks)
    return fold.message()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_case(case: Json) -> None:
    for cut in range(len(case["chunks"]) + 1):
        fold = AnswerFold.of(folded(case["chunks"][:cut]))
        fold.add_all(case["chunks"][cut:])
        assert fold.message() == case["message"]


@given(st.lists(CHUNKS, max_size=40), st.integers(0, 40), st.booleans())
def test_in_parts_as_at_once(chunks: list[Json], cut: int, small: bool) -> None:
    """Also where the bounds are reached."""
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr(messages, "MAX_PARTS", 8)
            patch.setattr(messages, "MAX_CHARS", 200)
            patch.setattr(messages, "MAX_PROGRESS", 5)
        first = folded(chunks[:cut])
        kept = orjson.dumps(first)
        fold = AnswerFold.of(orjson.loads(kept))
        fold.add_all(chunks[cut:])
        assert fold.message() == folded(chunks)
        assert orjson.dumps(first) == kept  # a message is not changed by later chunks


@given(st.lists(CHUNKS, max_size=40))
def test_merged_text_is_the_same(chunks: list[Json]) -> None:
    entries = [
        Entry(number, "message" if chunk["type"] == "text" else "x", orjson.dumps(chunk), 0)
        for number, chunk in enumerate(chunks, 1)
        if "agent_id" not in chunk
    ]
    whole = [orjson.loads(entry.body) for entry in entries]
    assert folded([orjson.loads(e.body) for e in compact(entries)]) == folded(whole)


@given(st.lists(CHUNKS, max_size=60))
def test_bounds_hold(chunks: list[Json]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messages, "MAX_PARTS", 5)
        patch.setattr(messages, "MAX_CHARS", 300)
        message = folded(chunks)
        assert len(message["parts"]) <= 5
        assert sum(len(p["content"]) for p in message["parts"] if p["type"] == "text") <= 300
