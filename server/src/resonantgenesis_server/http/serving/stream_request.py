"""Requests for streams as clients write them, read in one go.

Only what is plain is taken: one whole request in one piece, without a body, on a connection that
stays. The reader of the head is the one that reads all others.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .raw_refusals import Refused
from .request_head import parse_head

#: Longer requests go the long way.
_MOST = 8_192
_START = re.compile(
    rb"GET (/(?:api/)?v1/sessions/[A-Za-z0-9_-]+/stream)(?:\?([A-Za-z0-9_.=&-]*))? HTTP/1\.1\r\n"
)
#: Whoever sends one of these wants more than a stream on a connection that stays.
_LONG_WAY = frozenset({b"content-length", b"cookie", b"expect", b"transfer-encoding", b"upgrade"})


class StreamRequest(NamedTuple):
    """A GET of HTTP/1.1 for a session's stream, on a connection that is kept alive. Header names
    are in lower case."""

    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]


def parse_stream_request(data: bytes) -> StreamRequest | None:
    """The request that these bytes are; None: it has to go the long way."""
    start = _START.match(data)
    if start is None or len(data) > _MOST or data.find(b"\r\n\r\n") != len(data) - 4:
        return None
    try:
        head = parse_head(data)
    except Refused:
        return None
    if not head.keep_alive or any(name in _LONG_WAY for name, _ in head.headers):
        return None
    return StreamRequest(start[1].decode(), start[2] or b"", head.headers)
