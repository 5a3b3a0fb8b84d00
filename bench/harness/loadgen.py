"""The generator from Python: what it is to do, and what it says."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .paths import LOADGEN
from .process import LOAD_CORE, BenchError, pinned

Report = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ViewerSpec:
    """Connections that read. In texts {i} is the connection's number, {n} that of its run,
    {g} its group. `prompt` of them are read at once and tell latencies, the others every 200 ms;
    0: all are read at once."""

    path: str
    connections: int = 1
    method: str = "GET"
    headers: tuple[str, ...] = ()
    body: str | None = None
    groups: int = 1
    from_one: bool = False
    until: int = 0
    repeat: int = 1
    slow: int = 0
    slow_bytes: int = 1024
    websocket: bool = False
    deflate: bool = False
    messages: tuple[str, ...] = ()
    ready: str | None = None
    reply: str | None = None
    concurrency: int = 100
    prompt: int = 0

    def arguments(self) -> list[str]:
        numbers = {
            "connections": self.connections,
            "concurrency": self.concurrency,
            "groups": self.groups,
            "until": self.until,
            "repeat": self.repeat,
            "slow": self.slow,
            "prompt": self.prompt,
            "slow-bytes": self.slow_bytes,
        }
        texts = {
            "path": self.path,
            "method": self.method,
            "body": self.body,
            "ready": self.ready,
            "reply": self.reply,
        }
        flags = {"ws": self.websocket, "deflate": self.deflate, "from-one": self.from_one}
        arguments = [f"--{name}={value}" for name, value in numbers.items()]
        arguments += [f"--{name}={value}" for name, value in texts.items() if value is not None]
        arguments += [f"--{name}" for name, value in flags.items() if value]
        arguments += [f"--header={header}" for header in self.headers]
        return arguments + [f"--message={message}" for message in self.messages]


@dataclass(frozen=True, slots=True)
class PublishSpec:
    """Paced requests; {g} is the group, {p} the payload."""

    path: str
    body: str
    headers: tuple[str, ...] = ()
    method: str = "POST"
    groups: int = 1
    connections: int = 1
    rate: float = 1
    count: int = 1
    bytes: int = 64

    def arguments(self) -> list[str]:
        numbers = {
            "connections": self.connections,
            "groups": self.groups,
            "rate": self.rate,
            "count": self.count,
            "bytes": self.bytes,
        }
        return [
            *(f"--{name}={value}" for name, value in numbers.items()),
            f"--path={self.path}",
            f"--method={self.method}",
            f"--body={self.body}",
            *(f"--header={header}" for header in self.headers),
        ]


T = TypeVar("T", bound="Generator")


@dataclass
class Generator:
    """A running generator; used as a context manager, which ends it."""

    verb: str
    port: int
    arguments: list[str]
    seconds: float = 120.0
    _reports: queue.Queue[Report | None] = field(default_factory=queue.Queue)

    def __enter__(self: T) -> T:
        command = [str(LOADGEN), self.verb, f"--port={self.port}", f"--seconds={self.seconds}"]
        self._popen = subprocess.Popen(
            pinned(LOAD_CORE, [*command, *self.arguments]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._popen.kill()
        self._popen.wait(30)  # thousands of connections take a while to close
        self._reader.join(5)
        for stream in (self._popen.stdin, self._popen.stdout, self._popen.stderr):
            if stream is not None and not stream.closed:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            self._reports.put(json.loads(line))
        self._reports.put(None)

    def command(self, line: str) -> None:
        assert self._popen.stdin is not None
        self._popen.stdin.write(line + "\n")
        self._popen.stdin.flush()

    def expect(self, event: str, timeout: float) -> Report:
        """The next report of this name; those before it are passed over. Raises BenchError."""
        report = self.poll(event, timeout)
        if report is None:
            raise BenchError(f"the generator did not say {event!r} within {timeout:.0f} s")
        return report

    def poll(self, event: str, timeout: float) -> Report | None:
        """The same, or None when the time is over."""
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            try:
                report = self._reports.get(timeout=left)
            except queue.Empty:
                return None
            if report is None:
                assert self._popen.stderr is not None
                said = self._popen.stderr.read().strip()
                raise BenchError(f"the generator ended: {said or 'it said nothing'}")
            if report["event"] == event:
                return report
        return None

    def mark(self) -> Report:
        """What was seen since the last mark."""
        self.command("mark")
        return self.expect("mark", 10)


def viewing(port: int, spec: ViewerSpec, seconds: float = 120.0) -> Generator:
    return Generator("view", port, spec.arguments(), seconds)


def publishing(port: int, spec: PublishSpec, seconds: float = 120.0) -> Generator:
    return Generator("publish", port, spec.arguments(), seconds)
