"""The head of a request of HTTP/1.0 or 1.1, read once and strictly (RFC 9110 and 9112).

Two readers of one byte stream that differ about where a request ends let one person write into
another's: a proxy in front may be the other reader. So whatever parsers have been known to differ
about is refused and never repaired, also where the RFCs would allow to repair it. The refusals are
written here as well, since no app has seen such a request.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import NamedTuple

from ...model.errors import ApiError, InvalidRequest, Unavailable
from ..cors import HeaderList
from ..errors import error_body, error_headers

#: Bytes of a request's target, and of its header fields together.
URL_LIMIT = 64 * 1024
HEADERS_LIMIT = 64 * 1024
#: Fields of one request: each costs more memory than it has bytes.
MOST_FIELDS = 256

BAD_HTTP = HTTPStatus.BAD_REQUEST
LONG_URL = HTTPStatus.REQUEST_URI_TOO_LONG
LARGE_HEADERS = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
BAD_EXPECTATION = HTTPStatus.EXPECTATION_FAILED
NOT_IMPLEMENTED = HTTPStatus.NOT_IMPLEMENTED
TOO_MANY = HTTPStatus.SERVICE_UNAVAILABLE

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
        self._problem = (field, problem) if problem else _PROBLEMS.get(status)

    @property
    def error(self) -> ApiError:
        """The error for the client."""
        if self._problem is None:
            return Unavailable(
                "the server has as many connections as it can take", retry_after=_RETRY_AFTER
            )
        return InvalidRequest.field(*self._problem)


def raw_answer(
    refused: Refused, request_id: str, defaults: Sequence[tuple[bytes, bytes]], more: HeaderList
) -> bytes:
    """The bytes of the whole answer. `more`: the gateway's headers."""
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


#: A word that is none of these is more likely the rest of somebody's body than a method.
_METHODS = frozenset(
    b"COPY DELETE GET HEAD LOCK MKCOL MOVE OPTIONS PATCH POST PROPFIND PROPPATCH PURGE PUT REPORT"
    b" SEARCH TRACE UNLOCK".split()
)
_TOKEN_BYTES = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
TOKEN = b"[%b]+" % re.escape(_TOKEN_BYTES)
_START = re.compile(rb"(%b) ([!-~]+) HTTP/1\.([01])" % TOKEN)
#: What a head is made of, line ends included: no control characters.
_PLAIN = bytes([*b"\t\r\n", *range(0x20, 0x7F), *range(0x80, 0x100)])
#: A host and a port, as far as it matters that nobody reads them in two ways.
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%\-]*(:[0-9]*)?|\[[0-9A-Za-z:.]+\](:[0-9]*)?")
_ABSOLUTE = re.compile(rb"https?://([^/?#@]+)([/?].*)?", re.IGNORECASE)
#: Digits of a Content-Length: more than any body has, and few enough for every reader.
_LENGTH = re.compile(rb"[0-9]{1,18}")

Headers = list[tuple[bytes, bytes]]
#: Those that say where the request ends, and what is to happen with the connection.
FRAMING = frozenset(
    {b"connection", b"content-length", b"expect", b"host", b"transfer-encoding", b"upgrade"}
)


class RequestHead(NamedTuple):
    """`headers` have names in lower case and values without white space around them."""

    method: str
    #: As it came, and for an absolute one the part that an origin server looks at.
    target: bytes
    version: str
    headers: Headers
    #: Bytes of the head, for the limit on it together with the trailers.
    size: int
    #: Bytes of the body; None: it comes in chunks.
    length: int | None
    #: The client leaves it open whether the connection is used again.
    keep_alive: bool
    #: The one protocol that the client would change to, in lower case.
    upgrade: bytes | None
    #: The client waits for a 100 before it sends the body.
    waits: bool

    @property
    def has_body(self) -> bool:
        return self.length is None or self.length > 0


def parse_head(data: bytes) -> RequestHead:
    """`data` up to and with the empty line. Raises Refused."""
    check_lines(data)
    first, *lines = data[:-4].split(b"\r\n")
    start = parse_start(first)
    if len(lines) > MOST_FIELDS:
        raise Refused(LARGE_HEADERS)
    headers = [parse_field(line) for line in lines]
    if len(data) > HEADERS_LIMIT and sum(map(len, lines)) > HEADERS_LIMIT:
        raise Refused(LARGE_HEADERS)
    framing: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        if name in FRAMING:
            framing.setdefault(name, []).append(value)
    return _head(start, headers, len(data), framing)


def check_lines(data: bytes) -> None:
    """Raises Refused for control characters, and for a CR or LF without the other. A CR may be
    the last byte, of which more is to come."""
    ends = data.count(b"\r\n")
    if data.translate(None, _PLAIN) or data.count(b"\n") != ends:
        raise Refused(BAD_HTTP)
    if data.count(b"\r") != ends + data.endswith(b"\r"):
        raise Refused(BAD_HTTP)


def parse_start(line: bytes) -> tuple[bytes, bytes, str]:
    """Method, target and version of a request's first line. Raises Refused."""
    start = _START.fullmatch(line)
    if start is None:
        raise Refused(LONG_URL if len(line) > URL_LIMIT and b" " in line else BAD_HTTP)
    if len(start[2]) > URL_LIMIT:
        raise Refused(LONG_URL)
    return start[1], start[2], "1.1" if start[3] == b"1" else "1.0"


def parse_field(line: bytes) -> tuple[bytes, bytes]:
    """A field's name, in lower case, and value. Raises Refused, also for one that is folded."""
    name, colon, value = line.partition(b":")
    if not colon or not name or name.translate(None, _TOKEN_BYTES):
        raise Refused(BAD_HTTP)
    return name.lower(), value.strip(b" \t")


def _head(
    start: tuple[bytes, bytes, str],
    headers: Headers,
    size: int,
    framing: dict[bytes, list[bytes]],
) -> RequestHead:
    method, target, version = start
    if method == b"CONNECT":
        raise Refused(NOT_IMPLEMENTED, "method", "CONNECT is for proxies, which this is not")
    if method not in _METHODS:
        raise Refused(BAD_HTTP, "method", "is not known")
    _check_host(framing.get(b"host", []), version)
    if not target.startswith(b"/"):
        target = _origin_form(method, target, headers)
    elif b"#" in target:
        raise Refused(BAD_HTTP, "url", "has a fragment, which stays with the client")
    length = _body_length(framing, version)
    options = tokens(framing.get(b"connection", []))
    return RequestHead(
        method.decode(),
        target,
        version,
        headers,
        size,
        length,
        keep_alive=version == "1.1" and b"close" not in options,
        upgrade=_upgrade(framing, options, version),
        waits=_waits(framing.get(b"expect", []), version) and length != 0,
    )


def _check_host(values: list[bytes], version: str) -> None:
    """RFC 9112, 3.2: one Host, which HTTP/1.0 may leave out."""
    if len(values) > 1:
        raise Refused(BAD_HTTP, "Host", "is given more than once")
    if not values and version == "1.1":
        raise Refused(BAD_HTTP, "Host", "is missing")
    if values and _HOST.fullmatch(values[0]) is None:
        raise Refused(BAD_HTTP, "Host", "is no host and port")


def _origin_form(method: bytes, target: bytes, headers: Headers) -> bytes:
    """What counts of a target that is not just a path. RFC 9112, 3.2.2: the host in an absolute
    one counts instead of the field."""
    if target == b"*" and method == b"OPTIONS":
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or b"#" in target or _HOST.fullmatch(absolute[1]) is None:
        raise Refused(BAD_HTTP, "url", "must be a path or an http URL")
    headers[:] = [(name, absolute[1] if name == b"host" else value) for name, value in headers]
    path: bytes = absolute[2] or b"/"
    return path if path.startswith(b"/") else b"/" + path


def _body_length(framing: dict[bytes, list[bytes]], version: str) -> int | None:
    """RFC 9112, 6.1 to 6.3, without what they let a server repair."""
    lengths = framing.get(b"content-length", [])
    codings = framing.get(b"transfer-encoding", [])
    if codings:
        if lengths:
            raise Refused(BAD_HTTP, "Content-Length", "cannot stand beside Transfer-Encoding")
        if version == "1.0":
            raise Refused(BAD_HTTP, "Transfer-Encoding", "is not known to HTTP/1.0")
        _check_codings(codings)
        return None
    if not lengths:
        return 0
    if len(lengths) > 1:
        raise Refused(BAD_HTTP, "Content-Length", "is given more than once")
    if _LENGTH.fullmatch(lengths[0]) is None:
        raise Refused(BAD_HTTP, "Content-Length", "is not a whole number")
    return int(lengths[0])


def _check_codings(codings: list[bytes]) -> None:
    """Raises Refused unless the body is in chunks and nothing else: 501 for what may be right and
    is not spoken here, 400 for a body that has no end."""
    names = [name.strip(b" \t").lower() for name in b",".join(codings).split(b",")]
    if names == [b"chunked"]:
        return
    once_and_last = names[-1] == b"chunked" and names.count(b"chunked") == 1
    if once_and_last and all(names):
        raise Refused(NOT_IMPLEMENTED, "Transfer-Encoding", "may only be chunked")
    raise Refused(BAD_HTTP, "Transfer-Encoding", "must be chunked, once")


def _upgrade(
    framing: dict[bytes, list[bytes]], options: frozenset[bytes], version: str
) -> bytes | None:
    """RFC 9110, 7.8. `Proxy-Connection` is no such option: it was never a field of HTTP, and some
    parsers take it for one."""
    values = framing.get(b"upgrade", [])
    if len(values) != 1 or b"upgrade" not in options or version != "1.1":
        return None
    return values[0].lower()


def _waits(values: list[bytes], version: str) -> bool:
    """RFC 9110, 10.1.1: HTTP/1.0 knows no expectations, and the protocol only one."""
    if not values or version == "1.0":
        return False
    if tokens(values) != {b"100-continue"}:
        raise Refused(BAD_EXPECTATION)
    return True


def tokens(values: list[bytes]) -> frozenset[bytes]:
    if not values:
        return frozenset()
    return frozenset(token.strip(b" \t").lower() for token in b",".join(values).split(b","))
