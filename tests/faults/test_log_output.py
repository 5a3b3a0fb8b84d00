"""A log that cannot be written harms no turn: a full disk, a reader that is gone or reads nothing,
a descriptor that was closed before the start."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.server import PATIENCE, ServerProcess, free_port

pytestmark = pytest.mark.anyio


class Quiet(ServerProcess):
    """A server whose standard output and error are these descriptors; None: closed."""

    def __init__(self, data: Path, out: int | None, err: int | None, **settings: Any) -> None:
        super().__init__(data, agents={"noisy": "support.noisy:noisy"}, **settings)
        self.log_path.touch()
        self._out = out
        self._err = err

    def launch(self, port: int = 0) -> subprocess.Popen[bytes]:
        self.port = port or free_port()
        closed = "".join(
            f" {name}>&-" for name, value in ((1, self._out), (2, self._err)) if value is None
        )
        self._process = subprocess.Popen(
            ["sh", "-c", f'exec "$@"{closed}', "sh", *self.command(self.port)],
            stdin=subprocess.DEVNULL,
            stdout=self._out if self._out is not None else subprocess.DEVNULL,
            stderr=self._err if self._err is not None else subprocess.DEVNULL,
            env=self._environment(),
            cwd=self.log_path.parent,
        )
        return self._process

    def wait_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"it ended with {self.process.returncode}"
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return
            time.sleep(0.02)
        raise AssertionError("the server was not ready in time")


class Pipe:
    """A pipe whose reading end is ours."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()

    def fill(self) -> None:
        """Until nothing more goes in."""
        os.set_blocking(self.write_end, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self.write_end, b"x" * 1024)
        os.set_blocking(self.write_end, True)

    def read(self) -> bytes:
        return os.read(self.read_end, 1 << 20)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    for descriptor in (made.read_end, made.write_end):
        with contextlib.suppress(OSError):
            os.close(descriptor)


Run = Callable[..., Quiet]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Run]:
    servers: list[Quiet] = []

    def run(out: int | None, err: int | None, **settings: Any) -> Quiet:
        servers.append(Quiet(tmp_path / "data", out, err, **settings))
        servers[-1].start()
        return servers[-1]

    yield run
    for server in servers:
        server.stop()


async def turns_fail_and_end(server: Quiet, goal: str = "20") -> None:
    """One after the other in a session: none is left running, which would be SESSION_BUSY."""
    async with server.client() as client:
        body: dict[str, str] = {"agent_id": "noisy", "goal": goal}
        for _ in range(3):
            answer = await client.post("/v1/sessions/execute", json=body)
            assert answer.status_code == 200, answer.text
            assert answer.json()["error"]["code"] == "AGENT_FAILED"
            body["session_id"] = answer.json()["session_id"]
        shown = (await client.get(f"/v1/sessions/{body['session_id']}")).json()
        assert (shown["status"], len(shown["output"])) == ("failed", len("begun"))


def ends(server: Quiet) -> None:
    began = time.monotonic()
    server.terminate()
    assert server.wait() in (0, 120)  # 120: Python could not flush what was buffered before us
    assert time.monotonic() - began < 15


async def dropped(server: Quiet) -> float:
    async with server.client(headers={}) as client:
        text = (await client.get("/metrics")).text
    name = 'resonantgenesis_log_lines_dropped_total{output="stderr"} '
    (line,) = [line for line in text.splitlines() if line.startswith(name)]
    return float(line.removeprefix(name))


@pytest.mark.parametrize("form", ["text", "json"])
async def test_a_full_disk(start: Run, form: str) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        server = start(full, full, log_format=form)
    finally:
        os.close(full)
    await turns_fail_and_end(server)
    ends(server)


async def test_a_pipe_whose_reader_is_gone(start: Run, pipe: Pipe) -> None:
    server = start(pipe.write_end, pipe.write_end)
    os.close(pipe.read_end)
    await turns_fail_and_end(server)
    ends(server)


@pytest.mark.parametrize("which", ["out", "err", "both"])
async def test_descriptors_that_were_closed_before_the_start(start: Run, which: str) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        server = start(null if which == "err" else None, null if which == "out" else None)
    finally:
        os.close(null)
    for number in (1, 2):  # and not a file of the store, into which prints would go
        assert Path(f"/proc/{server.process.pid}/fd/{number}").readlink() == Path(os.devnull)
    await turns_fail_and_end(server)
    ends(server)


@pytest.mark.parametrize("blocking", [True, False])
async def test_a_pipe_that_nobody_reads_until_somebody_does(
    start: Run, pipe: Pipe, blocking: bool
) -> None:
    pipe.fill()
    os.set_blocking(pipe.write_end, blocking)
    server = start(pipe.write_end, pipe.write_end)
    os.close(pipe.write_end)
    began = time.monotonic()
    await turns_fail_and_end(server, "2000")
    assert time.monotonic() - began < PATIENCE
    count = await dropped(server)
    assert count > 0
    text = b""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(PATIENCE):
        while b"lines were dropped" not in text:
            text += await loop.run_in_executor(None, pipe.read)
    assert b"serving" in text
    server.terminate()
    async with asyncio.timeout(PATIENCE):
        while more := await loop.run_in_executor(None, pipe.read):
            text += more
    assert b"draining" in text  # it is written again, and to the end
    assert server.wait() in (0, 120)
