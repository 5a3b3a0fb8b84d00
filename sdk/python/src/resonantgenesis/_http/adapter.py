"""The use of httpx that both clients share: making requests and translating errors.

No exception of httpx leaves this package; here they become outcomes.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from typing import TypedDict

import httpx

from .._core.actions import Answered, Lost, Silent
from .._core.messages import MAX_ANSWER, Answer, Request
from .._core.settings import Settings
from .._version import __version__
from ..errors import InvalidSettings


class ClientOptions(TypedDict):
    """Arguments of httpx.AsyncClient and httpx.Client."""

    headers: dict[str, str]
    limits: httpx.Limits
    follow_redirects: bool
    verify: ssl.SSLContext
    proxy: httpx.Proxy | None
    trust_env: bool


def client_options(settings: Settings) -> ClientOptions:
    """Connections are not capped, since each stream holds one for as long as it lasts.

    Idle ones are dropped before common servers do (uvicorn: 5 s), which spares a retry. Raises
    InvalidSettings for what httpx cannot use.
    """
    try:
        httpx.URL(settings.base_url)
    except httpx.InvalidURL as error:
        raise InvalidSettings(f"base_url is not a valid address: {error}") from error
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
        "verify": _certificates(settings.trust_env),
        "proxy": _proxy(settings),
        # What it would read there has been read; a proxy that names nobody is an error of ours.
        "trust_env": False,
    }


def _certificates(trust_env: bool) -> ssl.SSLContext:
    try:
        return httpx.create_ssl_context(trust_env=trust_env)
    except OSError as error:
        raise InvalidSettings(
            f"SSL_CERT_FILE or SSL_CERT_DIR names no certificates: {error}"
        ) from error


def _proxy(settings: Settings) -> httpx.Proxy | None:
    proxy = settings.proxy
    if proxy is None:
        return None
    if proxy.is_socks and find_spec("socksio") is None:
        raise proxy.needs("httpx[socks]")
    try:
        return httpx.Proxy(proxy.url)
    except (httpx.InvalidURL, ValueError) as error:
        raise InvalidSettings(f"{proxy.source} names no proxy") from error


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
    """Let reads that bring nothing for `limit` seconds raise a ReadTimeout from now on.

    The transport looks its timeouts up when it begins to read the body; the limit is only known
    from the headers.
    """
    response.request.extensions["timeout"]["read"] = limit


def outcome_of(error: httpx.RequestError, settings: Settings) -> Lost | Silent:
    """The outcome of a failed request or read."""
    if isinstance(error, httpx.ReadTimeout):
        return Silent()
    what = _WHAT.get(type(error), "the connection failed to")
    reached = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError)
    return Lost(f"{what} {settings.place}: {_reason(error)}", reached)


def _reason(error: BaseException) -> str:
    """The system's reason, which "All connection attempts failed" hides; else the error's text."""
    reason, cause = str(error) or type(error).__name__, error.__cause__
    # A bound, because chained exceptions may form a circle.
    for _ in range(8):
        if cause is None:
            break
        if isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        if isinstance(cause, ssl.SSLError):
            # Its number is OpenSSL's, not the system's.
            return reason
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno) if cause.errno > 0 else str(cause.strerror)
        cause = cause.__cause__ or cause.__context__
    return reason


_WHAT: Mapping[type[httpx.RequestError], str] = {
    httpx.ConnectError: "could not connect to",
    httpx.ProxyError: "could not connect to",
    httpx.ConnectTimeout: "could not connect in time to",
    httpx.ReadError: "the connection broke to",
    httpx.RemoteProtocolError: "the connection broke to",
    httpx.WriteTimeout: "could not send in time to",
}


def hang_up(response: httpx.Response) -> None:
    """Shut down the connection of an answer that is not read to its end.

    Closing is not enough: a process that was forked meanwhile has a copy of the socket.
    """
    stream = response.extensions.get("network_stream")
    line = stream.get_extra_info("socket") if stream is not None else None
    if line is None:
        return
    # Closed already, by the other side or by another task. (Not every loop's socket can do it.)
    with suppress(OSError), socket.fromfd(line.fileno(), line.family, line.type) as same:
        same.shutdown(socket.SHUT_RDWR)


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
        """Add a block; returns an outcome if reading on is pointless."""
        self._blocks.append(block)
        self._size += len(block)
        if self._size > MAX_ANSWER:
            return Lost(f"the answer is larger than {MAX_ANSWER} bytes")
        return Silent() if time.monotonic() > self._deadline else None

    def done(self) -> Answered:
        """The answer, read to its end."""
        status, headers = self._response.status_code, headers_of(self._response)
        return Answered(Answer(status, headers, b"".join(self._blocks)))
