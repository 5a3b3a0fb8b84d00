"""A server of our own as a child process, started and ended by one command."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from ..config.settings import ENV_PREFIX
from .errors import CliError

HOST = "127.0.0.1"
LOG_NAME = "demo-server.log"
_READY_SECONDS = 60.0
_STOP_SECONDS = 10.0


class Child:
    """A running server."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.url = url
        self._process = process
        self._log = log

    def wait(self) -> None:
        """Until it ends, whoever ends it."""
        self._process.wait()

    def wait_until_ready(self) -> None:
        """Raises CliError, with its own last words, when it ends before or takes too long."""
        deadline = time.monotonic() + _READY_SECONDS
        with httpx.Client(base_url=self.url, timeout=2.0, trust_env=False) as http:
            while time.monotonic() < deadline:
                if self._process.poll() is not None:
                    raise CliError(f"the server did not start: {self._last_words()}")
                if answers(http, "/readyz"):
                    return
                time.sleep(0.05)
        raise CliError(f"the server was not ready within {_READY_SECONDS:g} s; see {self._log}")

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for what does not end by it. Nothing happens when it has ended."""
        if self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_STOP_SECONDS)

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1].removeprefix("resonantgenesis: ") if lines else f"see {self._log}"


@contextlib.contextmanager
def start_server(port: int, data: Path) -> Iterator[Child]:
    """A server on this port and directory; it ends when the block does, however that comes."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = data / LOG_NAME
    command = [sys.executable, "-m", "resonantgenesis_server", "serve"]
    command += ["--host", HOST, "--port", str(port), "--data", str(data)]
    # What the person set counts, but a demonstration's end should not take the usual drain.
    environment = {f"{ENV_PREFIX}DRAIN_SECONDS": "1", **os.environ}
    with _signals_as_exit(), log.open("wb") as output:
        # A session of its own, so that Ctrl-C reaches it through us and only once.
        process = subprocess.Popen(  # noqa: S603 - our own program
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # says the new key, which no file but its own should hold
            stderr=output,
            env=environment,
            start_new_session=True,
        )
        child = Child(process, f"http://{HOST}:{port}", log)
        try:
            yield child
        finally:
            child.stop()


def free_port(wanted: int) -> int:
    """`wanted` if nothing listens there, else another one that is free."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    raise CliError("no port is free on this machine")


def answers(http: httpx.Client, path: str) -> bool:
    """Whether a GET gives 200."""
    try:
        return http.get(path).status_code == 200
    except httpx.HTTPError:
        return False


@contextlib.contextmanager
def _signals_as_exit() -> Iterator[None]:
    """SIGTERM and SIGHUP leave through every `finally`, so that the child does not outlive us."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
