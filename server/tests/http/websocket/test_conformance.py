"""RFC 6455 against an echo on the same protocol class and settings as `serve`."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from ws_echo import FAST
from ws_raw import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    RSV1,
    RSV2,
    RSV3,
    TEXT,
    Frame,
    Raw,
    close_payload,
    encode,
)

LIMIT = 256 * 1024


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 128, 65_535, 65_536, LIMIT])
def test_every_length_comes_back(raw: Raw, opcode: int, size: int) -> None:
    payload = b"*" * size
    raw.frame(opcode, payload)
    assert raw.read() == Frame(opcode, payload)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 300])
def test_a_frame_that_comes_byte_by_byte(raw: Raw, size: int) -> None:
    raw.dribble(encode(TEXT, b"d" * size))
    assert raw.read() == Frame(TEXT, b"d" * size)


@pytest.mark.parametrize("parts", [[LIMIT + 1], [LIMIT, 1], [200_000, 0, 62_145]])
def test_a_message_over_the_limit_ends_with_1009(raw: Raw, parts: list[int]) -> None:
    for number, size in enumerate(parts):
        last = number == len(parts) - 1
        raw.frame(CONT if number else BINARY, b"x" * size, fin=last)
    assert raw.read_close() == 1009


def test_an_announced_length_is_believed_before_the_bytes_come(raw: Raw) -> None:
    raw.send(b"\x82\xff" + (2**63 - 1).to_bytes(8, "big") + b"mask")
    assert raw.read_close() == 1009


# -- ping and pong ---------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [b"", b"hello", bytes(range(125)), b"\xfe" * 125])
def test_a_ping_is_answered_with_its_payload(raw: Raw, payload: bytes) -> None:
    raw.frame(PING, payload)
    assert raw.read() == Frame(PONG, payload)
    raw.dribble(encode(PING, payload))
    assert raw.read() == Frame(PONG, payload)


def test_pings_are_answered_in_order(raw: Raw) -> None:
    raw.send(b"".join([encode(PING, b"%d" % n) for n in range(50)]))
    assert [raw.read().payload for _ in range(50)] == [b"%d" % n for n in range(50)]


def test_pongs_nobody_asked_for_are_ignored(raw: Raw) -> None:
    raw.frame(PONG, b"unasked")
    raw.frame(PONG)
    raw.frame(TEXT, b"on")
    assert raw.read() == Frame(TEXT, b"on")


@pytest.mark.parametrize("opcode", [PING, PONG, CLOSE])
def test_control_frames_are_short_and_whole(port: int, opcode: int) -> None:
    with Raw(port) as raw:
        raw.frame(opcode, b"\x03\xe8" + b"x" * 124)
        assert raw.read_close() == 1002
    with Raw(port) as raw:
        raw.frame(opcode, b"", fin=False)
        assert raw.read_close() == 1002


def test_every_ping_of_a_flood_is_answered_in_order(port: int) -> None:
    with Raw(port, path=FAST) as raw:
        count = 10_000
        sender = threading.Thread(
            target=lambda: raw.send(b"".join([encode(PING, b"%0100d" % n) for n in range(count)]))
        )
        sender.start()
        assert [int(raw.read().payload) for _ in range(count)] == list(range(count))
        sender.join(10)
        raw.frame(TEXT, b"alive")
        assert raw.read() == Frame(TEXT, b"alive")


# -- bits and opcodes ------------------------------------------------------------------------


@pytest.mark.parametrize("rsv", [RSV1, RSV2, RSV3, RSV1 | RSV2, RSV1 | RSV2 | RSV3])
@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, CLOSE])
def test_reserved_bits_end_the_connection(port: int, opcode: int, rsv: int) -> None:
    with Raw(port) as raw:
        raw.frame(TEXT, b"before")
        assert raw.read() == Frame(TEXT, b"before")
        raw.frame(opcode, b"", rsv=rsv)
        assert raw.read_close() == 1002


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
def test_reserved_opcodes_end_the_connection(raw: Raw, opcode: int) -> None:
    raw.frame(opcode, b"what")
    assert raw.read_close() == 1002


@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, CLOSE])
def test_a_client_must_mask(raw: Raw, opcode: int) -> None:
    raw.frame(opcode, b"", masked=False)
    assert raw.read_close() == 1002


# -- fragmentation ---------------------------------------------------------------------------


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("sizes", [[3, 4], [0, 0], [0, 5, 0], [5, 0], [1] * 200, [70_000, 70_000]])
def test_fragments_make_one_message(raw: Raw, opcode: int, sizes: list[int]) -> None:
    for number, size in enumerate(sizes):
        raw.frame(CONT if number else opcode, b"f" * size, fin=number == len(sizes) - 1)
    assert raw.read() == Frame(opcode, b"f" * sum(sizes))


def test_control_frames_between_fragments_are_answered_first(raw: Raw) -> None:
    raw.frame(TEXT, b"one ", fin=False)
    raw.frame(PING, b"p1")
    assert raw.read() == Frame(PONG, b"p1")
    raw.frame(CONT, b"two ", fin=False)
    raw.frame(PONG, b"unasked")
    raw.frame(PING, b"p2")
    assert raw.read() == Frame(PONG, b"p2")
    raw.frame(CONT, b"three")
    assert raw.read() == Frame(TEXT, b"one two three")


def test_a_close_between_fragments_ends_the_connection(raw: Raw) -> None:
    raw.frame(TEXT, b"one ", fin=False)
    raw.frame(CLOSE, close_payload(1000))
    assert raw.read_close() in {1000, 1002}


BROKEN = [
    [encode(CONT, b"x")],
    [encode(CONT, b"x", fin=False)],
    [encode(TEXT, b"a"), encode(CONT, b"x")],
    [encode(TEXT, b"a", fin=False), encode(TEXT, b"x")],
    [encode(TEXT, b"a", fin=False), encode(BINARY, b"x", fin=False)],
    [encode(TEXT, b"a", fin=False), encode(CONT, b"b"), encode(CONT, b"x")],
]


@pytest.mark.parametrize("frames", BROKEN)
def test_fragments_out_of_order_end_the_connection(raw: Raw, frames: list[bytes]) -> None:
    raw.send(b"".join(frames))
    assert raw.read_close() == 1002


# -- UTF-8 -----------------------------------------------------------------------------------

GOOD_TEXT = "Hellö ⇄ \U0001f600 \x00\ufffe\U0010ffff \u2028".encode()


@pytest.mark.parametrize("cut", range(len(GOOD_TEXT) + 1))
def test_a_character_may_lie_across_fragments(raw: Raw, cut: int) -> None:
    raw.frame(TEXT, GOOD_TEXT[:cut], fin=False)
    raw.frame(PING)
    raw.frame(CONT, GOOD_TEXT[cut:])
    assert raw.read() == Frame(PONG, b"")
    assert raw.read() == Frame(TEXT, GOOD_TEXT)


BAD_TEXTS = [
    b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\x80", b"\xc0\xaf", b"\xe0\x80\xaf",
    b"\xf0\x80\x80\xaf", b"\xc1\xbf", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xed\xa0\x80\xed\xb0\x80",
    b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80", b"\xc3\x28",
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_TEXTS)
@pytest.mark.parametrize("frame", [b"", b"before ", "\U0001f600".encode()])
def test_a_text_that_is_not_utf8_ends_with_1007(port: int, bad: bytes, frame: bytes) -> None:
    with Raw(port) as raw:
        raw.frame(TEXT, frame + bad)
        assert raw.read_close() == 1007
    with Raw(port) as raw:
        raw.frame(TEXT, frame + bad[:1], fin=False)
        raw.frame(CONT, bad[1:])
        assert raw.read_close() == 1007


def test_only_the_first_bad_text_counts(raw: Raw) -> None:
    raw.send(encode(TEXT, b"\xff") * 3 + encode(PING) + encode(TEXT, b"x"))
    assert raw.read_close() == 1007


def test_binary_messages_need_be_nothing(raw: Raw) -> None:
    raw.frame(BINARY, bytes(range(256)))
    assert raw.read() == Frame(BINARY, bytes(range(256)))


# -- closing ---------------------------------------------------------------------------------

VALID = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999,
         4000, 4999]  # fmt: skip
INVALID = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535]


@pytest.mark.parametrize("payload", [b"", *[close_payload(c) for c in VALID],
                                     close_payload(1000, b"r" * 123),
                                     close_payload(1000, "grüße".encode())])  # fmt: skip
def test_a_close_is_answered_with_the_same(raw: Raw, payload: bytes) -> None:
    raw.frame(CLOSE, payload)
    assert raw.read() == Frame(CLOSE, payload)
    assert raw.at_end()


@pytest.mark.parametrize("code", INVALID)
def test_codes_that_may_not_be_sent(raw: Raw, code: int) -> None:
    raw.frame(CLOSE, close_payload(code))
    assert raw.read_close() == 1002


def test_bad_closes(port: int) -> None:
    with Raw(port) as raw:
        raw.frame(CLOSE, b"\x03")
        assert raw.read_close() == 1002
    with Raw(port) as raw:
        raw.frame(CLOSE, close_payload(1000, b"\xff"))
        assert raw.read_close() == 1007


@pytest.mark.parametrize(
    "after",
    [encode(TEXT, b"x"), encode(PING), encode(CLOSE), b"\xff\xff"],
    ids=["text", "ping", "close", "garbage"],  # masks are random, names must not be
)
def test_what_follows_a_close_is_ignored(raw: Raw, after: bytes) -> None:
    raw.send(encode(CLOSE, close_payload(1000)) + after)
    assert raw.read() == Frame(CLOSE, close_payload(1000))
    assert raw.at_end()


def test_a_reset_in_the_middle_of_a_frame_disturbs_nobody(port: int) -> None:
    with Raw(port) as other:
        for cut in (1, 2, 5, 50):
            with Raw(port) as raw:
                raw.send(encode(TEXT, b"x" * 100)[:cut])
        other.frame(TEXT, b"on")
        assert other.read() == Frame(TEXT, b"on")


# -- the handshake ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-WebSocket-Version": "12"}, 426),
        ({"Sec-WebSocket-Version": None}, 426),
        ({"Sec-WebSocket-Key": None}, 400),
        ({"Sec-WebSocket-Key": "short"}, 400),
        ({"Sec-WebSocket-Key": "!" * 24}, 400),
        ({"X-Long": "x" * 20_000}, 431),
        ({"Sec-WebSocket-Extensions": "; ;"}, 400),
    ],
)
def test_bad_handshakes_are_refused(port: int, headers: dict[str, Any], status: int) -> None:
    with Raw(port, headers=headers) as raw:
        assert raw.status == status


def test_only_get_may_upgrade(port: int) -> None:
    with Raw(port, method="PUT", headers={"Content-Length": "0"}) as raw:
        assert raw.status in {400, 405}
