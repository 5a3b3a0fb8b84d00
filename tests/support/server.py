"""The server as users run it: a process of its own, on a free port, with its log in a file."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from .warm import WarmProcess

KEY = "rg_test_bootstrap_key_0123456789"
TESTS = Path(__file__).resolve().parents[1]
#: The command as it is installed beside the interpreter.
COMMAND = [str(Path(sys.executable).with_name("resonantgenesis"))]
#: The servers' own key, keys and tokens that they gave out, keys of providers, and whatever was
#: sent as a bearer.
_CREDENTIAL = re.compile(
    rf"{KEY}|rg_live_\w+|\bsk-[\w-]{{8,}}|eyJ[\w-]+\.[\w-]+\.[\w-]+|Bearer \w{{12,}}"
)
#: Seconds a start or a stop may take on a busy machine.
PATIENCE = 60.0


def bearer(credential: str = KEY) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}


def free_port() -> int:
    """One that the system gives to nobody by itself, so it is free when a server comes back."""
    while True:
        port = 10_240 + secrets.randbelow(20_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class ServerProcess:
    """One data directory and the process that serves it; may be killed and started again.

    `settings` are names of settings (`words_per_second`, `limits__heartbeat`) and their values;
    `wrapper` is a command to run it under, `program` a script that takes its place, `environment`
    a virtual environment to run it in, `options` more options of the command.
    """

    def __init__(
        self,
        data: Path,
        *,
        agents: Mapping[str, str] | None = None,
        wrapper: Sequence[str] = (),
        program: Path | None = None,
        environment: Path | None = None,
        options: Sequence[str] = (),
        key: str | None = KEY,
        log: Path | None = None,
        **settings: Any,
    ) -> None:
        self.data = data
        self.log_path = log or data.with_name(data.name + ".log")
        self.port = 0
        self._agents = agents or {}
        self._options = options
        self._wrapper = wrapper
        self._program = COMMAND if program is None else [sys.executable, str(program)]
        if environment is not None:
            self._program = [str(environment / "bin" / "resonantgenesis")]
        self._settings = {
            "words_per_second": 0,
            "log_format": "json",
            "drain_seconds": 0,
            **settings,
        }
        if key is not None:
            self._settings["bootstrap_key"] = key
        self._process: subprocess.Popen[bytes] | WarmProcess | None = None
        self._log_start = 0

    # -- life ------------------------------------------------------------------------------

    def start(self, port: int | None = None) -> ServerProcess:
        """Start and wait until it takes requests; on the same port as before, if it had one."""
        self.launch((self.port or free_port()) if port is None else port)
        self.wait_ready()
        return self

    def launch(self, port: int = 0) -> subprocess.Popen[bytes] | WarmProcess:
        """Start the process without waiting for anything."""
        self._log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        command, place = [*self._wrapper, *self.command(port)], self.log_path.parent
        with self.log_path.open("ab") as log:
            if command[: len(COMMAND)] == COMMAND:
                env = self._environment()
                self._process = WarmProcess(command, env=env, cwd=place, output=log.fileno())
            else:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self._environment(),
                    cwd=place,
                )
        return self._process

    def command(self, port: int) -> list[str]:
        """The arguments of `resonantgenesis serve`."""
        agents = [f"--agent={name}={where}" for name, where in self._agents.items()]
        where = ["--port", str(port), "--data", str(self.data)]
        return [*self._program, "serve", *where, *agents, *self._options]

    def wait_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}: {self.log}")
            serving = next((line for line in self.records() if line["event"] == "serving"), None)
            if serving is not None:
                self.port = int(serving["url"].rsplit(":", 1)[1])
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(f"{self.url}/readyz", timeout=5, verify=False).status_code == 200:
                        return
            time.sleep(0.02)
        raise AssertionError(f"the server was not ready in time: {self.log}")

    def kill(self) -> None:
        """kill -9, also of a tracer around it; returns when it is gone."""
        self._end(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to stop; does not wait."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout: float = PATIENCE) -> int:
        """The exit code."""
        return self.process.wait(timeout)

    def stop(self) -> None:
        """Whatever state it is in, it is gone afterwards, and its log shows no credential."""
        if self._process is not None and self._process.poll() is None:
            self._end(signal.SIGTERM)
        assert self.shown_secrets() == []

    def _end(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.server_pid, number)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.server_pid, signal.SIGKILL)
            self.process.kill()
            self.process.wait(PATIENCE)
            raise

    # -- what others see of it -------------------------------------------------------------

    @property
    def process(self) -> subprocess.Popen[bytes] | WarmProcess:
        if self._process is None:
            raise AssertionError("the server was not started")
        return self._process

    @property
    def server_pid(self) -> int:
        """The server's own process id, not that of a tracer around it."""
        if not self._wrapper:
            return self.process.pid
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        found = children.read_text().split()
        return int(found[0]) if found else self.process.pid

    @property
    def url(self) -> str:
        scheme = "https" if "tls_cert" in self._settings else "http"
        return f"{scheme}://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """Everything it said since its last start."""
        with self.log_path.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    def records(self) -> list[dict[str, Any]]:
        """Its log's JSON lines since its last start."""
        lines = self.log.splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def logged(self, event: str, count: int = 1, **fields: Any) -> list[dict[str, Any]]:
        """The lines of this event with these fields, once there are so many: a thread writes the
        log, some time after what it tells of."""
        wanted = {"event": event, **fields}.items()
        deadline = time.monotonic() + PATIENCE
        while True:
            found = [line for line in self.records() if wanted <= _plain(line).items()]
            if len(found) >= count:
                return found
            assert time.monotonic() < deadline, f"{event!r} was logged {len(found)} times"
            time.sleep(0.02)

    def errors(self) -> list[str]:
        """What it logged as an error, and what it printed without the log."""
        bad = [str(line) for line in self.records() if line.get("level") in {"error", "critical"}]
        raw = [line for line in self.log.splitlines() if line and not line.startswith("{")]
        expected = ("API key is in ", "WARNING:uvicorn.error:Invalid HTTP request received.")
        return bad + [line for line in raw if not line.startswith(expected)]

    def shown_secrets(self) -> list[str]:
        """Credentials in its log, over all its starts."""
        if not self.log_path.exists():
            return []
        return _CREDENTIAL.findall(self.log_path.read_text(errors="replace"))

    def client(self, **options: Any) -> httpx.AsyncClient:
        """A client with the bootstrap key and time-outs that bound every test."""
        options = {"headers": bearer(), "timeout": httpx.Timeout(20.0), **options}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=50)
        return httpx.AsyncClient(base_url=self.url, limits=limits, **options)

    def _environment(self) -> dict[str, str]:
        mine = {k: v for k, v in os.environ.items() if not k.startswith("RESONANTGENESIS_")}
        mine["PYTHONPATH"] = str(TESTS)
        mine["PYTHONUNBUFFERED"] = "1"
        for name, value in self._settings.items():
            mine[f"RESONANTGENESIS_{name.upper()}"] = str(value)
        return mine


def _plain(line: dict[str, Any]) -> dict[str, Any]:
    """The fields of a line whose values can be members of a set."""
    return {name: value for name, value in line.items() if not isinstance(value, list | dict)}


#: The fixture `serve`.
Serve = Callable[..., ServerProcess]


@contextlib.contextmanager
def running(data: Path, **options: Any) -> Iterator[ServerProcess]:
    """A started server, gone at the end."""
    server = ServerProcess(data, **options)
    try:
        yield server.start()
    finally:
        server.stop()
