"""The decoder of event streams: the cases of `protocol/sse.yaml`, and the standard's own words."""

from __future__ import annotations

import base64
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis._core.sse import Frame, FrameTooLarge, SSEDecoder

from ..conftest import load_cases
from ..support.script import names

CASES = load_cases("sse.yaml")["cases"]


def piece_bytes(piece: dict[str, str]) -> bytes:
    return piece["text"].encode() if "text" in piece else base64.b64decode(piece["base64"])


def decoder_for(case: dict[str, Any]) -> SSEDecoder:
    limits = case.get("limits")
    if limits is None:
        return SSEDecoder()
    return SSEDecoder(max_line=limits["line"], max_event=limits["event"])


def check_sse(case: dict[str, Any], pieces: list[bytes]) -> None:
    decoder = decoder_for(case)
    if case.get("error"):
        with pytest.raises(FrameTooLarge):
            for piece in pieces:
                decoder.feed(piece)
        return
    frames = [frame for piece in pieces for frame in decoder.feed(piece)]
    got = [{"event": f.event, "data": f.data, "id": f.id} for f in frames]
    assert got == [{"id": "", **event} for event in case["events"]]
    assert decoder.last_event_id == case.get("last_event_id", "")
    assert decoder.retry == case.get("retry")


@pytest.mark.parametrize("case", CASES, ids=names(CASES))
def test_sse(case: dict[str, Any]) -> None:
    pieces = [piece_bytes(piece) for piece in case["pieces"]]
    check_sse(case, pieces)
    if case.get("any_split", True):
        whole = b"".join(pieces)
        check_sse(case, [whole])
        check_sse(case, [whole[i : i + 1] for i in range(len(whole))])
        for cut in range(len(whole)):
            check_sse(case, [whole[:cut], whole[cut:]])


PARTS = [b"data", b"event", b"id", b"retry", b":", b" ", b"\r", b"\n", b"\r\n", b"\n\n"]
PARTS += [b"\xef\xbb\xbf", b"\xe2\x82\xac", b"\xff", b"\0", b"x", b"12", b"\xe2\x80\xa8"]
STREAMS = st.lists(st.sampled_from(PARTS), max_size=60).map(b"".join) | st.binary(max_size=80)


def run(pieces: list[bytes]) -> tuple[list[Frame], str, float | None]:
    decoder = SSEDecoder()
    frames = [frame for piece in pieces for frame in decoder.feed(piece)]
    return frames, decoder.last_event_id, decoder.retry


@given(STREAMS, st.lists(st.integers(0, 400), max_size=12))
def test_any_split_of_the_bytes_gives_the_same_events(stream: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(edges)]
    assert run(pieces) == run([stream]) == run([bytes([byte]) for byte in stream])


@given(STREAMS)
def test_the_decoder_does_what_the_standard_writes(stream: bytes) -> None:
    assert [(f.event, f.data, f.id) for f in run([stream])[0]] == by_the_standard(stream)


def by_the_standard(stream: bytes) -> list[tuple[str, str, str]]:
    """The standard's own steps over the whole text, slow and plain."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    events = []
    event = data = identity = ""
    for line in text.split("\n")[:-1]:
        if line == "":
            if data:
                events.append((event or "message", data[:-1], identity))
            event = data = ""
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data += value + "\n"
        elif name == "event":
            event = value
        elif name == "id" and "\0" not in value:
            identity = value
    return events
