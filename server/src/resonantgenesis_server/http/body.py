"""JSON bodies, read strictly: their size is counted while they arrive, their depth is bounded."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope

from ..codec.strict_json import parse_json
from ..feed.shares import LARGE, SHARED
from ..model.errors import InvalidRequest, PayloadTooLarge, UnsupportedMediaType
from ..model.limits import Limits
from .params import check_known, header
from .waiting import reading
from .watchdog import StreamWatchdog

#: Seconds that a body may take to arrive. A slower one would only hold memory.
BODY_TIMEOUT = 60.0
#: The event loop's time for a body until its answer has left, in multiples of its parsing: its
#: values are checked, compared, stored and sent again. 20,000 values take 4 ms.
_AND_USED = 8


async def read_body(scope: Scope, receive: Receive, limit: int, watch: StreamWatchdog) -> bytes:
    """The whole body, at most `limit` bytes, with or without a Content-Length.

    Raises `PayloadTooLarge` as soon as more bytes are announced or have come, `InvalidRequest`
    after BODY_TIMEOUT seconds, `ClientDisconnect` when the client has left, and the `ApiError` of a
    credential or server that ends meanwhile.
    """
    async with reading(scope, watch):
        return await _read_body(scope, receive, limit)


async def _read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    announced = header(scope, b"content-length")
    # Eighteen digits are more than any limit.
    if announced is not None and announced.isdigit() and int(announced[:18]) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect()
                part = message.get("body", b"")
                size += len(part)
                if size > limit:
                    raise _too_large(limit)
                if part:
                    parts.append(part)
                if not message.get("more_body", False):
                    return parts[0] if len(parts) == 1 else b"".join(parts)
    except TimeoutError:
        problem = f"did not arrive within {BODY_TIMEOUT:.0f} s"
        raise InvalidRequest.field("body", problem) from None


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the body is over {limit} bytes", details={"limit": limit})


def check_media_type(scope: Scope, also: str = "") -> None:
    """Raises `UnsupportedMediaType` unless the body is announced as `application/json`, or as the
    media type `also`."""
    value = (header(scope, b"content-type") or b"").split(b";", 1)[0].strip().lower()
    if value not in {b"application/json", also.encode() or None}:
        raise UnsupportedMediaType("send the body as Content-Type: application/json")


async def read_json(
    scope: Scope, receive: Receive, limits: Limits, watch: StreamWatchdog, *, also: str = ""
) -> Any:
    """The value of a required JSON body, with all checks of this module. `also`: a media type that
    is taken beside `application/json`."""
    data = await read_body(scope, receive, limits.body, watch)
    if not data:
        raise InvalidRequest.field("body", "a JSON object is required")
    check_media_type(scope, also)
    return await _parsed(scope, data, limits)


async def _parsed(scope: Scope, data: bytes, limits: Limits) -> Any:
    """Parse a text; a large one waits for its organization's turn."""
    if len(data) < LARGE:
        return parse_json(data, limits.json_depth, limits.json_values)
    organization_id = scope["state"]["principal"].organization_id
    await SHARED.turn(organization_id)
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        return parse_json(data, limits.json_depth, limits.json_values)
    finally:
        SHARED.took(organization_id, _AND_USED * (loop.time() - began))


class JsonRequest(Request):
    """A request whose body is read and checked before the framework reads it."""

    _value: Any = None
    _data: bytes = b""

    async def load(
        self, limits: Limits, watch: StreamWatchdog, kind: type[BaseModel] | None
    ) -> None:
        """Read the body. Fields that `kind` lacks are refused, unless the client is lenient."""
        self._data = await read_body(self.scope, self.receive, limits.body, watch)
        if self._data:
            check_media_type(self.scope)
            self._value = await _parsed(self.scope, self._data, limits)
            if kind is not None and not self.state.lenient:
                check_known(kind, self._value)

    async def body(self) -> bytes:
        return self._data

    async def json(self) -> Any:
        return self._value
