"""Turns for the encoders: any chunks in any order, whole or broken off."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from resonantgenesis_server.codec.json import dumps
from resonantgenesis_server.log.base import Entry

_TEXT = st.text(min_size=1, max_size=8)
_ID = st.sampled_from(["call_1", "call_2", "call_3"])


def chunk(event: str, /, **fields: Any) -> tuple[str, dict[str, Any]]:
    return event, fields


CHUNKS = st.one_of(
    st.builds(lambda text: chunk("message", content=text), _TEXT),
    st.builds(lambda text: chunk("reasoning", content=text), _TEXT),
    st.builds(
        lambda status, text: chunk("step", step=1, name="s", status=status, detail=text),
        st.sampled_from(["started", "progress", "completed"]),
        _TEXT,
    ),
    st.builds(lambda call: chunk("tool_call", call_id=call, tool="t", args={"a": 1}), _ID),
    st.builds(
        lambda call, bad: chunk("tool_result", call_id=call, tool="t", result="r", is_error=bad),
        _ID,
        st.booleans(),
    ),
    st.builds(lambda text: chunk("data", name="n", data=text), _TEXT),
    st.builds(
        lambda call, kind: chunk("input_required", call_id=call, kind=kind, tool="t", args={}),
        _ID,
        st.sampled_from(["approval", "input", "tool"]),
    ),
    st.builds(lambda call: chunk("input", call_id=call, approved=False, status="answered"), _ID),
    st.just(chunk("of_a_later_version", anything=1)),
)
ENDS = st.sampled_from(
    [
        [chunk("done", status="success", usage={"input_tokens": 1})],
        [chunk("done", status="cancelled", usage={})],
        [chunk("error", code="TIMEOUT", message="late"), chunk("done", status="timeout", usage={})],
        [chunk("waiting", calls=["call_1"])],
        [],
    ]
)
TURNS = st.builds(lambda chunks, end: entries([*chunks, *end]), st.lists(CHUNKS, max_size=30), ENDS)
#: Turns that wait on their way, and go on.
WAITING_TURNS = st.builds(
    lambda parts, end: entries([*(one for part in parts for one in part), *end]),
    st.lists(
        st.lists(CHUNKS, max_size=10).map(lambda part: [*part, chunk("waiting", calls=["call_1"])]),
        max_size=3,
    ),
    ENDS,
)


#: The types of chunks whose events have another name.
_TYPES = {"message": "text"}


def entries(chunks: list[tuple[str, dict[str, Any]]]) -> list[Entry]:
    return [
        Entry(number, kind, dumps({"type": _TYPES.get(kind, kind), **fields}), 0)
        for number, (kind, fields) in enumerate(chunks, 1)
    ]
