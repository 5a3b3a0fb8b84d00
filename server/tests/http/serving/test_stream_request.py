"""What is read in one go is what the real parser reads; all else is left to it."""

from __future__ import annotations

from typing import Any

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from resonantgenesis_server.http.serving.acceptor import parse_stream_request

PLAIN = (
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
LINES = st.lists(st.tuples(NAMES, st.sampled_from([b":", b": ", b" :", b""]), VALUES), max_size=4)
PATHS = st.sampled_from(
    [b"/v1/sessions/sess_1/stream", b"/api/v1/sessions/s/stream", b"/v1/sessions/%41/stream",
     b"/v1/sessions/a/b/stream", b"/v1/ws", b"/v1/sessions//stream", b"/v1/sessions/s/stream#f"]
)  # fmt: skip
QUERIES = st.sampled_from([b"", b"?", b"?resume_from=1&follow=true", b"?a=%20", b"?a b", b"?a#b"])
ENDS = st.sampled_from([b"\r\n\r\n", b"\n\n", b"\r\n", b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", b""])


class Parsed:
    """What httptools makes of a request."""

    def __init__(self, data: bytes) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = 0
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_message_complete(self) -> None:
        self.complete += 1


@given(st.sampled_from([b"GET", b"HEAD", b"get"]), PATHS, QUERIES, LINES, ENDS,
       st.sampled_from([b"HTTP/1.1", b"HTTP/1.0"]))  # fmt: skip
@example(
    b"GET", b"/v1/sessions/s/stream", b"?a=1", [(b"Host", b": ", b"h")], b"\r\n\r\n", b"HTTP/1.1"
)
def test_it_reads_what_the_parser_reads(
    method: bytes, path: bytes, query: bytes, lines: Any, end: bytes, version: bytes
) -> None:
    head = b" ".join([method, path + query, version])
    data = b"\r\n".join([head, *(b"".join(line) for line in lines)]) + end
    request = parse_stream_request(data)
    if request is None:
        return
    parsed = Parsed(data)
    assert parsed.complete == 1
    assert (parsed.parser.get_method(), parsed.parser.get_http_version()) == (b"GET", "1.1")
    assert parsed.parser.should_keep_alive()
    url = httptools.parse_url(parsed.url)
    assert (url.path.decode(), url.query or b"") == (request.path, request.query)
    assert [(name, value.strip(b" \t")) for name, value in parsed.headers] == request.headers


def test_a_plain_request() -> None:
    request = parse_stream_request(PLAIN)
    assert request is not None
    assert (request.path, request.query) == ("/v1/sessions/sess_1/stream", b"resume_from=7")
    assert request.headers == [
        (b"host", b"localhost:8080"),
        (b"authorization", b"Bearer x"),
        (b"x-empty", b""),
    ]


@pytest.mark.parametrize(
    ("what", "instead"),
    [
        (b"GET", b"POST"),
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"sess_1", b"sess%31"),
        (b"/stream", b"/steps"),
        (b"X-Empty:", b"Connection: close"),
        (b"X-Empty:", b"Content-Length: 3"),
        (b"X-Empty:", b"Transfer-Encoding: chunked"),
        (b"X-Empty:", b"Cookie: rg_token=x"),
        (b"X-Empty:", b" folded"),
        (b"X-Empty:", b"X-Empty : x"),
        (b"X-Empty:", b"X-Empty: \x00"),
        (b"X-Empty:", b"X-Empty: a\rb"),
        (b"X-Empty:\r\n", b"X-Empty:\n"),
        (b"\r\n\r\n", b"\r\n\r\nmore"),
        (b"\r\n\r\n", b"\r\n"),
        (b"X-Empty:", b"X-Long: " + b"x" * 8_192),
    ],
)
def test_what_is_left_to_the_parser(what: bytes, instead: bytes) -> None:
    assert parse_stream_request(PLAIN) is not None
    assert parse_stream_request(PLAIN.replace(what, instead, 1)) is None
