"""Session chunks as server-sent events."""

from __future__ import annotations

import orjson
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.codec.json import dumps
from resonantgenesis_server.codec.sse import chunk_frame, chunk_json
from resonantgenesis_server.log.base import Entry

#: Where the line readers of the field break lines, JSON allowing the last three to stand raw.
BREAKERS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
hostile = st.text(st.one_of(st.characters(exclude_categories=("Cs",)), st.sampled_from(BREAKERS)))


@given(hostile, st.integers(1, 2**31))
def test_a_frame_is_three_lines_for_every_line_reader(text: str, position: int) -> None:
    entry = Entry(position, "message", dumps({"type": "text", "content": text}), 1)
    frame = chunk_frame(entry).decode()
    assert frame.endswith("\n\n")
    first, second, third, last = frame.splitlines()
    assert (first, second, last) == (f"id: {position}", "event: message", "")
    assert third.startswith("data: ")
    data = orjson.loads(third.removeprefix("data: "))
    assert data == {"type": "text", "content": text, "position": position}
    assert chunk_json(entry) == third.removeprefix("data: ").encode()


def test_the_three_separators_are_escaped() -> None:
    body = dumps({"type": "text", "content": "a\x85b\u2028c\u2029d"})
    assert body == b'{"type":"text","content":"a\\u0085b\\u2028c\\u2029d"}'


def test_a_frame_is_made_once() -> None:
    entry = Entry(7, "done", b'{"type":"done"}', 1)
    assert chunk_frame(entry) is chunk_frame(entry)
    assert chunk_frame(entry) == b'id: 7\nevent: done\ndata: {"type":"done","position":7}\n\n'
