"""Long uploads and downloads. Each ends with its credential, with the server, or after a stall.

Ranges, ETags, digests and the headers of files stand here as well.
"""

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
from .serving.http_connection import request_connection_of
from .waiting import Held, holding, listening
from .watchdog import StreamWatchdog

log_ = structlog.get_logger("resonantgenesis.http")
Headers = list[tuple[bytes, bytes]]

#: Seconds in which the server reports a cut connection as lost.
_CUT = 5.0


class Stalled(Exception):
    """No byte moved, or too few, for as long as the limits allow. The message is for people."""


class Transfer(Held):
    """One body that is sent or received, within `transferring`."""

    kind: ClassVar[str] = "transfer"

    def __init__(self, principal: Principal, scope: asyncio.Timeout, limits: Limits) -> None:
        super().__init__(principal, scope)
        self._stall = limits.stall
        self._rate = limits.transfer_rate
        #: Bytes that the client took or gave in one window, and the seconds that we waited for it.
        self._size, self._seconds = 0, 0.0

    def moved(self) -> None:
        """Note that a part of the body has gone through."""
        if self.reason is None:
            self._expire_in(self._stall)

    @contextlib.contextmanager
    def waiting_for_client(self) -> Iterator[None]:
        """Count the block's time as the client's; all other time is ours (a disk, a search)."""
        began = time.monotonic()
        yield
        self._seconds += time.monotonic() - began

    def passed(self, size: int) -> None:
        """Count bytes that have gone through. Raises Stalled if the client was too slow.

        The rate is measured over a window, since on a bad link no byte comes for seconds.
        """
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
    """Cancel the block when the transfer must end, and raise the reason.

    The reason is an ApiError (the credential or the server ends), ClientDisconnect (the client has
    left), or Stalled (no byte `moved`, or too few). Raises RateLimited if no more may be open.
    """
    watch.check_limit(principal)
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
    """The body of a request in pieces, without reading ahead.

    Raises ClientDisconnect if the client leaves before the end.
    """
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
class StreamedBody:
    """A response whose body is read while it is sent, as fast as the client takes it."""

    status: int
    headers: Headers
    blocks: AsyncGenerator[bytes, None]


async def send_answer(
    answer: StreamedBody,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    watch: StreamWatchdog,
    limits: Limits,
) -> None:
    """Send an answer to its end.

    A failure in the middle cuts the connection, so that the client sees an incomplete body. Raises
    RateLimited before the beginning.
    """
    principal: Principal = scope["state"]["principal"]
    watch.check_limit(principal)  # here, while an error can still be sent
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
    """Cut the connection. A foreign server gives us none; it cuts when we raise the error."""
    connection = request_connection_of(scope)
    if connection is None:
        raise error
    lost = asyncio.Event()
    connection.on_lost = lost.set
    connection.transport.abort()
    if not connection.lost:  # the server learns it in the loop's next round
        await asyncio.wait_for(lost.wait(), _CUT)


_RANGE = re.compile(r"bytes[ \t]*=[ \t,]*([0-9]*)-([0-9]*)[ \t,]*", re.IGNORECASE)
_TAG = re.compile(r'(?:W/)?("[^"]*")')
#: No content has a length of more digits.
_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes from `start` up to `end`, exclusive."""

    start: int
    end: int


def part_of(wanted: str | None, if_range: str | None, etag: str, size: int) -> Part | None:
    """The part for a GET with these headers; None is the whole content.

    A header that is no range of bytes, or several ranges, is ignored. So is a range of content that
    has changed (`if_range`) or is empty. Raises RangeNotSatisfiable for a range behind the end.
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
    """Whether the client has this content, by its If-None-Match."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or etag in _TAG.findall(if_none_match)


def _number(digits: str) -> int:
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) <= _DIGITS else 10**_DIGITS


#: One member of a Content-Digest: an algorithm and base64 between colons (RFC 9530).
_MEMBER = re.compile(r"[ \t]*([a-z0-9*][a-z0-9_.*-]*)=:([A-Za-z0-9+/=]*):[ \t]*")
_SHA256_BYTES = 32
#: Characters that RFC 5987 allows in an extended parameter.
_PLAIN = "!#$&+-.^_`|~"


def announced_digest(scope: Scope) -> str | None:
    """The SHA-256 in the header Content-Digest, in hexadecimal; other algorithms are ignored.

    Raises InvalidRequest for a malformed header.
    """
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
    """Raise InvalidRequest if the content differs from the announced digest."""
    if announced is not None and announced != found:
        raise _bad_digest(f"is not that of what came, which is sha256 {found}")


def digest_header(sha256: str) -> bytes:
    """The value of Repr-Digest."""
    return b"sha-256=:" + base64.b64encode(bytes.fromhex(sha256)) + b":"


def upload_type(scope: Scope, name: str) -> str:
    """The content type of an uploaded file.

    Raises UnsupportedMediaType for a body that is not the plain file, InvalidRequest for a text
    that is no type.
    """
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
    """The value of Content-Type for a stored file.

    An older server stored types that no header can carry.
    """
    return (content_type if is_content_type(content_type) else UNKNOWN_TYPE).encode("ascii")


def announced_size(scope: Scope) -> int:
    """The announced length of the body; 0 without one."""
    value = text_header(scope, b"content-length") or ""
    # Eighteen digits are more than any limit.
    return int(value[:18]) if value.isascii() and value.isdigit() else 0


def disposition(name: str) -> bytes:
    """A Content-Disposition with which a browser saves the content under `name` (RFC 6266).

    It has the name in ASCII for old browsers, then the full name.
    """
    fallback = "".join(c if " " <= c <= "~" and c not in '"\\%' else "_" for c in name)
    extended = quote(name, safe=_PLAIN)
    return f"attachment; filename=\"{fallback}\"; filename*=UTF-8''{extended}".encode("ascii")


def _bad_digest(problem: str) -> InvalidRequest:
    return InvalidRequest.field("Content-Digest", problem)
