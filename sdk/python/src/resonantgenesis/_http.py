"""What the two shells share of httpx: how requests are made and what its errors mean.

No httpx exception leaves the shells; here they become outcomes.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from typing import TypedDict

import httpx

from ._actions import Answered, Lost, Silent
from ._settings import Settings
from ._version import __version__
from ._wire import MAX_ANSWER, Answer, Request


class ClientOptions(TypedDict):
    """Arguments of httpx.AsyncClient and httpx.Client."""

    headers: dict[str, str]
    limits: httpx.Limits
    follow_redirects: bool
    verify: ssl.SSLContext


def client_options(settings: Settings) -> ClientOptions:
    """Connections are not capped, since each stream holds one for as long as it lasts.

    Idle ones are dropped before common servers do (uvicorn: 5 s), which spares a retry.
    """
    return {
        "headers": {
            "Authorization": f"Bearer {settings.api_key}",
            "User-Agent": f"resonantgenesis-python/{__version__}",
            "Accept": "application/json",
        },
        "limits": httpx.Limits(
            max_connections=None, max_keepalive_connections=100, keepalive_expiry=4.0
        ),
        "follow_redirects": False,
        # Made here, where the client is made: reading the certificates would hold up the loop.
        "verify": httpx.create_ssl_context(),
    }


class RequestParts(TypedDict):
    """Arguments of `build_request`."""

    method: str
    url: str
    headers: dict[str, str]
    timeout: httpx.Timeout


def request_parts(request: Request, settings: Settings) -> RequestParts:
    """`request` as httpx takes it; the read timeout of a stream holds up to its headers."""
    headers = dict(request.headers)
    if request.body is not None:
        headers["Content-Type"] = "application/json"
    timeouts = settings.timeouts
    read = timeouts.silence if request.stream else timeouts.answer + request.patience
    # A server that writes to a disk may not read for a while.
    write = timeouts.answer if request.binary else timeouts.connect
    return {
        "method": request.method,
        "url": settings.base_url + request.target(),
        "headers": headers,
        "timeout": httpx.Timeout(read, connect=timeouts.connect, write=write, pool=None),
    }


def set_silence(response: httpx.Response, limit: float) -> None:
    """From here on a read that brings nothing for `limit` seconds is a ReadTimeout.

    The transport looks its timeouts up when it begins to read the body; the limit is only known
    from the headers.
    """
    response.request.extensions["timeout"]["read"] = limit


def outcome_of(error: httpx.RequestError) -> Lost | Silent:
    """What a failed request or read means."""
    if isinstance(error, httpx.ReadTimeout):
        return Silent()
    reason = str(error) or type(error).__name__
    return Lost(f"{_WHAT.get(type(error), 'connection failed')}: {reason}")


_WHAT: Mapping[type[httpx.RequestError], str] = {
    httpx.ConnectError: "could not connect",
    httpx.ConnectTimeout: "could not connect in time",
    httpx.ReadError: "connection broke",
    httpx.RemoteProtocolError: "connection broke",
    httpx.WriteTimeout: "could not send in time",
}


def headers_of(response: httpx.Response) -> dict[str, str]:
    """Header names in lower case."""
    return {name.lower(): value for name, value in response.headers.items()}


class BodyCollector:
    """A whole answer, bounded in bytes, and in seconds however slowly it dribbles in."""

    def __init__(self, response: httpx.Response, seconds: float) -> None:
        self._response = response
        self._deadline = time.monotonic() + seconds
        self._blocks: list[bytes] = []
        self._size = 0

    def add(self, block: bytes) -> Lost | Silent | None:
        """Takes a block; an outcome means that reading on is pointless."""
        self._blocks.append(block)
        self._size += len(block)
        if self._size > MAX_ANSWER:
            return Lost(f"the answer is larger than {MAX_ANSWER} bytes")
        return Silent() if time.monotonic() > self._deadline else None

    def done(self) -> Answered:
        """The answer, read to its end."""
        status, headers = self._response.status_code, headers_of(self._response)
        return Answered(Answer(status, headers, b"".join(self._blocks)))
