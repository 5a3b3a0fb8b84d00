"""RFC 7692 against an echo on the same protocol class and settings as `serve`."""

from __future__ import annotations

import pytest
from ws_raw import (
    BINARY,
    CONT,
    PING,
    PONG,
    RSV1,
    RSV2,
    TEXT,
    Deflate,
    Frame,
    Raw,
    encode,
    inflate_alone,
)

LIMIT = 256 * 1024
OFFER = "permessage-deflate; client_max_window_bits"
GOOD_TEXT = "Hellö ⇄ \U0001f600 \x00 \u2028".encode()


def test_compression_is_agreed_on_without_context_of_the_server(port: int) -> None:
    with Raw(port, extensions=OFFER) as raw:
        agreed = raw.headers["sec-websocket-extensions"]
    assert agreed.startswith("permessage-deflate")
    assert "server_no_context_takeover" in agreed
    with Raw(port) as raw:
        assert "sec-websocket-extensions" not in raw.headers


@pytest.mark.parametrize("size", [0, 1, 127, 128, 65_535, 70_000, LIMIT])
@pytest.mark.parametrize("keep", [True, False])
def test_compressed_messages_come_back(port: int, size: int, keep: bool) -> None:
    offer = OFFER if keep else OFFER + "; client_no_context_takeover"
    with Raw(port, extensions=offer) as raw:
        deflate = Deflate(keep=keep)
        payload = (b"some text to repeat " * (size // 20 + 1))[:size]
        for _ in range(3):
            raw.frame(TEXT, deflate(payload), rsv=RSV1)
            back = raw.read()
            assert (back.opcode, back.rsv) == (TEXT, RSV1)
            assert inflate_alone(back.payload, 12) == payload


def test_equal_messages_compress_to_equal_bytes(port: int) -> None:
    with Raw(port, extensions=OFFER) as one, Raw(port, extensions=OFFER) as two:
        payload = b"the same words again and again, " * 20
        frames = []
        for raw in (one, two):
            deflate = Deflate()
            for _ in range(3):
                raw.frame(TEXT, deflate(payload), rsv=RSV1)
                frames.append(raw.read())
        assert len(set(frames)) == 1
        assert len(frames[0].payload) < len(payload) / 4


def test_a_clients_context_goes_over_messages(port: int) -> None:
    with Raw(port, extensions=OFFER) as raw:
        deflate = Deflate()
        first = deflate(bytes(range(200)))
        again = deflate(bytes(range(200)))
        assert len(again) < len(first) / 4
        for payload in (first, again):
            raw.frame(BINARY, payload, rsv=RSV1)
            assert inflate_alone(raw.read().payload) == bytes(range(200))


def test_compressed_fragments(port: int) -> None:
    with Raw(port, extensions=OFFER) as raw:
        payload = Deflate()(GOOD_TEXT * 50)
        raw.frame(TEXT, payload[:7], fin=False, rsv=RSV1)
        raw.frame(PING, b"between")
        raw.frame(CONT, payload[7:30], fin=False)
        raw.frame(CONT, payload[30:])
        assert raw.read() == Frame(PONG, b"between")
        assert inflate_alone(raw.read().payload) == GOOD_TEXT * 50


def test_plain_messages_may_come_between(port: int) -> None:
    with Raw(port, extensions=OFFER) as raw:
        deflate = Deflate()
        for payload in (b"one" * 50, b"two" * 50):
            raw.frame(TEXT, payload)
            assert inflate_alone(raw.read().payload) == payload
            raw.frame(TEXT, deflate(payload), rsv=RSV1)
            assert inflate_alone(raw.read().payload) == payload


def broken_deflate() -> list[tuple[bytes, int]]:
    good = Deflate()(b"x" * 500)
    bomb = Deflate()(b"\x00" * 20_000_000)
    return [
        (encode(TEXT, b"\xff" * 50, rsv=RSV1), 1002),
        (encode(TEXT, Deflate()(b"\xff"), rsv=RSV1), 1007),
        (encode(BINARY, bomb, rsv=RSV1), 1009),
        (encode(PING, b"x", rsv=RSV1), 1002),
        (encode(TEXT, good[:3], fin=False, rsv=RSV1) + encode(CONT, good[3:], rsv=RSV1), 1002),
        (encode(TEXT, b"x", rsv=RSV2), 1002),
    ]


@pytest.mark.parametrize("number", range(len(broken_deflate())))
def test_broken_compression_ends_the_connection(port: int, number: int) -> None:
    data, code = broken_deflate()[number]
    with Raw(port, extensions=OFFER) as raw, Raw(port, extensions=OFFER) as other:
        raw.send(data)
        assert raw.read_close() == code
        other.frame(TEXT, b"on")
        assert other.read().opcode == TEXT


@pytest.mark.parametrize(
    ("offer", "agreed"),
    [
        ("permessage-deflate", True),
        ("permessage-deflate; server_max_window_bits=9", True),
        ("permessage-deflate; server_max_window_bits=15; client_max_window_bits=15", True),
        ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", True),
        ("permessage-deflate; server_max_window_bits=7, permessage-deflate", True),
        ("permessage-deflate; server_max_window_bits=16", False),
        ("permessage-deflate; unknown=1", False),
        ("permessage-deflate; server_no_context_takeover=1", False),
        ("x-webkit-deflate-frame", False),
    ],
)
def test_offers(port: int, offer: str, agreed: bool) -> None:
    with Raw(port, extensions=offer) as raw:
        assert raw.status == 101
        answer = raw.headers.get("sec-websocket-extensions")
        assert (answer is not None) == agreed
        bits = 9 if "server_max_window_bits=9" in offer else 12
        raw.frame(TEXT, b"abc" * 3_000)
        back = raw.read().payload
        assert (inflate_alone(back, bits) if agreed else back) == b"abc" * 3_000
