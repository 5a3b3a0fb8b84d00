"""Refusals of what no app has seen: not HTTP, too large a head, no room for the connection."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from ..model.errors import ApiError, InvalidRequest, Unavailable
from .cors import HeaderList
from .errors import error_body, error_headers

#: Bytes of a request's target, and of its header fields together.
URL_LIMIT = 64 * 1024
HEADERS_LIMIT = 64 * 1024
#: Seconds, and bytes, for which a refused client is let finish what it was saying: it would not
#: find the answer if the connection were closed under its words.
LINGER_SECONDS, LINGER_BYTES = 2.0, 1024 * 1024

BAD_HTTP = HTTPStatus.BAD_REQUEST
LONG_URL = HTTPStatus.REQUEST_URI_TOO_LONG
LARGE_HEADERS = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
NO_ROOM = HTTPStatus.SERVICE_UNAVAILABLE

_PROBLEMS = {
    BAD_HTTP: ("request", "is not valid HTTP/1.1"),
    LONG_URL: ("url", f"is over {URL_LIMIT} bytes"),
    LARGE_HEADERS: ("headers", f"are over {HEADERS_LIMIT} bytes"),
}
_RETRY_AFTER = 1.0


class Refused(Exception):
    """Raised within the parser to end the reading; `status` is one of this module's."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


def error_of(status: HTTPStatus) -> ApiError:
    """What clients are told with this status."""
    if status is NO_ROOM:
        return Unavailable(
            "the server has as many connections as it can take", retry_after=_RETRY_AFTER
        )
    return InvalidRequest.field(*_PROBLEMS[status])


def raw_answer(
    status: HTTPStatus, request_id: str, defaults: Sequence[tuple[bytes, bytes]], more: HeaderList
) -> bytes:
    """The bytes of the whole answer; `more` are the edge's headers."""
    error = error_of(status)
    body = error_body(error, request_id)
    own = [(name.lower().encode(), value.encode()) for name, value in error_headers(error).items()]
    headers = [
        *defaults,
        *more,
        *own,
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    lines = b"".join(b"%b: %b\r\n" % pair for pair in headers)
    return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (status, status.phrase.encode(), lines, body)
