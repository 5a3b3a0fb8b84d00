"""Refusals of what no app has seen: not HTTP, too large a head, no room for the connection."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from ...model.errors import ApiError, InvalidRequest, Unavailable
from ..cors import HeaderList
from ..errors import error_body, error_headers

#: Bytes of a request's target, and of its header fields together.
URL_LIMIT = 64 * 1024
HEADERS_LIMIT = 64 * 1024
#: Fields of one request: each costs more memory than it has bytes.
MOST_FIELDS = 256
#: Seconds, and bytes, for which a refused client is let finish what it was saying: it would not
#: find the answer if the connection were closed under its words.
LINGER_SECONDS, LINGER_BYTES = 2.0, 1024 * 1024

BAD_HTTP = HTTPStatus.BAD_REQUEST
LONG_URL = HTTPStatus.REQUEST_URI_TOO_LONG
LARGE_HEADERS = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
BAD_EXPECTATION = HTTPStatus.EXPECTATION_FAILED
NOT_IMPLEMENTED = HTTPStatus.NOT_IMPLEMENTED
NO_ROOM = HTTPStatus.SERVICE_UNAVAILABLE

_PROBLEMS = {
    BAD_HTTP: ("request", "is not valid HTTP/1.1"),
    LONG_URL: ("url", f"is over {URL_LIMIT} bytes"),
    LARGE_HEADERS: (
        "headers",
        f"are over {HEADERS_LIMIT} bytes or {MOST_FIELDS} fields, trailers and chunk extensions"
        " included",
    ),
    BAD_EXPECTATION: ("Expect", "may only be 100-continue"),
    NOT_IMPLEMENTED: ("request", "needs what this server does not do; send it plainly"),
}
_RETRY_AFTER = 1.0


class Refused(Exception):
    """Raised to end the reading of a connection. `status` is one of this module's; `field` and
    `problem` say more than it does by itself."""

    def __init__(self, status: HTTPStatus, field: str = "", problem: str = "") -> None:
        super().__init__(problem or status.phrase)
        self.status = status
        self._told = (field, problem) if problem else _PROBLEMS.get(status)

    @property
    def error(self) -> ApiError:
        """What clients are told."""
        if self._told is None:
            return Unavailable(
                "the server has as many connections as it can take", retry_after=_RETRY_AFTER
            )
        return InvalidRequest.field(*self._told)


def raw_answer(
    refused: Refused, request_id: str, defaults: Sequence[tuple[bytes, bytes]], more: HeaderList
) -> bytes:
    """The bytes of the whole answer; `more` are the edge's headers."""
    status, error = refused.status, refused.error
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
