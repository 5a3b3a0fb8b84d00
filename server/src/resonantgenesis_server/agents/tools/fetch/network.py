"""Connections that lead to the public internet and nowhere else.

The address is checked where the connection is made, and the connection is made to the address that
was checked: a name that resolves to something else a moment later changes nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Collection, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

import httpcore

from ..base import ToolError, in_thread
from ..settings import AllowedHost

if TYPE_CHECKING:
    from httpcore._backends.base import SOCKET_OPTION

#: The IP addresses of a host and port. Raises OSError.
Resolve = Callable[[str, int], Awaitable[list[str]]]

#: Addresses of one name that are tried.
_MOST_ADDRESSES = 4


class AddressRefused(ToolError):
    """The connection leads to where this tool must not go."""


async def resolve(host: str, port: int) -> list[str]:
    """The system's answer. In a thread of its own: a resolver can hang for half a minute."""

    def ask() -> list[str]:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    return await in_thread(ask, f"resolver {host[:64]}")


class PublicNetwork(httpcore.AsyncNetworkBackend):
    """Connects to public addresses only, and to `allowed` hosts at any address.

    `lookup` and `inner` resolve and connect.
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
        """Raises AddressRefused, and httpcore's errors of connecting."""
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
        raise AddressRefused("a local socket is not of the public internet")

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
                raise AddressRefused(f"{host} is not on the public internet; it may not be fetched")
            found = public
        return found[:_MOST_ADDRESSES]


async def _check_peer(stream: httpcore.AsyncNetworkStream, host: str) -> None:
    """A public address may be this machine's own: then nothing is sent."""
    ours, theirs = stream.get_extra_info("client_addr"), stream.get_extra_info("server_addr")
    if not ours or not theirs or ours[0] == theirs[0] or not is_public(str(theirs[0])):
        await stream.aclose()
        raise AddressRefused(
            f"{host} leads back to this server's own network; it may not be fetched"
        )


# IANA's registries of special-purpose addresses, whole blocks: no web site lives in the few
# global addresses among them. Python's own `is_global` differs from release to release.
_INSIDE_V4 = tuple(
    ip_network(block)
    for block in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' NAT, and one cloud's metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # a cloud's metadata behind a public address
        "169.254.0.0/16",  # link-local, and the clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
# All that is allocated to the internet. Outside of it: loopback, private, link-local, multicast,
# and every form that carries an IPv4 address (mapped, compatible, NAT64) but these two inside.
_GLOBAL_V6 = ip_network("2000::/3")
_INSIDE_V6 = tuple(
    ip_network(block)
    for block in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
    )
)


def is_public(address: str) -> bool:
    """True if an IP address is public. Raises ValueError for a text that is none."""
    ip = ip_address(address)
    if isinstance(ip, IPv4Address):
        return not any(ip in block for block in _INSIDE_V4)
    return _is_public_v6(ip)


def _is_public_v6(ip: IPv6Address) -> bool:
    if ip.scope_id is not None:  # only link-local addresses have one
        return False
    return ip in _GLOBAL_V6 and not any(ip in block for block in _INSIDE_V6)
