"""Bodies that take long, up or down: each ends with its credential, with the server, and when
nothing moves for too long."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import quote

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from ..files.base import BlobError
from ..files.names import UNKNOWN_TYPE, content_type_of, is_content_type
from ..log.base import LogError
from ..model.errors import ApiError, InvalidRequest, RangeNotSatisfiable, UnsupportedMediaType
from ..model.limits import Limits
from ..model.principal import Principal
from ..records.base import StoreError
from .params import text_header
from .serving.http_protocol import request_connection_of
from .waiting import Held, holding, listening
from .watchdog import StreamWatchdog

log_ = structlog.get_logger("resonantgenesis.http")
Headers = list[tuple[bytes, bytes]]

#: Seconds in which a server tells that a connection that was cut is lost.
_CUT = 5.0


class Stalled(Exception):
    """Nothing moved, or too little, for as long as the limits allow; the message is for people."""


class Transfer(Held):
    """One body under way, within `transferring`."""

    kind: ClassVar[str] = "transfer"

    def __init__(self, principal: Principal, scope: asyncio.Timeout, limits: Limits) -> None:
        super().__init__(principal, scope)
        self._stall = limits.stall
        self._rate = limits.transfer_rate
        #: What the client took, or gave, in the seconds that it was waited for, of one window.
        self._size, self._seconds = 0, 0.0

    def moved(self) -> None:
        """Some of the body has gone through."""
        if self.reason is None:
            self._expire_in(self._stall)

    @contextlib.contextmanager
    def waiting_for_client(self) -> Iterator[None]:
        """Time in this block is the client's, all other is ours: a disk, a search in a log."""
        began = time.monotonic()
        yield
        self._seconds += time.monotonic() - began

    def passed(self, size: int) -> None:
        """So many bytes have gone through. Raises Stalled when they are too few for the time that
        the client took; over a window, since on a bad link nothing comes for seconds."""
        self.moved()
        self._size += size
        if self._seconds >= self._stall:
            if self._size < self._rate * self._seconds:
                raise Stalled(f"less than {self._rate} bytes a second, over {self._stall:g} s")
            self._size, self._seconds = 0, 0.0


@contextlib.asynccontextmanager
async def transferring(
    principal: Principal, watch: StreamWatchdog, limits: Limits
) -> AsyncIterator[Transfer]:
    """The block is cancelled, and this raises why, when the credential or the server ends (an
    ApiError), the client has left (ClientDisconnect), or nothing `moved` for so long, or too
    little (Stalled). Raises RateLimited when no more may be open."""
    watch.check_room(principal)
    scope = asyncio.timeout(limits.stall)
    transfer = Transfer(principal, scope, limits)
    try:
        async with holding(transfer, scope, watch):
            yield transfer
    except TimeoutError:
        if not scope.expired():
            raise
        raise Stalled(f"nothing moved for {limits.stall:g} s") from None


async def read_pieces(receive: Receive, transfer: Transfer) -> AsyncGenerator[bytes, None]:
    """A request's body as it comes; nothing is read ahead. Raises ClientDisconnect when the client
    leaves before its end."""
    while True:
        with transfer.waiting_for_client():
            message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect()
        piece = message.get("body", b"")
        if piece:
            transfer.passed(len(piece))
            yield piece
        if not message.get("more_body", False):
            return


@dataclass(frozen=True, slots=True)
class Answer:
    """A response whose body is read while it is sent: as fast as the client takes it."""

    status: int
    headers: Headers
    blocks: AsyncGenerator[bytes, None]


async def send_answer(
    answer: Answer,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    watch: StreamWatchdog,
    limits: Limits,
) -> None:
    """Send it to its end. What fails in the middle can only be told by cutting the connection:
    the client sees that the body is not whole. Raises RateLimited before its beginning."""
    principal: Principal = scope["state"]["principal"]
    watch.check_room(principal)  # here, where it can still be told
    try:
        async with (
            transferring(principal, watch, limits) as transfer,
            listening(scope, receive, transfer),
        ):
            async with contextlib.aclosing(answer.blocks):
                await send(
                    {
                        "type": "http.response.start",
                        "status": answer.status,
                        "headers": answer.headers,
                    }
                )
                async for block in answer.blocks:
                    with transfer.waiting_for_client():
                        await send({"type": "http.response.body", "body": block, "more_body": True})
                    transfer.passed(len(block))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
    except (ApiError, Stalled, LogError, StoreError, BlobError) as error:
        log_.info(
            "answer broken off",
            request_id=scope["state"]["request_id"],
            path=scope["path"],
            why=str(error) or type(error).__name__,
        )
        await _break_off(scope, error)


async def _break_off(scope: Scope, error: Exception) -> None:
    """Cut the connection; where the server gives us none, it does so itself with what we raise."""
    connection = request_connection_of(scope)
    if connection is None:
        raise error
    lost = asyncio.Event()
    connection.on_lost = lost.set
    connection.transport.abort()
    if not connection.lost:  # the server is told in the loop's next round
        await asyncio.wait_for(lost.wait(), _CUT)


_RANGE = re.compile(r"bytes[ \t]*=[ \t,]*([0-9]*)-([0-9]*)[ \t,]*", re.IGNORECASE)
_TAG = re.compile(r'(?:W/)?("[^"]*")')
#: No content is longer; a number with more digits is as good as infinite.
_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes from `start` up to `end`, which is not in it."""

    start: int
    end: int


def part_of(wanted: str | None, if_range: str | None, etag: str, size: int) -> Part | None:
    """The part that a GET with these headers is answered with; None: the whole.

    What is no range of bytes, or names several, is ignored, as is one of content that has changed
    (`if_range`) or is empty. Raises RangeNotSatisfiable for one that begins behind the end.
    """
    if wanted is None or not size or if_range not in {None, etag}:
        return None
    match = _RANGE.fullmatch(wanted.strip())
    if match is None or match[1] == match[2] == "":
        return None
    if not match[1]:
        part = Part(max(0, size - _number(match[2])), size)
    else:
        start = _number(match[1])
        last = _number(match[2]) if match[2] else size - 1
        if match[2] and last < start:
            return None
        part = Part(start, min(last + 1, size))
    if part.start >= part.end:
        raise RangeNotSatisfiable(f"the content has {size} bytes", details={"size": size})
    return part


def has_already(if_none_match: str | None, etag: str) -> bool:
    """Whether the client named this content among what it has."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or etag in _TAG.findall(if_none_match)


def _number(digits: str) -> int:
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) <= _DIGITS else 10**_DIGITS


#: One member of a Content-Digest: an algorithm and base64 between colons (RFC 9530).
_MEMBER = re.compile(r"[ \t]*([a-z0-9*][a-z0-9_.*-]*)=:([A-Za-z0-9+/=]*):[ \t]*")
_SHA256_BYTES = 32
#: What RFC 5987 lets stand in an extended parameter.
_PLAIN = "!#$&+-.^_`|~"


def announced_digest(scope: Scope) -> str | None:
    """The SHA-256 that the header Content-Digest announces, in hexadecimal; other algorithms are
    not looked at. Raises InvalidRequest for a header that is none."""
    value = text_header(scope, b"content-digest")
    if value is None:
        return None
    for member in value.split(","):
        match = _MEMBER.fullmatch(member)
        if match is None:
            raise _bad_digest("is not like sha-256=:BASE64:")
        if match[1] == "sha-256":
            try:
                digest = base64.b64decode(match[2], validate=True)
            except binascii.Error:
                raise _bad_digest("is not base64") from None
            if len(digest) != _SHA256_BYTES:
                raise _bad_digest("has another length than SHA-256")
            return digest.hex()
    return None


def check_digest(announced: str | None, found: str) -> None:
    """Raises InvalidRequest when something else came than was announced."""
    if announced is not None and announced != found:
        raise _bad_digest(f"is not that of what came, which is sha256 {found}")


def digest_header(sha256: str) -> bytes:
    """The value of Repr-Digest."""
    return b"sha-256=:" + base64.b64encode(bytes.fromhex(sha256)) + b":"


def upload_type(scope: Scope, name: str) -> str:
    """The type of the file that is the body. Raises UnsupportedMediaType for a body that is not
    simply the file, InvalidRequest for what is no type."""
    given = text_header(scope, b"content-type")
    if (given or "").lower().startswith("multipart/form-data"):
        raise UnsupportedMediaType("send the file itself as the body, not in a form")
    coding = text_header(scope, b"content-encoding")
    if coding is not None and coding.strip().lower() not in {"", "identity"}:
        raise UnsupportedMediaType("send the file as it is, without Content-Encoding")
    try:
        return content_type_of(given, name)
    except ValueError as error:
        raise InvalidRequest.field("Content-Type", str(error)) from None


def type_header(content_type: str) -> bytes:
    """The value of Content-Type for a stored file; an older server stored types that no header
    can carry."""
    return (content_type if is_content_type(content_type) else UNKNOWN_TYPE).encode("ascii")


def announced_size(scope: Scope) -> int:
    """The body's length as announced; 0 if it was not."""
    value = text_header(scope, b"content-length") or ""
    # However many digits: more than any limit is enough to know.
    return int(value[:18]) if value.isascii() and value.isdigit() else 0


def disposition(name: str) -> bytes:
    """A Content-Disposition under which no browser shows the content, and any saves it under this
    name (RFC 6266): in ASCII for old ones, then as it is."""
    fallback = "".join(c if " " <= c <= "~" and c not in '"\\%' else "_" for c in name)
    extended = quote(name, safe=_PLAIN)
    return f"attachment; filename=\"{fallback}\"; filename*=UTF-8''{extended}".encode("ascii")


def _bad_digest(problem: str) -> InvalidRequest:
    return InvalidRequest.field("Content-Digest", problem)
