"""The listening socket of the server."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from .shared_listener import Sharing

#: Connections waiting to be accepted: a thousand viewers may come back at once.
BACKLOG = 2048


class CannotListen(Exception):
    """The address cannot be bound; the message is one line that says what to change."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A bound socket and the address people open. `sharing`: other processes accept from it too."""

    socket: socket.socket
    url: str
    sharing: Sharing | None = None


@contextlib.contextmanager
def listen(host: str, port: int, scheme: str = "http") -> Iterator[Listener]:
    """Bind; port 0 picks a free one. Raises CannotListen."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise CannotListen(f"cannot listen on {host}: {error.strerror or error}") from error
    with socket.socket(family, kind, protocol) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(address)
            # Listening at once makes a second server on the port fail now and not later.
            bound.listen(BACKLOG)
        except OSError as error:
            raise CannotListen(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port"
            ) from error
        bound.setblocking(False)
        shown = f"[{host}]" if ":" in host else host
        yield Listener(bound, f"{scheme}://{shown}:{bound.getsockname()[1]}")
