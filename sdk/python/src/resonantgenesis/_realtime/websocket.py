"""The one module that knows the `websockets` library: sockets, and what its errors mean.

Works with releases from 13 on, whose asyncio client is the same as today's for what is used here.
"""

from __future__ import annotations

import asyncio
import inspect
from importlib.util import find_spec
from typing import Any, Literal
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from .._core.messages import Answer, error_from_answer
from .._core.proxy import Proxy
from .._core.sse import DEFAULT_MAX_BYTES
from .._process.fork import Owned, leave
from .._version import __version__
from ..errors import (
    AuthenticationError,
    ConnectionLost,
    InvalidSettings,
    RateLimited,
    StreamError,
    Unavailable,
)

#: Close codes of PROTOCOL.md, section 6, and RFC 6455's "try again later" kin.
REFUSED, TOO_MANY, GOING_AWAY, RESTART, TRY_LATER = 4401, 4429, 1001, 1012, 1013
#: Seconds for the closing handshake; what takes longer is cut.
CLOSE_TIMEOUT = 2.0

Compression = Literal["deflate"] | None


def socket_url(base_url: str) -> str:
    """The URL of a server's socket."""
    parts = urlsplit(base_url)
    scheme = "wss" if parts.scheme == "https" else "ws"
    return f"{scheme}://{parts.netloc}{parts.path}/v1/ws"


class _Connect(connect):
    """Follows no redirection, because it would take the credential to another server."""

    def process_redirect(self, exc: Exception) -> Exception:
        """The library's own hook, since 13.1; before, it follows none."""
        return exc


#: Releases before 15 know no proxies.
KNOWS_PROXIES = "proxy" in inspect.signature(connect.__init__).parameters


class WebSocket(Owned):
    """An open socket. No exception of the library leaves it."""

    def __init__(self, connection: ClientConnection) -> None:
        super().__init__()
        self._connection = connection

    async def send(self, text: str, timeout: float) -> None:
        """Send a text within `timeout` seconds. Raises StreamError."""
        try:
            async with asyncio.timeout(timeout):
                await self._connection.send(text)
        except TimeoutError as error:
            raise ConnectionLost("the connection takes no more data") from error
        except ConnectionClosed as error:
            raise closed_error(error) from error

    async def receive(self) -> str | bytes:
        """The next message. Raises StreamError."""
        try:
            return await self._connection.recv()
        except ConnectionClosed as error:
            raise closed_error(error) from error

    async def close(self) -> None:
        """Close it in bounded time; a forked process leaves it to its parent."""
        await closed(self._connection, self)

    def abort(self) -> None:
        """Cut a link that does not answer any more."""
        self._connection.transport.abort()


async def closed(connection: ClientConnection, owner: Owned) -> None:
    """Close the library's connection, in the process that opened it."""
    if owner.inherited:
        leave(connection)
    else:
        await connection.close()


async def open_socket(
    url: str,
    credential: str,
    *,
    timeout: float,
    max_size: int,
    compression: Compression,
    proxy: Proxy | None,
    place: str,
) -> WebSocket:
    """Connects within `timeout` seconds. Raises StreamError: the server's refusal, with its code
    and `retry_after`, or ConnectionLost."""
    # Our own pings go through the server's application, and tell more than the library's.
    return WebSocket(
        await connected(
            url,
            credential,
            timeout=timeout,
            max_size=max_size,
            compression=compression,
            ping=None,
            proxy=proxy,
            place=place,
        )
    )


async def connected(
    url: str,
    credential: str,
    *,
    timeout: float = 10.0,
    max_size: int = DEFAULT_MAX_BYTES,
    compression: Compression = "deflate",
    ping: float | None = 20.0,
    proxy: Proxy | None,
    place: str,
) -> ClientConnection:
    """The library's own connection; raises StreamError as `open_socket` does. `place` is the
    address as errors name it."""
    if proxy is not None and not KNOWS_PROXIES:
        raise InvalidSettings(
            f"{proxy.source} names a proxy, for which sockets need websockets 15 or newer: "
            "install it, or name the server in NO_PROXY"
        )
    more: dict[str, Any] = {"proxy": proxy and proxy.url} if KNOWS_PROXIES else {}
    if proxy is not None and proxy.is_socks and find_spec("python_socks") is None:
        raise proxy.needs("python-socks[asyncio]")
    try:
        return await _Connect(
            url,
            additional_headers={"Authorization": f"Bearer {credential}"},
            user_agent_header=f"resonantgenesis-python/{__version__}",
            compression=compression,
            open_timeout=timeout,
            ping_interval=ping,
            close_timeout=CLOSE_TIMEOUT,
            max_size=max_size,
            **more,
        )
    except (OSError, WebSocketException, EOFError) as error:
        # TimeoutError is an OSError.
        raise connect_error(error, place) from error


def connect_error(error: BaseException, place: str) -> StreamError:
    """The error for a socket that could not be opened."""
    if isinstance(error, InvalidStatus):
        response = error.response
        headers = {name.lower(): value for name, value in response.headers.raw_items()}
        return error_from_answer(Answer(response.status_code, headers, bytes(response.body or b"")))
    if isinstance(error, TimeoutError):
        return ConnectionLost(f"could not connect in time to {place}")
    return ConnectionLost(f"could not connect to {place}: {error or type(error).__name__}")


def closed_error(error: ConnectionClosed) -> StreamError:
    """The error for a socket that was closed, by its code."""
    frame = error.rcvd
    if frame is None:
        return ConnectionLost("the socket broke")
    reason = frame.reason or f"closed with code {frame.code}"
    if frame.code == REFUSED:
        return AuthenticationError(reason)
    if frame.code == TOO_MANY:
        return RateLimited(reason)
    if frame.code in (GOING_AWAY, RESTART, TRY_LATER):
        return Unavailable(reason)
    return ConnectionLost(f"the server closed the socket: {reason}")
