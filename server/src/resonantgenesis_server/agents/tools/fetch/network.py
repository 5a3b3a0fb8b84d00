"""Connections that lead to the public internet and nowhere else.

The address is checked where the connection is made, and the connection is made to the address that
was checked: a name that resolves to something else a moment later changes nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpcore

from ..base import ToolError
from ..blocking import in_thread
from .addresses import is_public

if TYPE_CHECKING:
    from httpcore._backends.base import SOCKET_OPTION

#: The IP addresses of a host and port. Raises OSError.
Resolve = Callable[[str, int], Awaitable[list[str]]]

#: Addresses of one name that are tried.
_MOST_ADDRESSES = 4


class Refused(ToolError):
    """The connection leads to where this tool must not go."""


@dataclass(frozen=True, slots=True)
class AllowedHost:
    """A host that may be reached wherever it is; `port` None: any."""

    host: str
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> AllowedHost:
        """`HOST`, `HOST:PORT`, `IPV6` or `[IPV6]:PORT`. Raises ValueError."""
        host, port = text.strip().lower(), ""
        if host.startswith("["):
            host, _, rest = host[1:].partition("]")
            if rest and not rest.startswith(":"):
                raise ValueError(f"{text!r} is not HOST or HOST:PORT")
            port = rest[1:]
        elif host.count(":") == 1:
            host, _, port = host.partition(":")
        host = host.rstrip(".")
        if not host or any(sign in host for sign in "/@*? ") or (port and not _is_port(port)):
            raise ValueError(f"{text!r} is not HOST or HOST:PORT")
        return cls(host, int(port) if port else None)

    def covers(self, host: str, port: int) -> bool:
        return self.host == host.lower().rstrip(".") and self.port in {None, port}


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= 65_535


async def resolve(host: str, port: int) -> list[str]:
    """The system's answer. In a thread of its own: a resolver can hang for half a minute."""

    def ask() -> list[str]:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    return await in_thread(ask, f"resolver {host[:64]}")


class PublicNetwork(httpcore.AsyncNetworkBackend):
    """Connects to public addresses only, and to `allowed` hosts whatever their address.

    `lookup` and `inner` are what really resolves and connects.
    """

    def __init__(
        self,
        allowed: Collection[AllowedHost] = (),
        lookup: Resolve = resolve,
        inner: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self._allowed = tuple(allowed)
        self._lookup = lookup
        self._inner = inner or httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises Refused, and httpcore's errors of connecting."""
        is_free = any(allowed.covers(host, port) for allowed in self._allowed)
        error: httpcore.NetworkError | httpcore.TimeoutException | None = None
        for address in await self._addresses(host, port, is_free):
            try:
                stream = await self._inner.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                error = exc
                continue
            if not is_free:
                await _check_peer(stream, host)
            return stream
        raise error or httpcore.ConnectError(f"{host} has no address")

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise Refused("a local socket is not of the public internet")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)

    async def _addresses(self, host: str, port: int, is_free: bool) -> list[str]:
        try:
            found = await self._lookup(host, port)
        except (OSError, UnicodeError) as exc:
            raise httpcore.ConnectError(f"the name {host} does not resolve") from exc
        if not is_free:
            public = [address for address in found if is_public(address)]
            if found and not public:
                raise Refused(f"{host} is not on the public internet; it may not be fetched")
            found = public
        return found[:_MOST_ADDRESSES]


async def _check_peer(stream: httpcore.AsyncNetworkStream, host: str) -> None:
    """A public address may be this machine's own: then nothing is sent."""
    ours, theirs = stream.get_extra_info("client_addr"), stream.get_extra_info("server_addr")
    if not ours or not theirs or ours[0] == theirs[0] or not is_public(str(theirs[0])):
        await stream.aclose()
        raise Refused(f"{host} leads back to this server's own network; it may not be fetched")
