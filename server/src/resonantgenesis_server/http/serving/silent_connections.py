"""Connections that wait for their clients' words: where there is no room, the longest silent go."""

from __future__ import annotations

import asyncio
import functools
import select
from typing import Protocol

from ..websocket.unauthenticated import client_address

#: Connections that are asked to give way for one newcomer, at most.
_CHOICES = 8


class Silent(Protocol):
    """A connection that waits for its client's next word, or for its first."""

    def give_way(self) -> None:
        """Close at once: others need the place."""
        ...

    @property
    def speaks(self) -> bool:
        """Whether something has come that was not read yet."""
        ...


class SilentConnections:
    """Those of a server, so that where there is no room for one more the longest silent of the
    address with the most of them gives way: nobody keeps another address out, however many
    connections it opens. Each call takes the same time, however many there are."""

    def __init__(self) -> None:
        self._of: dict[str, dict[Silent, None]] = {}  # the longest silent first
        self._address: dict[Silent, str] = {}
        #: Addresses by how many they have.
        self._crowds: dict[int, dict[str, None]] = {}
        self._largest = 0

    def __len__(self) -> int:
        return len(self._address)

    def add(self, connection: Silent, address: str) -> None:
        """From now on it is silent."""
        self.discard(connection)
        self._address[connection] = address
        crowd = self._of.setdefault(address, {})
        crowd[connection] = None
        self._resize(address, len(crowd) - 1, len(crowd))

    def discard(self, connection: Silent) -> None:
        """It has spoken, or left."""
        address = self._address.pop(connection, None)
        if address is None:
            return
        crowd = self._of[address]
        del crowd[connection]
        self._resize(address, len(crowd) + 1, len(crowd))
        if not crowd:
            del self._of[address]

    def displace(self) -> bool:
        """Make one give way. False: none is silent."""
        for _ in range(_CHOICES):
            if not self._largest:
                return False
            address = next(iter(self._crowds[self._largest]))
            connection = next(iter(self._of[address]))
            if not connection.speaks:
                self.discard(connection)
                connection.give_way()
                return True
            self.add(connection, address)  # the last to be asked again
        return False

    def _resize(self, address: str, before: int, now: int) -> None:
        if before:
            self._crowds[before].pop(address)
            if not self._crowds[before]:
                del self._crowds[before]
        if now:
            self._crowds.setdefault(now, {})[address] = None
        self._largest = max(self._largest, now)
        while self._largest and self._largest not in self._crowds:
            self._largest -= 1


def address_of(transport: asyncio.Transport) -> str:
    """Whom the connection is counted to."""
    peer = transport.get_extra_info("peername")
    return _counted_to(peer[0]) if isinstance(peer, tuple) else ""


@functools.lru_cache(4096)
def _counted_to(host: str) -> str:
    return client_address({"client": (host, 0)})


def has_input(transport: asyncio.Transport) -> bool:
    """Whether something has come that the event loop has not read yet: a close now would destroy
    it, and what is in it might be a request."""
    socket = transport.get_extra_info("socket")
    if socket is None or transport.is_closing():
        return False
    poll = select.poll()
    poll.register(socket.fileno(), select.POLLIN)
    return bool(poll.poll(0))
