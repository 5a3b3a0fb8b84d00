"""Servers that begin with everything imported: imports are most of the work of a start.

A process of this file imports what `resonantgenesis serve` does, and forks for every start. What it
forks goes on as that command: with its arguments, environment, folder and output.
"""

from __future__ import annotations

import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: Bytes of a request: the environment is most of it.
_LARGEST = 1 << 20


class WarmProcess:
    """A forked server, as `subprocess.Popen` shows one."""

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, output: int
    ) -> None:
        self.args = list(command)
        self.returncode: int | None = None
        self._parent = _parent()
        request = {"command": self.args, "env": dict(env), "cwd": str(cwd)}
        self.pid = int(self._parent.ask(request, output))
        self._handle = os.pidfd_open(self.pid)

    def poll(self) -> int | None:
        if self.returncode is None and self._has_ended(0):
            self._note_end()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not self._has_ended(None if timeout is None else timeout * 1_000):
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self._note_end()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _has_ended(self, milliseconds: float | None) -> bool:
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        return bool(poll.poll(milliseconds))

    def _note_end(self) -> None:
        with self._parent.lock:
            if self.returncode is None:
                self.returncode = int(self._parent.ask({"ended": self.pid}))
                os.close(self._handle)


class _Parent:
    """The process that forks them. It ends with this one."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, __file__, str(theirs.fileno())]
            subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])

    def ask(self, request: dict[str, Any], *files: int) -> Any:
        with self.lock:
            socket.send_fds(self._link, [json.dumps(request).encode()], files)
            return json.loads(self._link.recv(_LARGEST))


@functools.cache
def _parent() -> _Parent:
    return _Parent()


def _fork_on_demand(link: socket.socket) -> None:
    """Answer requests until the tests have ended. Returns in every server that is forked."""
    running: set[int] = set()
    while True:
        data, files, _, _ = socket.recv_fds(link, _LARGEST, 1)
        if not data:  # servers that interrupted tests have left
            for pid in running:
                os.kill(pid, signal.SIGKILL)
            sys.exit()
        request = json.loads(data)
        if "ended" in request:
            _, status = os.waitpid(request["ended"], 0)
            running.discard(request["ended"])
            link.send(json.dumps(os.waitstatus_to_exitcode(status)).encode())
            continue
        pid = os.fork()
        if pid == 0:
            link.close()
            _become(request, *files)
            return
        os.close(*files)
        running.add(pid)
        link.send(json.dumps(pid).encode())


def _become(request: dict[str, Any], output: int) -> None:
    """Be the command that was asked for."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (1, 2):
        os.dup2(output, number)
    os.close(output)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = request["command"]
    sys.path[1:1] = request["env"].get("PYTHONPATH", "").split(os.pathsep)


if __name__ == "__main__":
    # As for the command itself: its own folder comes first.
    sys.path[0] = str(Path(sys.executable).parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  # as in conftest.py
    from resonantgenesis_server.cli import main
    from resonantgenesis_server.workers.main import importing

    with importing():
        from resonantgenesis_server import app as _server  # noqa: F401
        from resonantgenesis_server.codec import json_schema as _schemas  # noqa: F401
        from resonantgenesis_server.config import load as _settings  # noqa: F401
    assert threading.active_count() == 1
    _fork_on_demand(socket.socket(fileno=int(sys.argv[1])))
    sys.exit(main())
