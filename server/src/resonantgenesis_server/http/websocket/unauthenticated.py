"""Sockets that have not said yet who they are: at most so many, fairly among addresses."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol

from ... import metrics
from ...model.errors import Unavailable


class UnauthenticatedSocket(Protocol):
    """What is asked of a socket."""

    @property
    def is_waiting(self) -> bool:
        """Whether it is open and not authenticated."""
        ...

    def displace(self) -> bool:
        """Close, since others wait too. False: its credential is being checked just now."""
        ...


class UnauthenticatedSockets:
    """Where there is no room for one more, the oldest of the address that then has the most gives
    way.

    So nobody keeps another address out, however many connections it opens. A fixed share for each
    address would do that too, but behind a proxy all clients have one address: there all places
    are that address's, and who is slow gives way to who comes.
    """

    def __init__(self) -> None:
        self._waiting: dict[UnauthenticatedSocket, str] = {}  # the oldest first

    def admit(self, socket: UnauthenticatedSocket, address: str, most: int) -> None:
        """Count this one, so that no more than `most` wait. Raises Unavailable when nobody can
        give way."""
        waiting = {known: of for known, of in self._waiting.items() if known.is_waiting}
        if len(waiting) >= most:
            metrics.limit_hit("unauthenticated_sockets")
            del waiting[_displaced(waiting, address)]
        waiting[socket] = address
        self._waiting = waiting

    def discard(self, socket: UnauthenticatedSocket) -> None:
        self._waiting.pop(socket, None)


def _displaced(
    waiting: Mapping[UnauthenticatedSocket, str], newcomer: str
) -> UnauthenticatedSocket:
    """Who has given way. Raises Unavailable."""
    crowds = Counter(waiting.values())
    crowds[newcomer] += 1
    largest = max(crowds.values())
    for socket, address in waiting.items():
        if crowds[address] == largest and socket.displace():
            return socket
    raise Unavailable("too many sockets wait to be authenticated", retry_after=1)


def client_address(scope: Mapping[str, Any]) -> str:
    """Whom a connection is counted to: an IPv4 address, the /64 of an IPv6 one, since one machine
    has all of that, or "" where the server does not know."""
    client = scope.get("client")
    if client is None:
        return ""
    try:
        address = ipaddress.ip_address(client[0])
    except ValueError:
        return str(client[0])
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), 64), strict=False))
