"""Requests for streams as clients write them, read in one go.

Only what is plain is taken: one whole request in one piece, no body, no line or byte that parsers
have been known to differ about. For everything else there is the real parser.
"""

from __future__ import annotations

import re
from typing import NamedTuple

#: Longer requests go the long way.
_MOST = 8_192
_START = re.compile(
    rb"GET (/(?:api/)?v1/sessions/[A-Za-z0-9_-]+/stream)(?:\?([A-Za-z0-9_.=&-]*))? HTTP/1\.1\r\n"
)
_NAME = re.compile(rb"[A-Za-z0-9-]+")
#: All but visible characters, the space, the tab and the line's end.
_STRANGE = re.compile(rb"[^\x20-\x7e\t\r\n]")
#: Whoever sends one of these wants more than a stream on a connection that stays.
_LONG_WAY = frozenset({b"content-length", b"cookie", b"expect", b"transfer-encoding", b"upgrade"})


class StreamRequest(NamedTuple):
    """A GET of HTTP/1.1 for a session's stream, on a connection that is kept alive. Header names
    are in lower case."""

    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]


def parse_stream_request(data: bytes) -> StreamRequest | None:
    """The request that these bytes are; None: the real parser has to say."""
    start = _START.match(data)
    if start is None or len(data) > _MOST or not data.endswith(b"\r\n\r\n"):
        return None
    if _STRANGE.search(data) is not None:
        return None
    lines = data[start.end() : -4].split(b"\r\n")
    if data.count(b"\n") != len(lines) + 2 or data.count(b"\r") != len(lines) + 2:
        return None
    headers: list[tuple[bytes, bytes]] = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or _NAME.fullmatch(name) is None:
            return None
        name, value = name.lower(), value.strip(b" \t")
        if name in _LONG_WAY or (name == b"connection" and value.lower() != b"keep-alive"):
            return None
        headers.append((name, value))
    return StreamRequest(start[1].decode(), start[2] or b"", headers)
