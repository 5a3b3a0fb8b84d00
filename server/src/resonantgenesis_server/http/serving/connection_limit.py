"""How many connections the process takes, and which one gives way when there is no place left."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import ipaddress
import os
import resource
import select
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import structlog

log_ = structlog.get_logger("resonantgenesis.serving")

#: Descriptors kept for stores, files, models and tools; at most a quarter of all.
_RESERVE = 256
#: Descriptors asked for at most.
_MOST_FILES = 65_536
#: Connections beyond the cap that are looked at: a health check is among them, or it is told that
#: there is no place. Connections beyond these are cut.
SURPLUS = 64
#: Seconds that those have to say what they want.
SURPLUS_WITHIN = 2.0
HEALTH_PATHS = frozenset({"/healthz", "/livez", "/readyz"})
#: Seconds between looks for a descriptor, and between two lines in the log.
_LOOK, _COMPLAIN = 1.0, 60.0


def raise_file_limit() -> None:
    """Raise the soft limit of open files to the hard one: the usual 1,024 is for programs that wait
    with `select`, and would be some 700 viewers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


@dataclass(frozen=True, slots=True)
class ConnectionLimit:
    """`most` connections are served; 0: any number."""

    most: int = 0

    @classmethod
    def of(cls, setting: int) -> ConnectionLimit:
        """The setting; 0: the open-file limit without the descriptors of other parts."""
        if setting:
            return cls(setting)
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY:
            return cls()
        return cls(max(soft - min(_RESERVE, soft // 4) - SURPLUS, 1))


class Place(Enum):
    """The place of a connection: within the limit, beyond it for a health check, or none."""

    WITHIN, SURPLUS, NONE = range(3)


@contextlib.asynccontextmanager
async def watching_descriptors() -> AsyncIterator[None]:
    """Within the block the log says so, once a minute, when descriptors have run out: nothing
    else would, since the event loop drops the connections that it cannot accept."""
    task = asyncio.create_task(_watch(), name="descriptor watch")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=5)


async def _watch() -> None:
    probe = os.open(os.devnull, os.O_RDONLY)
    try:
        while True:
            await asyncio.sleep(_LOOK)
            if _has_run_out(probe):
                soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
                log_.error(
                    "no file descriptor is left; raise the open-file limit (ulimit -n), or lower"
                    " limits.connections",
                    open_files=soft,
                )
                await asyncio.sleep(_COMPLAIN)
    finally:
        os.close(probe)


def _has_run_out(probe: int) -> bool:
    try:
        os.close(os.dup(probe))
    except OSError as error:
        if error.errno not in {errno.EMFILE, errno.ENFILE}:
            raise
        return True
    return False


#: Connections that are asked to give way for one newcomer, at most.
_CHOICES = 8


class SilentConnection(Protocol):
    """A connection that waits for its client: for the first request, or the next."""

    def give_way(self) -> None:
        """Close at once: others need the place."""
        ...

    @property
    def speaks(self) -> bool:
        """Whether something has come that was not read yet."""
        ...


class SilentConnections:
    """The connections of a server that wait for their clients.

    Without a place for one more, the longest silent connection of the address with the most of them
    gives way. So nobody keeps another address out, however many connections it opens. Each call
    takes the same time, however many there are.
    """

    def __init__(self) -> None:
        self._of: dict[str, dict[SilentConnection, None]] = {}  # the longest silent first
        self._address: dict[SilentConnection, str] = {}
        #: Addresses by how many they have.
        self._crowds: dict[int, dict[str, None]] = {}
        self._largest = 0

    def __len__(self) -> int:
        return len(self._address)

    def add(self, connection: SilentConnection, address: str) -> None:
        """Count the connection as silent from now on."""
        self.discard(connection)
        self._address[connection] = address
        crowd = self._of.setdefault(address, {})
        crowd[connection] = None
        self._resize(address, len(crowd) - 1, len(crowd))

    def discard(self, connection: SilentConnection) -> None:
        """The connection has spoken, or left."""
        address = self._address.pop(connection, None)
        if address is None:
            return
        crowd = self._of[address]
        del crowd[connection]
        self._resize(address, len(crowd) + 1, len(crowd))
        if not crowd:
            del self._of[address]

    def displace(self) -> bool:
        """Make one connection give way. False: none is silent."""
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
        crowds = self._crowds
        if before:
            del crowds[before][address]
            if not crowds[before]:
                del crowds[before]
        if now in crowds:
            crowds[now][address] = None
        elif now:
            crowds[now] = {address: None}
        self._largest = max(self._largest, now)
        while self._largest and self._largest not in crowds:
            self._largest -= 1


#: A client's address and port; None: the server does not know.
Peer = tuple[str, int] | None


def peer_of(transport: asyncio.Transport) -> Peer:
    """The other side of the connection. Costs a system call."""
    peer = transport.get_extra_info("peername")
    return (str(peer[0]), int(peer[1])) if isinstance(peer, tuple) else None


def client_address(peer: Peer) -> str:
    """The address that a connection is counted to; "" where the server does not know."""
    return "" if peer is None else _counted_to(peer[0])


@functools.lru_cache(4096)
def _counted_to(host: str) -> str:
    """An IPv4 address; the /64 of an IPv6 one, since one machine has all of that."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), 64), strict=False))


def has_input(transport: asyncio.Transport) -> bool:
    """Whether something has come that the event loop has not read yet: a close now would destroy
    it, and what is in it might be a request."""
    socket = transport.get_extra_info("socket")
    if socket is None or transport.is_closing():
        return False
    poll = select.poll()
    poll.register(socket.fileno(), select.POLLIN)
    return bool(poll.poll(0))
