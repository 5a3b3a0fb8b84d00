"""The reader of requests: makes requests of a connection's bytes, one after the other. No I/O.

A request is read when the request before it has its answer; until then its bytes wait. Each part
that a client can lengthen has a bound: the head, empty lines before it, lines between chunks, and
lines after the last chunk.
"""

from __future__ import annotations

import re

from .request_head import (
    BAD_HTTP,
    FRAMING,
    HEADERS_LIMIT,
    LARGE_HEADERS,
    LONG_URL,
    MOST_FIELDS,
    TOKEN,
    URL_LIMIT,
    Refused,
    RequestHead,
    check_lines,
    parse_field,
    parse_head,
    parse_start,
)

#: Empty lines before a request, which old clients send behind a body (RFC 9112, 2.2).
_MOST_EMPTY = 8
#: Extensions may stand behind a chunk's size. They are read and ignored.
_EXTENSION = rb';%b(?:=(?:%b|"[\t !#-\[\]-~]*"))?' % (TOKEN, TOKEN)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})((?:%b)*)" % _EXTENSION)
#: Bytes of a line that has a size and nothing more.
_SIZE_LINE = 16
#: Chunks that are read in one go: a client may send 40,000 in one packet, and others wait.
_AT_ONCE = 500


class RequestReader:
    """Reads requests: `feed` bytes, call `head`, then `body` while `in_body` is true."""

    __slots__ = (
        "_allowance",
        "_buffer",
        "_empty",
        "_fields",
        "_left",
        "_looked",
        "_stage",
        "in_body",
    )

    def __init__(self) -> None:
        self._buffer = bytearray()
        #: The number of bytes that were searched for the end of the head.
        self._looked = 0
        self._empty = 0
        #: A request's head was read, and its body was not read to its end.
        self.in_body = False
        #: Bytes to come: of a body with a length, else of the chunk under way.
        self._left = 0
        #: What is to come in a body of chunks; None: it has a length.
        self._stage: str | None = None
        #: Bytes that may still come between the chunks and behind them.
        self._allowance = 0
        self._fields = 0

    def feed(self, data: bytes) -> None:
        self._buffer += data

    @property
    def waiting(self) -> int:
        """Bytes that have come and were not read."""
        return len(self._buffer)

    def rest(self) -> bytes:
        """Take all bytes that were not read."""
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    # -- the head --------------------------------------------------------------------------

    def head(self) -> RequestHead | None:
        """The head of the next request; None: its end has not come. Raises Refused."""
        buffer = self._buffer
        while buffer.startswith(b"\r\n"):
            self._empty += 1
            if self._empty > _MOST_EMPTY:
                raise Refused(BAD_HTTP)
            del buffer[:2]
            self._looked = 0
        end = buffer.find(b"\r\n\r\n", max(self._looked - 3, 0))
        if end < 0:
            self._check_part()
            return None
        head = parse_head(bytes(buffer[: end + 4]))
        del buffer[: end + 4]
        self._looked = self._empty = 0
        self.in_body = head.has_body
        self._left, self._stage = head.length or 0, None
        if head.length is None:
            self._stage = "size"
            self._allowance, self._fields = (
                max(HEADERS_LIMIT - head.size, 0),
                MOST_FIELDS - len(head.headers),
            )
        return head

    def _check_part(self) -> None:
        """Refuse bytes that cannot become a request, before their end has come."""
        buffer = self._buffer
        new = self._looked - buffer.endswith(b"\r", 0, self._looked)
        check_lines(bytes(buffer[new:]))
        line = buffer.find(b"\r\n", 0, URL_LIMIT + 64)
        if line >= 0 and line + 2 > self._looked:
            parse_start(bytes(buffer[:line]))
        elif line < 0 and len(buffer) > URL_LIMIT + 64:
            raise Refused(LONG_URL)
        if len(buffer) > URL_LIMIT + HEADERS_LIMIT:
            raise Refused(LARGE_HEADERS)
        self._looked = len(buffer)

    # -- the body --------------------------------------------------------------------------

    def body(self) -> tuple[bytes, bool]:
        """The part of the body that has come, and whether more can be read at once: a large body
        is read a part at a time. After the last part `in_body` is false. Raises Refused."""
        if self._stage is not None:
            return self._chunks()
        piece = self._take()
        self.in_body = self._left > 0
        return piece, False

    def _take(self) -> bytes:
        """Take the bytes that have come of those that are left."""
        buffer = self._buffer
        if len(buffer) <= self._left:
            piece = self.rest()
        else:
            piece = bytes(buffer[: self._left])
            del buffer[: self._left]
        self._left -= len(piece)
        return piece

    def _chunks(self) -> tuple[bytes, bool]:
        pieces: list[bytes] = []
        for _ in range(_AT_ONCE):
            if not self._step(pieces):
                return b"".join(pieces), False
        return b"".join(pieces), True

    def _step(self, pieces: list[bytes]) -> bool:
        """Read one part of the chunked coding. False: the part has not come, or was the last."""
        if self._stage == "data":
            if not self._buffer:
                return False
            pieces.append(self._take())
            if not self._left:
                self._stage = "end"
            return True
        if self._stage == "end":
            return self._end_of_chunk()
        line = self._line()
        if line is None:
            return False
        if self._stage == "size":
            self._size(line)
        elif line:
            self._trailer(line)
        else:
            self.in_body = False
            return False
        return True

    def _end_of_chunk(self) -> bool:
        buffer = self._buffer
        if not buffer.startswith(b"\r\n"):
            if buffer[:2] not in (bytearray(), bytearray(b"\r")):
                raise Refused(BAD_HTTP)
            return False
        del buffer[:2]
        self._stage = "size"
        return True

    def _line(self) -> bytes | None:
        buffer = self._buffer
        end = buffer.find(b"\r\n", 0, self._allowance + _SIZE_LINE + 2)
        if end < 0:
            if len(buffer) > self._allowance + _SIZE_LINE + 1:
                raise Refused(LARGE_HEADERS)
            if b"\n" in buffer:
                raise Refused(BAD_HTTP)
            return None
        line = bytes(buffer[:end])
        del buffer[: end + 2]
        return line

    def _size(self, line: bytes) -> None:
        size = _CHUNK.fullmatch(line)
        if size is None:
            raise Refused(BAD_HTTP)
        self._spend(len(size[2]))
        self._left = int(size[1], 16)
        self._stage = "data" if self._left else "trailers"

    def _trailer(self, line: bytes) -> None:
        """Check a field behind the body. Its value is ignored."""
        check_lines(line + b"\r\n")
        name, value = parse_field(line)
        if name in FRAMING:  # some readers would obey it
            raise Refused(BAD_HTTP)
        self._spend(len(name) + len(value))
        self._fields -= 1
        if self._fields < 0:
            raise Refused(LARGE_HEADERS)

    def _spend(self, size: int) -> None:
        self._allowance -= size
        if self._allowance < 0:
            raise Refused(LARGE_HEADERS)
