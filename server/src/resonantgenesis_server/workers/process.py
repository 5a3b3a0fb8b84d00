"""The parent's end of one worker."""

from __future__ import annotations

import contextlib
import json
import math
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from ..logging.startup import StartupError

_MODULE = f"{__package__}.main"
#: Seconds that a worker may take to be ready: an upgrade of the store may be long.
_START = 900.0
#: Seconds that it may take to end, besides its drain; and when it is to stop at once.
_END, _END_AT_ONCE = 30.0, 10.0
#: Bytes read at once; a message is one line.
_READ = 64 * 1024


@dataclass(frozen=True, slots=True)
class WorkerOrders:
    """What every worker of a server is given: how to load its settings, and what it inherits."""

    arguments: Mapping[str, Any]
    config: Path | None
    url: str
    listener: int
    counts: int
    pages: int
    #: A worker loads the agents, says which files it has read, and waits until it may go on.
    reload: bool = False


class WorkerProcess:
    """Worker `number`, from its start. `place` is that of its count of connections.

    `drain_seconds`: what it gives to running turns when it is told to drain.
    """

    def __init__(self, orders: WorkerOrders, number: int, place: int, drain_seconds: float) -> None:
        """Raises OSError if no process can be started."""
        self.number, self.place = number, place
        self._drain_seconds = drain_seconds
        self._began = monotonic()
        #: When it was first told to stop.
        self.told: float | None = None
        self.is_ready = False
        #: It has loaded its agents, and waits; and it was told to go on.
        self.is_loaded = self.may_go = False
        #: The files that it has read, and when, in nanoseconds since 1970.
        self.files: list[str] = []
        self.read_at = 0
        #: The number of its node, once it is one.
        self.node: int | None = None
        #: When it has to be ready, or to have ended.
        self.deadline = self._began + _START
        #: Why it could not start.
        self.failure: StartupError | None = None
        self._text = b""
        self.link, theirs = socket.socketpair()
        inherited = [orders.listener, orders.counts, orders.pages, theirs.fileno()]
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603  # of our own words
                    [sys.executable, "-P", "-m", _MODULE, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    pass_fds=inherited,
                    start_new_session=True,
                )
            self._instruct(orders)
        except BaseException:
            self.link.close()
            raise
        self.link.setblocking(False)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def age(self) -> float:
        """Seconds since its start."""
        return monotonic() - self._began

    def read(self) -> bool:
        """Take what it has said. Returns False once nothing can come any more."""
        try:
            data = self.link.recv(_READ)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        *lines, self._text = (self._text + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "node" in message:
                self.node = message["node"]
            if "files" in message:
                self.files, self.read_at = message["files"], message["read_at"]
            if "loaded" in message:
                self.is_loaded = True
            if "ready" in message:
                self.is_ready = True
                self.deadline = math.inf if self.told is None else self.deadline
            if "failed" in message:
                self.failure = StartupError(message["failed"])
                self.failure.exit_code = message["code"]
        return bool(data)

    def go(self) -> None:
        """Let it go on."""
        self.may_go = True
        self._send("go\n")

    def drain(self) -> None:
        """Tell it to drain."""
        self._stop(1, self._drain_seconds + _END)

    def stop(self) -> None:
        """Tell it to stop at once."""
        self._stop(2 if self.told is None else 1, _END_AT_ONCE)

    def hear_end(self, node: int) -> None:
        """Tell it that the process has ended that was this node."""
        self._send(f"ended {node}\n")

    def kill(self) -> None:
        self._process.kill()

    def ended(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def close(self) -> None:
        """When it has ended: take its last words."""
        for _ in range(2):  # the second time at its end
            self.read()
        self.link.close()

    def _stop(self, times: int, seconds: float) -> None:
        """Tell it so many times to stop, which it has to do within `seconds`."""
        now = monotonic()
        self.told = self.told or now
        self.deadline = now + seconds
        if not self.is_ready:  # it does not read yet, and has nothing to lose
            self._process.terminate()
            return
        self._send("stop\n" * times)

    def _send(self, text: str) -> None:
        with contextlib.suppress(OSError):  # its death is noticed elsewhere
            self.link.send(text.encode())

    def _instruct(self, orders: WorkerOrders) -> None:
        given = {
            "arguments": orders.arguments,
            "config": None if orders.config is None else str(orders.config),
            "url": orders.url,
            "listener": orders.listener,
            "counts": orders.counts,
            "pages": orders.pages,
            "number": self.number,
            "place": self.place,
            "reload": orders.reload,
        }
        with contextlib.suppress(OSError):  # its death is noticed elsewhere
            self.link.sendall(json.dumps(given, default=str).encode() + b"\n")
