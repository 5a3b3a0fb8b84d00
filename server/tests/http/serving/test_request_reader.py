"""The one reader of requests: what it takes, any other reader takes for the same; the rest it
refuses, and nothing that a client sends makes it hold more than it may."""

from __future__ import annotations

import itertools
import random
from typing import Any, NamedTuple

import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from resonantgenesis_server.http.serving.request_head import (
    HEADERS_LIMIT,
    URL_LIMIT,
    Refused,
    RequestHead,
)
from resonantgenesis_server.http.serving.request_reader import RequestReader

HOST = b"Host: x\r\n"


class Message(NamedTuple):
    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    whole: bool


class Read(NamedTuple):
    """What a reader makes of bytes: its messages, and the status with which it ended."""

    messages: list[Message]
    refused: int | None = None


def read(data: bytes, cuts: tuple[int, ...] = ()) -> Read:
    """Ours, of the bytes cut at these places."""
    reader, messages = RequestReader(), []
    head, body = None, b""

    def note(whole: bool) -> None:
        if head is not None:
            headers = tuple((name, value) for name, value in head.headers)
            messages.append(Message(head.method.encode(), head.target, headers, body, whole))

    try:
        for piece in pieces(data, cuts):
            reader.feed(piece)
            while True:
                if not reader.in_body:
                    head, body = reader.head(), b""
                    if head is None:
                        break
                part, more = reader.body()
                body += part
                if not reader.in_body:
                    note(whole=True)
                    if not head.keep_alive:
                        return Read(messages)  # as the connection does, and the other reader
                    head = None
                elif not more:
                    break
    except Refused as refused:
        note(whole=False)
        return Read(messages, int(refused.status))
    note(whole=False)
    return Read(messages)


class Other:
    """httptools, as uvicorn uses it."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.target, self.body = b"", b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.in_trailers = False
        self.parser: Any = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def on_message_begin(self) -> None:
        self.target, self.body, self.headers, self.in_trailers = b"", b"", [], False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.in_trailers:
            self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.in_trailers = True

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        headers, method = tuple(self.headers), self.parser.get_method()
        self.messages.append(Message(method, self.target, headers, self.body, True))


def read_by_other(data: bytes) -> Read:
    other = Other()
    try:
        other.parser.feed_data(data)
    except httptools.HttpParserError:
        return Read(other.messages, 400)
    except httptools.HttpParserUpgrade:
        return Read(other.messages)  # behind a CONNECT or an upgrade it reads no HTTP
    return Read(other.messages)


def pieces(data: bytes, cuts: tuple[int, ...]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(places) if a < b]


METHODS = st.sampled_from([b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"CONNECT"])
TARGETS = st.sampled_from(
    [b"/", b"/v1/sessions?a=1", b"*", b"http://h/p", b"//h/p", b"/a#b", b"/a b", b"x:80", b"/%00"]
)
VERSIONS = st.sampled_from(
    [b"HTTP/1.1"] * 12
    + [b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"RTSP/1.0", b"ICE/1.0", b"http/1.1", b"HTTP/1.1 "]
)
LINES = st.sampled_from(
    [
        b"Host: x",
        b"Content-Length: 5",
        b"Content-Length: 0",
        b"Content-Length: +5",
        b"Content-Length: 5, 5",
        b"Content-Length: 0x5",
        b"Content-Length:\t5 ",
        b"Content-Length : 5",
        b"Content_Length: 5",
        b"Content-Length: 99999999999999999999",
        b"Transfer-Encoding: chunked",
        b"transfer-encoding:CHUNKED",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding:",
        b"Transfer-Encoding: \x0bchunked",
        b" Transfer-Encoding: chunked",
        b"Transfer-Encoding\x00: chunked",
        b"Connection: close",
        b"Connection: Upgrade, HTTP2-Settings",
        b"Connection: keep-alive",
        b"Proxy-Connection: Upgrade",
        b"Upgrade: h2c",
        b"Upgrade: websocket",
        b"Expect: 100-continue",
        b"X: a\rb",
        b"X: a\nHost: y",
        b"X: \x80\xff",
        b"X",
        b": x",
        b"",
    ]
)
BODIES = st.sampled_from(
    [
        b"",
        b"hello",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"0000005\r\nhello\r\n0\r\n\r\n",
        b"5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n",
        b"5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"5\nhello\n0\n\n",
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"-1\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nContent-Length: 3\r\n\r\nabc",
        b"5\r\nhello\r\n0\r\n\r",
        b"0\r\n\r\n",
        b"0\r\n",
        b"FFFFFFFFFFFFFFFFF\r\n",
        b"\r\n",
        b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    ]
)  # fmt: skip
ENDS = st.sampled_from([b"\r\n"] * 6 + [b"\n", b"\r", b"\r\r\n"])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    start = b" ".join([draw(METHODS), draw(TARGETS), draw(VERSIONS)])
    lines = [start, *draw(st.lists(LINES, max_size=4))]
    if draw(st.integers(0, 3)):
        lines.insert(1, b"Host: x")
    end = draw(ENDS)
    return b"".join(line + end for line in lines) + end + draw(BODIES)


STREAMS = st.lists(requests(), min_size=1, max_size=3).map(b"".join)
CUTS = st.tuples(*[st.integers(0, 2_000)] * 3)


def whole(told: Read) -> list[Message]:
    return [message for message in told.messages if message.whole]


def agrees(data: bytes, cuts: tuple[int, ...]) -> None:
    """What is whole to us is the same to the other, message by message; how the bytes were cut
    changes nothing."""
    ours = read(data)
    cut = read(data, cuts)
    assert (whole(cut), cut.refused) == (whole(ours), ours.refused)
    for number, message in enumerate(whole(ours)):
        if upgrades(message):
            return  # from here on the other reads no HTTP, and we do
        others = read_by_other(data).messages
        assert number < len(others), message
        other = others[number]
        assert (other.method, other.body) == (message.method, message.body)
        if other.target.startswith(b"http"):
            assert other.target.endswith(message.target)
        else:
            assert (other.target, other.headers) == (message.target, message.headers)


def upgrades(message: Message) -> bool:
    """What llhttp takes for an upgrade, whatever is asked for and whoever is asked."""
    names = [name for name, _ in message.headers]
    asks = any(
        name in {b"connection", b"proxy-connection"} and b"upgrade" in value.lower()
        for name, value in message.headers
    )
    return b"upgrade" in names and asks


@given(STREAMS, CUTS)
@example(b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", (0, 0, 0))
@example(b"GET / RTSP/1.0\r\nHost: x\r\n\r\n", (0, 0, 0))
@example(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nCONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n1", (0, 0, 0))
@settings(max_examples=300)
def test_what_we_take_another_reader_takes_for_the_same(data: bytes, cuts: tuple[int, ...]) -> None:
    agrees(data, cuts)


@given(st.data(), STREAMS, CUTS)
@settings(max_examples=200)
def test_the_same_with_bytes_that_were_damaged(
    data: st.DataObject, stream: bytes, cuts: tuple[int, ...]
) -> None:
    place = data.draw(st.integers(0, len(stream)))
    junk = data.draw(
        st.sampled_from([b"\x00", b"\n", b"\r", b" ", b"\t", b":", b"\x80", b"0", b""])
    )
    agrees(stream[:place] + junk + stream[place + 1 :], cuts)


@pytest.mark.soak
def test_the_same_for_long() -> None:
    rng = random.Random(20_261_130)
    parts = [line + b"\r\n" for line in LINES.elements] + list(BODIES.elements)  # type: ignore[attr-defined]
    starts = [b"GET / HTTP/1.1\r\n", b"POST /v1/files?name=a HTTP/1.1\r\nHost: x\r\n"]
    for _ in range(100_000):
        made = [rng.choice(starts)]
        made += rng.choices([*parts, HOST, b"\r\n", *starts], k=rng.randrange(2, 9))
        data = b"".join(made)
        agrees(data, (rng.randrange(500), rng.randrange(500), rng.randrange(500)))


# -- what is taken, and for what -------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (b"", 400),
        (HOST + HOST, 400),
        (b"Host: a b\r\n", 400),
        (b"Host: user@x\r\n", 400),
        (b"Host: x/y\r\n", 400),
        (b"Host:\r\n", None),
        (b"Host: [::1]:80\r\n", None),
        (HOST + b"Content-Length: 5\r\nContent-Length: 5\r\n", 400),
        (HOST + b"Content-Length: 5, 5\r\n", 400),
        (HOST + b"Content-Length: +5\r\n", 400),
        (HOST + b"Content-Length: -5\r\n", 400),
        (HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
        (HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
        (HOST + b"Transfer-Encoding: chunked, chunked\r\n", 400),
        (HOST + b"Transfer-Encoding: chunked, gzip\r\n", 400),
        (HOST + b"Transfer-Encoding: gzip\r\n", 400),
        (HOST + b"Transfer-Encoding: identity\r\n", 400),
        (HOST + b"Transfer-Encoding: \r\n", 400),
        (HOST + b"Transfer-Encoding: , chunked\r\n", 400),
        (HOST + b"Transfer-Encoding: gzip, chunked\r\n", 501),
        (HOST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", 501),
        (HOST + b"X : a\r\n", 400),
        (HOST + b"X: a\r\n b\r\n", 400),
        (HOST + b" X: a\r\n", 400),
        (HOST + b"X: a\x00\r\n", 400),
        (HOST + b"X: a\rb\r\n", 400),
        (HOST + b"X: a\n", 400),
        (HOST + b"Expect: 200-ok\r\n", 417),
        (HOST + b"X: a\r\n" * 300, 431),
        (HOST + b"X: " + b"a" * HEADERS_LIMIT + b"\r\n", 431),
    ],
)  # fmt: skip
def test_heads(fields: bytes, status: int | None) -> None:
    assert read(b"POST / HTTP/1.1\r\n" + fields + b"\r\n").refused == status


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET / HTTP/1.1", None),
        (b"GET / HTTP/1.0", None),
        (b"PROPFIND / HTTP/1.1", None),
        (b"FOO / HTTP/1.1", 400),
        (b"get / HTTP/1.1", 400),
        (b"helloGET / HTTP/1.1", 400),
        (b"OPTIONS * HTTP/1.1", None),
        (b"GET http://x/y HTTP/1.1", None),
        (b"GET * HTTP/1.1", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"GET / HTTP/1.1 ", 400),
        (b"GET /", 400),
        (b"GET / HTTP/1.2", 400),
        (b"GET / HTTP/2.0", 400),
        (b"GET / RTSP/1.0", 400),
        (b"GET / http/1.1", 400),
        (b"GET /#a HTTP/1.1", 400),
        (b"GET /\x80 HTTP/1.1", 400),
        (b"GET y HTTP/1.1", 400),
        (b"PRI * HTTP/2.0", 400),
        (b"CONNECT x:80 HTTP/1.1", 501),
        (b"GET /" + b"a" * URL_LIMIT + b" HTTP/1.1", 414),
        (b"G(T / HTTP/1.1", 400),
    ],
)
def test_first_lines(line: bytes, status: int | None) -> None:
    assert read(line + b"\r\n" + HOST + b"\r\n").refused == status


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x02", b"SSH-2.0-x\r\n", b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\r\nX: \x00"],
)
def test_what_cannot_become_a_request_is_refused_at_once(data: bytes) -> None:
    assert read(data).refused == 400


CHUNKED = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HOST + b"\r\n"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"1\r\nx\r\n0\r\n\r\n", None),
        (b"1;a=b\r\nx\r\n0\r\na:b\r\n\r\n", None),
        (b"1\r\nx\r\n0\r\n" + b"a:b\r\n" * 300, 431),
        (b"1\r\nx\r\n0\r\na:" + b"b" * (HEADERS_LIMIT // 2), None),
        (b"1\r\nx\r\n0\r\na:" + b"b" * HEADERS_LIMIT + b"\r\n", 431),
        (b"1\r\nx\r\n0\r\na:" + b"b" * HEADERS_LIMIT * 2, 431),
        (b"1\r\nx\r\n0\r\n" + b"a" * HEADERS_LIMIT * 2, 431),
        (b"1\r\nx\r\n0\r\na b:c\r\n", 400),
        (b"1\r\nx\r\n0\r\nContent-Length: 3\r\n", 400),
        (b"1\r\nx\r\n0\r\nHost: y\r\n", 400),
        (b"1\r\nx\r\n0\r\na:b\r\n c\r\n", 400),
        (b"1\r\nx\r\n0\r\na:b\r\r\n", 400),
        (b"1\r\nx\r\n0\r\na:\x00\r\n", 400),
        (b"1;" + b"a" * HEADERS_LIMIT * 2, 431),
        ((b"1;" + b"a" * 1_000 + b"\r\nx\r\n") * 70, 431),
        (b"0" * HEADERS_LIMIT * 2, 431),
        (b"00000000000000001\r\nx\r\n", 400),
        (b"1 \r\nx\r\n", 400),
        (b" 1\r\nx\r\n", 400),
        (b"\r\n1\r\nx\r\n", 400),
        (b"1\r\nxy\r\n", 400),
        (b"1\r\nx\n", 400),
        (b"1\nx\n", 400),
        (b"1;a\x00\r\nx\r\n", 400),
        (b"g\r\n", 400),
        (b'1;a="b;c"\r\nx\r\n0\r\n\r\n', None),
        (b'1;a="\r\nx\r\n', 400),
        (b"1;=\r\nx\r\n", 400),
        (b"+1\r\nx\r\n", 400),
    ],
)
def test_chunks(body: bytes, status: int | None) -> None:
    assert read(CHUNKED + body).refused == status
    if len(body) < 100:
        assert read(CHUNKED + body, tuple(range(len(CHUNKED), 200))).refused == status


def test_trailers_are_no_headers() -> None:
    told = read(CHUNKED + b"1\r\nx\r\n0\r\nAuthorization: Bearer x\r\n\r\n")
    assert [(each.body, each.whole) for each in told.messages] == [(b"x", True)]
    assert b"authorization" not in dict(told.messages[0].headers)


def test_trailers_and_headers_share_a_limit() -> None:
    fields = b"X: " + b"a" * (HEADERS_LIMIT - 1_000) + b"\r\n"
    head = CHUNKED[:-2] + fields + b"\r\n"
    assert read(head + b"0\r\n\r\n").refused is None
    assert read(head + b"0\r\nY: " + b"b" * 2_000 + b"\r\n\r\n").refused == 431


def test_a_few_empty_lines_before_a_request_are_passed_over() -> None:
    request = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
    assert len(read(b"\r\n\r\n" + request + b"\r\n" + request).messages) == 2
    assert read(b"\r\n" * 9 + request).refused == 400
    assert read(b"\r\n" * 100, tuple(range(0, 200, 2))).refused == 400


def test_an_upgrade_that_is_not_taken_leaves_the_body_a_body() -> None:
    """As Java's client asks, and with a request behind it that nobody sent."""
    fields = (
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIA\r\n"
    )
    inner = b"DELETE /v1/all HTTP/1.1\r\nHost: x\r\n\r\n"
    for framing, body in (
        (b"Content-Length: %d\r\n" % len(inner), inner),
        (b"Transfer-Encoding: chunked\r\n", b"%x\r\n%b\r\n0\r\n\r\n" % (len(inner), inner)),
    ):
        told = read(b"POST / HTTP/1.1\r\n" + HOST + fields + framing + b"\r\n" + body)
        assert [(each.method, each.body) for each in told.messages] == [(b"POST", inner)]


def test_an_absolute_target_names_the_host() -> None:
    (told,) = read(b"GET http://right:80?a HTTP/1.1\r\nHost: wrong\r\n\r\n").messages
    assert (told.target, dict(told.headers)[b"host"]) == (b"/?a", b"right:80")


def test_many_chunks_are_read_a_part_at_a_time() -> None:
    reader = RequestReader()
    reader.feed(CHUNKED + b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n")
    assert reader.head() is not None
    rounds, size, more = 0, 0, True
    while more:
        piece, more = reader.body()
        size += len(piece)
        rounds += 1
    assert (size, reader.in_body) == (10_000, False)
    assert rounds > 5


def test_what_waits_is_as_much_as_was_sent_and_no_more() -> None:
    reader = RequestReader()
    reader.feed(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n" + b"GET /next HTTP/1.1\r\n" * 100)
    assert reader.head() is not None
    assert reader.body() == (b"", False)
    assert reader.waiting == 2_000
    assert len(reader.rest()) == 2_000
    assert reader.waiting == 0


# -- requests for streams ----------------------------------------------------------------------

STREAM = (
    b"GET /v1/sessions/sess_1/stream?resume_from=7 HTTP/1.1\r\n"
    b"Host: localhost:8080\r\nAuthorization:\t Bearer x \r\nX-Empty:\r\n\r\n"
)
NAMES = st.sampled_from(
    [b"Host", b"authorization", b"Cookie", b"Connection", b"Content-Length", b"Last-Event-ID",
     b"Upgrade", b"Transfer-Encoding", b"X_Under", b"X-Any", b"X Any", b"", b" Folded"]
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from([b"keep-alive", b"close", b"0", b"3", b"chunked", b"a:b", b"a\tb", b"\x00"]),
    st.text(st.characters(max_codepoint=255), max_size=8).map(lambda text: text.encode("latin-1")),
)
FIELDS = st.lists(st.tuples(NAMES, st.sampled_from([b":", b": ", b" :", b""]), VALUES), max_size=4)
PATHS = st.sampled_from(
    [b"/v1/sessions/sess_1/stream", b"/api/v1/sessions/s/stream", b"/v1/sessions/%41/stream",
     b"/v1/sessions/a/b/stream", b"/v1/ws", b"/v1/sessions//stream", b"/v1/sessions/s/stream#f"]
)  # fmt: skip
QUERIES = st.sampled_from([b"", b"?", b"?resume_from=1&follow=true", b"?a=%20", b"?a b", b"?a#b"])
FINISHES = st.sampled_from([b"\r\n\r\n", b"\n\n", b"\r\n", b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", b""])


def head_of(data: bytes) -> RequestHead | None:
    """Of bytes that are a head and no more; None: they are not."""
    reader = RequestReader()
    reader.feed(data)
    try:
        head = reader.head()
    except Refused:
        return None
    return head if head is not None and not head.has_body and not reader.waiting else None


@given(st.sampled_from([b"GET", b"HEAD", b"get"]), PATHS, QUERIES, FIELDS, FINISHES,
       st.sampled_from([b"HTTP/1.1", b"HTTP/1.0"]))  # fmt: skip
@example(
    b"GET", b"/v1/sessions/s/stream", b"?a=1", [(b"Host", b": ", b"h")], b"\r\n\r\n", b"HTTP/1.1"
)
def test_a_head_is_read_as_the_other_reads_it(
    method: bytes, path: bytes, query: bytes, fields: Any, finish: bytes, version: bytes
) -> None:
    first = b" ".join([method, path + query, version])
    data = b"\r\n".join([first, *(b"".join(line) for line in fields)]) + finish
    head = head_of(data)
    if head is None:
        return
    other = Other()
    other.parser.feed_data(data)
    assert len(other.messages) == 1
    read = (other.parser.get_method().decode(), other.parser.get_http_version())
    assert read == (head.method, head.version)
    if head.version == "1.1":
        assert other.parser.should_keep_alive() == head.keep_alive
    assert (other.target, other.headers) == (head.target, head.headers)


def test_the_head_of_a_plain_request() -> None:
    head = head_of(STREAM)
    assert head is not None
    assert (head.method, head.version, head.keep_alive) == ("GET", "1.1", True)
    assert head.target == b"/v1/sessions/sess_1/stream?resume_from=7"
    assert head.headers == [
        (b"host", b"localhost:8080"),
        (b"authorization", b"Bearer x"),
        (b"x-empty", b""),
    ]


@pytest.mark.parametrize(
    ("what", "instead"),
    [
        (b"X-Empty:", b"Content-Length: 3"),
        (b"X-Empty:", b"Transfer-Encoding: chunked"),
        (b"X-Empty:", b" folded"),
        (b"X-Empty:", b"X-Empty : x"),
        (b"X-Empty:", b"X-Empty: \x00"),
        (b"X-Empty:", b"X-Empty: a\rb"),
        (b"X-Empty:\r\n", b"X-Empty:\n"),
        (b"\r\n\r\n", b"\r\n\r\nmore"),
        (b"\r\n\r\n", b"\r\n"),
    ],
)
def test_what_is_no_plain_request(what: bytes, instead: bytes) -> None:
    assert head_of(STREAM) is not None
    assert head_of(STREAM.replace(what, instead, 1)) is None


@pytest.mark.parametrize("what", [b"Connection: close", b"Connection: x, Close"])
def test_the_last_request_of_a_connection(what: bytes) -> None:
    head = head_of(STREAM.replace(b"X-Empty:", what, 1))
    assert head is not None
    assert not head.keep_alive
