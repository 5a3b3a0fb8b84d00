"""Frames that are no messages: every one counts, and reading pauses while there are too many."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from resonantgenesis_server.http.limits import Allowance
from ws_echo import FAST
from ws_harness import KEY, Server
from ws_raw import CLOSE, CONT, PING, PONG, TEXT, Frame, Raw, encode

END = encode(TEXT, b"end")
#: Each 300 frames and more, where 200 may come at once.
FLOODS = {
    "pings": encode(PING, b"0123456789") * 300 + END,
    "pongs": encode(PONG, b"0123456789") * 300 + END,
    "empty fragments": encode(TEXT, b"end", fin=False)
    + (encode(CONT, fin=False) + encode(PONG, b"0123456789")) * 150
    + encode(CONT),
    "fragments of a byte": encode(TEXT, b"e", fin=False)
    + encode(CONT, b"n", fin=False)
    + encode(CONT, b"", fin=False) * 400
    + encode(CONT, b"d"),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_is_read_no_faster_than_messages_may_come(port: int, name: str) -> None:
    with Raw(port) as raw, Raw(port) as other:
        began = time.monotonic()
        raw.send(FLOODS[name])
        other.frame(TEXT, b"other")
        assert other.read() == Frame(TEXT, b"other")
        while (frame := raw.read()).opcode != TEXT:
            assert frame.opcode == PONG
        assert frame == Frame(TEXT, b"end")
        assert time.monotonic() - began > 1  # half of the burst has to come back
        raw.frame(TEXT, b"on")
        assert raw.read() == Frame(TEXT, b"on")


def test_many_messages_in_one_packet_come_one_by_one(raw: Raw) -> None:
    sent = [b"%d" % n for n in range(3_000)]
    raw.send(b"".join([encode(TEXT, each) for each in sent]))
    assert [raw.read().payload for _ in sent] == sent


@pytest.mark.parametrize("fragments", [1_024, 1_025])
def test_a_message_has_so_many_fragments_at_most(port: int, fragments: int) -> None:
    with Raw(port, path=FAST) as raw:
        raw.frame(TEXT, b"x", fin=False)
        raw.send(encode(CONT, fin=False) * (fragments - 2) + encode(CONT, b"y"))
        if fragments == 1_024:
            assert raw.read() == Frame(TEXT, b"xy")
        else:
            assert raw.read_close() == 1009


@pytest.mark.anyio
async def test_what_comes_behind_too_many_messages_is_not_read_at_once(server: Server) -> None:
    bearer = {"Authorization": f"Bearer {KEY}"}

    def flood() -> int:
        with Raw(server.port, path="/v1/ws", headers=bearer) as raw:
            raw.send(encode(TEXT, b'{"type":"ping"}') * 3_000)
            while (frame := raw.read()).opcode != CLOSE:
                pass
            raw.send(encode(CLOSE, frame.payload))
            code = int.from_bytes(frame.payload[:2], "big")
            raw.socket.settimeout(0.5)
            try:
                raw.socket.recv(1)
            except TimeoutError:
                return code
            return 0  # it was read to its end at once

    assert await asyncio.to_thread(flood) == 4429


@pytest.mark.anyio
@pytest.mark.parametrize("credential", [KEY, None], ids=["authenticated", "before auth"])
async def test_frames_and_messages_share_what_is_allowed(
    server: Server, credential: str | None
) -> None:
    loop = asyncio.get_running_loop()
    async with server.connect(credential) as client:
        began = loop.time()
        for _ in range(199):
            await client.ws.pong()
        for _ in range(20):
            await client.ws.ping()
        await client.send("ping")
        answer = await client.receive()
        assert answer["type"] == ("pong" if credential else "error")
        assert loop.time() - began > 0.9
        # What was awaited is enough for messages that follow.
        for _ in range(10):
            await client.send("ping")
        for _ in range(10):
            assert (await client.receive())["type"] == answer["type"]


@given(st.lists(st.tuples(st.floats(0, 0.1), st.integers(1, 400)), max_size=60))
def test_over_any_time_no_more_is_read_than_is_allowed(steps: list[tuple[float, int]]) -> None:
    allowance, now, read = Allowance(100.0, 0.0), 0.0, 0
    for pause, frames in steps:
        now += pause
        wait = allowance.charge(now, frames)
        read += frames
        assert (wait == 0) == (read <= 200 + now * 100 - 1 + 1e-6) or now > 0
        now += wait
        assert wait == 0 or wait >= 0.99
    assert read <= 200 + 400 + now * 100
