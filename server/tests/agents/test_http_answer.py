"""The answer of an endpoint, however its bytes are cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.agents.engines.http import engine
from resonantgenesis_server.agents.engines.http.answer import AnswerDecoder, decoder_of
from resonantgenesis_server.agents.remote import BadChunk

BODIES = {
    "application/x-ndjson": b'"one"\n\r\n {"type":"text"}\r\n\n3\n"no end of line"',
    "text/event-stream": b': hb\ndata: "one"\n\ndata: {"a":\r\ndata:1}\r\n\r\nid: 3\ndata: "cut"\n',
}


def decoder(kind: str) -> AnswerDecoder:
    found = decoder_of(kind)
    assert found is not None
    return found


def read(kind: str, pieces: list[bytes]) -> list[object]:
    made = decoder(kind)
    values = [value for piece in pieces for value in made.feed(piece)]
    return [*values, *made.end()]


@given(st.sampled_from(sorted(BODIES)), st.lists(st.integers(0, 80)))
def test_cuts_change_nothing(kind: str, cuts: list[int]) -> None:
    body = BODIES[kind]
    places = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    pieces = [body[one:other] for one, other in pairwise(places)]
    assert read(kind, pieces) == read(kind, [body])
    assert len(read(kind, [body])) == (4 if kind == "application/x-ndjson" else 2)


@pytest.mark.parametrize("kind", sorted(BODIES))
def test_a_line_without_end_is_refused(kind: str) -> None:
    made = decoder(kind)
    with pytest.raises(BadChunk, match="over 1000000 bytes"):
        for _ in range(1_000_001):  # each piece costs the same, however much came before
            list(made.feed(b"x"))


class Buffered:
    """A response whose bytes have all come, each in a piece of its own."""

    status = 200
    headers = ((b"transfer-encoding", b"chunked"),)

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def aiter_stream(self) -> AsyncIterator[bytes]:
        for byte in self._body:
            yield bytes([byte])


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["text/plain", "application/x-ndjson"])
async def test_an_answer_in_single_bytes_lets_others_run(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_LOOP_SECONDS", 0.0)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(other())
    response: Any = Buffered(b'"a"' + b" " * 500)
    assert [value async for value in engine._values(response, decoder(kind))]
    task.cancel()
    assert turns >= 400
