"""The server that a command talks to: a running one, or a child process of the command."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ..config import ENV_PREFIX
from .client import Notice, open_client
from .errors import AuthError, CliError, NetworkError
from .options import to_stderr
from .target import (
    BOOTSTRAP_VARIABLE,
    DEFAULT_URL,
    KEY_FILE,
    KEY_VARIABLE,
    URL_VARIABLE,
    Key,
    Target,
    check_url,
    find_key,
    is_loopback,
    key_in,
    ready_urls,
)

#: Every server has this agent. A request for it shows whether the server accepts a key.
_AGENT = "guide"
HOST = "127.0.0.1"
#: The port of a started server, unless something listens there.
PORT = 8080
LOG_NAME = "demo-server.log"
_READY_SECONDS = 60.0
_STOP_SECONDS = 10.0


class Child:
    """A server as a child process of this command."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.url = url
        self._process = process
        self._log = log

    def wait(self) -> None:
        """Wait until the server ends."""
        self._process.wait()

    def wait_until_ready(self) -> None:
        """Raises CliError, with the server's last line, if it ends or is not ready in time."""
        deadline = time.monotonic() + _READY_SECONDS
        with _readiness_check(self.url) as is_ready:
            while time.monotonic() < deadline:
                if self._process.poll() is not None:
                    raise CliError(f"the server did not start: {self._last_words()}")
                if is_ready():
                    return
                time.sleep(0.05)
        raise CliError(f"the server was not ready within {_READY_SECONDS:g} s; see {self._log}")

    def stop(self) -> None:
        """Send SIGTERM, and SIGKILL if the server does not end in time. May be repeated."""
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
    """A server on this port and directory, which ends with the block, however the block ends."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = data / LOG_NAME
    command = [sys.executable, "-m", "resonantgenesis_server", "serve"]
    command += ["--host", HOST, "--port", str(port), "--data", str(data)]
    # Variables of the person win, but the end of a demonstration needs no long drain.
    environment = {f"{ENV_PREFIX}DRAIN_SECONDS": "1", **os.environ}
    # It is for this machine alone, where a certificate has no name to prove.
    environment |= {f"{ENV_PREFIX}TLS_CERT": "", f"{ENV_PREFIX}TLS_KEY": ""}
    with _signals_as_exit(), log.open("wb") as output:
        # Ctrl-C goes to every process of a terminal's session. In a session of its own the server
        # hears of it through us, and only once.
        process = subprocess.Popen(  # noqa: S603 - our own program
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # shows the new key, which no other file may hold
            stderr=output,
            env=environment,
            start_new_session=True,
        )
        child = Child(process, f"http://{HOST}:{port}", log)
        try:
            yield child
        finally:
            child.stop()


def free_port(preferred: int) -> int:
    """`preferred` if nothing listens there, else any free port."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            free: int = probe.getsockname()[1]
            return free
    raise CliError("no port is free on this machine")


@contextlib.contextmanager
def _readiness_check(url: str) -> Iterator[Callable[[], bool]]:
    """A function that says whether a server at the address is ready. It needs no key."""
    import httpx

    certificates = httpx.create_ssl_context(trust_env=url.startswith("https:"))
    with httpx.Client(timeout=2.0, trust_env=not is_loopback(url), verify=certificates) as http:

        def is_ready() -> bool:
            for ready in ready_urls(url):
                with contextlib.suppress(httpx.HTTPError):
                    if http.get(ready).status_code == httpx.codes.OK:
                        return True
            return False

        yield is_ready


@contextlib.contextmanager
def _signals_as_exit() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit: every `finally` runs, and the child ends as well."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True, slots=True)
class Nearby:
    """A server to ask; `child` is its process if this command started it."""

    url: str
    key: Key
    child: Child | None = None


@contextlib.contextmanager
def find_or_start(
    url: str | None, port: int | None, data: Path | None, say: Notice, *, stands_in: bool
) -> Iterator[Nearby]:
    """A server that accepts our key, for the length of the block.

    It is the server at the address, if one runs there. Otherwise, on this machine, a server is
    started. Its data is in `data`, or in a directory that is deleted afterwards. `stands_in`: a
    server is also started beside a named one that refuses our key. Raises CliError.
    """
    named = url or (None if port else os.environ.get(URL_VARIABLE))
    address = check_url(named or (f"http://{HOST}:{port}" if port else DEFAULT_URL))
    running = _running(address, data, stands_in or named is None)
    if running is not None:
        say(f"Asking the server that runs at {address}.")
        yield running
        return
    with contextlib.ExitStack() as stack:
        folder = data
        if folder is None:
            temporary = tempfile.TemporaryDirectory(prefix="resonantgenesis-")
            folder = Path(stack.enter_context(temporary))
        preferred = port or urlsplit(address).port or PORT
        child = stack.enter_context(start_server(_port(preferred, port is not None), folder))
        where = "a new directory" if data is None else str(folder)
        say(f"Starting a server at {child.url} with its data in {where}.")
        child.wait_until_ready()
        yield Nearby(child.url, _key_of(folder), child)


def _running(address: str, data: Path | None, stands_in: bool) -> Nearby | None:
    """The server at the address, if it accepts our key.

    None if a server can be started instead: on this machine, where no server runs, or where
    `stands_in` allows one beside it. Raises CliError otherwise.
    """
    is_local = is_loopback(address)
    with _readiness_check(address) as is_ready:
        if not is_ready():
            if is_local:
                return None
            raise NetworkError(f"no server answers at {address}; check --url")
    key = find_key(address, data)
    # The end of the function deals with a refused key, and with no key.
    with contextlib.suppress(AuthError):
        if key is not None:
            with open_client(Target(address, key.value)) as client:
                client.agents.get(_AGENT)
            return Nearby(address, key)
    if is_local and stands_in:
        to_stderr(f"a server runs at {address}, but not with a key that is known here")
        return None
    if key is not None:
        raise AuthError(f"the server at {address} does not take the key here; set {KEY_VARIABLE}")
    raise AuthError(
        f"no key for the server at {address}: set {KEY_VARIABLE}"
        f"{', or name its data directory with --data' if is_local else ''}"
    )


def _port(preferred: int, is_fixed: bool) -> int:
    free = free_port(preferred)
    if is_fixed and free != preferred:
        raise CliError(f"port {preferred} is taken; choose another with --port, or none")
    return free


def _key_of(folder: Path) -> Key:
    """The child's key: from its settings, else from its data directory."""
    from ..config.load import load_settings

    configured = load_settings().settings.bootstrap_key
    if configured is not None:
        return Key(configured.get_secret_value(), f'"${BOOTSTRAP_VARIABLE}"')
    key = key_in(folder)
    if key is None:
        raise AuthError(
            f"{folder} holds a server without {KEY_FILE}; set {BOOTSTRAP_VARIABLE} to a new key"
        )
    return key
