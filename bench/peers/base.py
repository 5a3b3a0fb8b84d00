"""What a peer is: how it is started, and how it does each kind of work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from ..harness.loadgen import PublishSpec, ViewerSpec
from ..harness.process import BenchError, Server


@dataclass(frozen=True, slots=True)
class Load:
    """The work offered: `count` events of `bytes` to each of `groups` at `rate` a second each."""

    viewers: int
    rate: float
    count: int
    bytes: int = 64
    groups: int = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """How a peer does a load: who reads, and what makes the events come.

    Either the server makes them itself once `begin` is called, or `publish` sends them; neither
    when the viewers' own requests do.
    """

    viewers: ViewerSpec
    begin: Callable[[], None] | None = None
    publish: PublishSpec | None = None


class Peer(ABC):
    """A server under measurement. A method that returns None: the peer has no such thing."""

    name: str
    title: str
    #: What it promises about an event that a viewer has seen, for the report.
    durability = "not on disk"
    #: The most quiet viewers that it can be asked for: each costs it one file and more.
    most_idle = 1_000_000
    #: Deliveries a second that one core carries, where that is less than the scenarios offer:
    #: CPU per delivery is then taken at this load, since an overloaded server batches.
    carries: int | None = None

    def absent(self) -> str | None:
        """Why it cannot be measured here; None when it can."""
        return None

    @abstractmethod
    def start(self, directory: Path) -> Server:
        """The server, ready to be asked."""

    def version(self) -> str:
        return ""

    def fanout(self, server: Server, load: Load) -> Plan | None:
        """Every viewer gets every event over SSE; a viewer who returns with `Last-Event-ID` gets
        what it missed."""
        return None

    def chat(self, server: Server, load: Load) -> Plan | None:
        """Every viewer gets every event as a frame of the AI SDK."""
        return None

    def sockets(self, server: Server, load: Load, *, deflate: bool) -> Plan | None:
        """The same over WebSocket, without the return."""
        return None

    def tokens(self, server: Server, load: Load) -> Plan | None:
        """Every viewer starts a stream of its own with its request and reads it to its end."""
        return None

    def replay(self, server: Server, count: int, size: int, *, compact: bool) -> Plan | None:
        """A stored stream of `count` events, read from its start; stored when this returns."""
        return None

    def idle(self, server: Server, viewers: int) -> Plan | None:
        """Viewers of a stream in which nothing happens."""
        return self.fanout(server, Load(viewers=viewers, rate=1, count=1))

    def topics(self, server: Server, load: Load) -> Plan | None:
        """Each viewer subscribes to one of `load.groups` distinct subscriptions."""
        return self.fanout(server, load)


def post(
    server: Server, path: str, body: object = None, headers: dict[str, str] | None = None
) -> httpx.Response:
    """A request of the setup. Raises BenchError for a refusal."""
    url = f"http://127.0.0.1:{server.port}{path}"
    response = httpx.post(url, json=body, headers=headers, timeout=60)
    if response.status_code >= 300:
        raise BenchError(f"POST {path}: {response.status_code} {response.text[:200]}")
    return response
