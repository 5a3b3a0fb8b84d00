"""One listening socket for several processes: a connection goes to the process that has the fewest.

Streams are long, so a bad spread stays. 400 connections to four idle processes of uvloop were
spread like this: 0, 0, 229, 171 by one inherited socket from which each accepted what it could, and
84, 98, 106, 112 by SO_REUSEPORT. The latter is a hash, which knows no load: after the death of a
process its clients come back to all, and its successor would have few for hours. And connections
that wait in the socket of a process that dies are reset.

So all processes inherit one socket, which their parent holds open. Each counts its connections in
memory that all of them share, and leaves a new one to a process that has fewer.
"""

from __future__ import annotations

import asyncio
import mmap
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from .shared_memory import shared_memory

#: The count of a process that accepts no connections.
_ABSENT = -1
#: Bytes of a count; the processor writes so many at once.
_SIZE = 4
#: Seconds until a process looks again that leaves a connection to others, and the looks after which
#: it accepts all the same: a process that has fewer may hang.
_PAUSE, _LOOKS = 0.001, 10
#: Connections accepted then, and accepted without a pause for anything else.
_AT_LAST, _AT_ONCE = 8, 64
#: One more than this part of the fewest is no imbalance; it keeps many arrivals quick.
_SLACK = 16
#: Seconds after a failure to accept, such as too many open files.
_RETRY = 1.0


class ConnectionCounts:
    """The open connections of each process, one place for each, in memory that all share."""

    def __init__(self, descriptor: int) -> None:
        self._counts = memoryview(mmap.mmap(descriptor, 0)).cast("i")

    @staticmethod
    def create(places: int) -> int:
        """The descriptor of the memory; it has to be inherited by the processes."""
        return shared_memory("connections", _ABSENT.to_bytes(_SIZE, "little", signed=True) * places)

    def set(self, place: int, count: int) -> None:
        self._counts[place] = count

    def leave(self, place: int) -> None:
        """This place accepts nothing any more."""
        self._counts[place] = _ABSENT

    def fewest(self, but: int) -> int | None:
        """The fewest connections of any other process that accepts some; None: there is none."""
        counts = (count for place, count in enumerate(self._counts) if place != but)
        return min((count for count in counts if count != _ABSENT), default=None)


@dataclass(frozen=True, slots=True)
class Sharing:
    """A process among those that share a listening socket. `accepts` is called when it does."""

    counts: ConnectionCounts
    place: int
    accepts: Callable[[SharedListener], None]


class SharedListener:
    """Accepts connections of a shared socket, from `start` to `leave` or `close`.

    `serve` makes the protocol of a connection, and `tls` encrypts it. `connections` has those that
    are open, once each is made; it takes the place of uvicorn's set.
    """

    def __init__(
        self,
        bound: socket.socket,
        sharing: Sharing,
        serve: Callable[[], asyncio.Protocol],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._tls = tls
        self._socket = bound
        self._sharing = sharing
        self._serve = serve
        self._opening: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._left = False
        self.connections: set[asyncio.Protocol] = _Counted(self._count)

    def start(self) -> None:
        self._count()
        self._await()
        self._sharing.accepts(self)

    def leave(self) -> None:
        """Leave new connections to the other processes. The last one goes on: whoever comes then
        has to be told that the server goes away."""
        self._left = True
        self._sharing.counts.leave(self._sharing.place)
        if self._fewest() is not None:
            self.close()

    def close(self) -> None:
        """Accept nothing any more. The parent's socket is not touched."""
        self._left = True
        self._sharing.counts.leave(self._sharing.place)
        self._pause(None)
        self._socket.close()

    # -- inside ----------------------------------------------------------------------------

    def _await(self) -> None:
        asyncio.get_running_loop().add_reader(self._socket, self._accept)

    def _pause(self, seconds: float | None, looks: int = 0) -> None:
        """Stop to accept; after `seconds` go on."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._socket.fileno() < 0:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket)
        if seconds is not None:
            self._timer = loop.call_later(seconds, self._accept, looks)

    def _accept(self, looks: int = 0) -> None:
        """Accept what waits, while no other process has fewer connections."""
        if self._left and self._fewest() is not None:
            self.close()
            return
        surely = _AT_LAST if looks >= _LOOKS else 0
        for number in range(_AT_ONCE):
            if number >= surely and not self._has_fewest():
                self._pause(_PAUSE, looks + 1 if not number else 1)
                return
            try:
                connection, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                break
            except ConnectionAbortedError:
                continue
            except OSError:  # `watching_descriptors` complains when none is left
                self._pause(_RETRY)
                return
            self._open(connection)
        self._timer = None
        self._await()

    def _has_fewest(self) -> bool:
        fewest = self._fewest()
        return fewest is None or self._number() <= fewest + fewest // _SLACK

    def _fewest(self) -> int | None:
        return self._sharing.counts.fewest(self._sharing.place)

    def _number(self) -> int:
        return len(self.connections) + len(self._opening)

    def _count(self) -> None:
        if not self._left:
            self._sharing.counts.set(self._sharing.place, self._number())

    def _open(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = asyncio.create_task(self._connect(connection), name="accept")
        self._opening.add(task)
        task.add_done_callback(self._opened)
        self._count()

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        self._count()

    async def _connect(self, connection: socket.socket) -> None:
        try:
            loop = asyncio.get_running_loop()
            await loop.connect_accepted_socket(self._serve, connection, ssl=self._tls)
        except OSError:  # the client is gone
            connection.close()


class _Counted(set[asyncio.Protocol]):
    """A set that says when it has changed; uvicorn adds and discards."""

    def __init__(self, changed: Callable[[], None]) -> None:
        super().__init__()
        self._changed = changed

    def add(self, connection: asyncio.Protocol, /) -> None:
        super().add(connection)
        self._changed()

    def discard(self, connection: object, /) -> None:
        super().discard(connection)
        self._changed()
