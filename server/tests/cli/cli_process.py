"""Commands and servers as processes, waited for by what they say."""

from __future__ import annotations

import errno
import os
import pty
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx
from resonantgenesis_server.cli.nearby import free_port

COMMAND = [sys.executable, "-m", "resonantgenesis_server"]
SECONDS = 30.0


@dataclass(frozen=True)
class Outcome:
    """What a command that was called in process left."""

    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]


class Process:
    """A command; its output is read as it comes, so that a test can wait for a word of it.

    It sees none of our variables but those given. `terminal`: it speaks to one and not to pipes.
    """

    def __init__(self, *arguments: str, terminal: bool = False, **environment: str) -> None:
        self.out = ""
        self._changed = threading.Condition()
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("RESONANTGENESIS_") and name not in {"NO_COLOR", "CI"}
        }
        ours, theirs = pty.openpty() if terminal else (None, subprocess.PIPE)
        self._process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs if terminal else subprocess.STDOUT,
            env={**inherited, "TERM": "xterm-256color", **environment},
        )
        if ours is not None:
            os.close(theirs)
            self._in, self._out = os.dup(ours), ours
        else:
            assert self._process.stdin is not None and self._process.stdout is not None
            self._in = os.dup(self._process.stdin.fileno())
            self._out = os.dup(self._process.stdout.fileno())
            self._process.stdin.close()
            self._process.stdout.close()
        self._is_open = True
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self.wait()

    def say(self, text: str) -> None:
        os.write(self._in, text.encode())

    def close_input(self) -> None:
        if self._is_open:
            self._is_open = False
            os.close(self._in)

    def wait_for(self, text: str, after: int = 0) -> None:
        """Until `text` stands in the output behind the place `after`."""
        with self._changed:
            found = self._changed.wait_for(lambda: text in self.out[after:], SECONDS)
        assert found, f"{text!r} is not in: {self.out}"

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def interrupt(self, text: str) -> None:
        """SIGINT until `text` is said: readline misses one that comes just before it waits."""
        deadline = time.monotonic() + SECONDS
        seen = False
        while not seen:
            assert time.monotonic() < deadline, f"{text!r} is not in: {self.out}"
            self.signal(signal.SIGINT)
            with self._changed:
                seen = self._changed.wait_for(lambda: text in self.out, 2.0)

    def wait(self) -> int:
        """The exit code, all output read."""
        code = self._process.wait(SECONDS)
        self._reader.join(SECONDS)
        self.close_input()
        return code

    def _read(self) -> None:
        while data := _read_some(self._out):
            with self._changed:
                self.out += data.decode(errors="replace")
                self._changed.notify_all()
        os.close(self._out)


def _read_some(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65_536)
    except OSError as error:
        if error.errno == errno.EIO:  # a terminal that nobody holds any more
            return b""
        raise


class RealServer:
    """`resonantgenesis serve` on a port that stays the same over restarts."""

    def __init__(self, data: Path) -> None:
        self.data = data
        # Not one of those that the system gives to others while the server is down.
        self.port = free_port(random.randrange(20_000, 32_000))
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: Process | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def key(self) -> str:
        return (self.data / "api-key").read_text().strip()

    @property
    def environment(self) -> dict[str, str]:
        return {"RESONANTGENESIS_BASE_URL": self.url, "RESONANTGENESIS_API_KEY": self.key}

    def start(self) -> None:
        arguments = ["--port", str(self.port), "--data", str(self.data)]
        self._process = Process("serve", *arguments, RESONANTGENESIS_WORDS_PER_SECOND="0")
        try:
            wait_until_ready(self.url, self._process)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """As a crash would."""
        if self._process is not None:
            self._process.signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def wait_until_ready(url: str, process: Process) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_ready(url):
        assert time.monotonic() < deadline, f"{url} is not ready: {process.out}"
        time.sleep(0.02)
