"""The events of a durable stream: however a turn is read, its chunks come once and in order."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.clients.durable_streams.encode import (
    DurableEncoder,
    cursor_after,
    offset_of,
    parse_offset,
)
from resonantgenesis_server.log.base import Entry
from resonantgenesis_server.model.errors import InvalidRequest

from .turns import TURNS


@given(TURNS, st.data())
def test_the_chunks_of_a_turn_are_one_sequence(turn: list[Entry], data: st.DataObject) -> None:
    split, tail = (data.draw(st.integers(0, len(turn))) for _ in range(2))
    encoder = DurableEncoder("e", 1, tail, "0")
    shown: list[int] = []
    for part in (turn[:split], turn[split:]):
        lines = b"".join(encoder.encode(part)).decode().splitlines()
        if not part:
            assert lines == []
            continue
        assert (lines[0], lines[3]) == ("event: data", "event: control")
        shown += [chunk["position"] for chunk in orjson.loads(lines[1].removeprefix("data: "))]
        control = orjson.loads(lines[4].removeprefix("data: "))
        closed = part[-1].kind == "done"
        assert control["streamNextOffset"] == offset_of(shown[-1], "e")
        assert control.get("streamClosed", False) == closed
        assert control.get("upToDate", False) == (closed or shown[-1] >= tail)
    assert shown == [entry.position for entry in turn]


@given(st.integers(0, 2**31), st.integers(0, 2**31))
def test_offsets_compare_as_their_positions(one: int, other: int) -> None:
    assert (offset_of(one, "e") < offset_of(other, "e")) == (one < other)
    assert parse_offset(offset_of(one, "e")) == (one, "e")


@pytest.mark.parametrize("text", ["", "1", "-2", "000000000001", "000000000001_", "x" * 60])
def test_what_is_no_offset(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_offset(text)


def test_transient_data_is_not_in_the_stream() -> None:
    encoder = DurableEncoder("e", 0, 0, "0")
    aside = [Entry(0, "data", b'{"type":"data"}', 0)]
    assert (list(encoder.encode(aside)), encoder.live(aside)) == ([], b"")


@pytest.mark.parametrize("given_cursor", [None, "", "x", "0", "9" * 30])
def test_a_cursor_is_later_than_the_one_before(given_cursor: str | None) -> None:
    cursor = cursor_after(given_cursor)
    assert int(cursor_after(cursor)) > int(cursor) or given_cursor == "9" * 30
