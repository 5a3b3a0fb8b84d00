"""kill -9 at chosen calls, from the first start on: what clients were told holds, nothing is
there twice, and the server can be entered."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.ledger import Ledger
from support.server import ServerProcess

#: A call of the system and which of them: the first thread that gets so far ends the process.
Point = tuple[str, int]


def killed_at(call: str, nth: int) -> list[str]:
    """What to put before the server's command: it is gone before it makes this call."""
    injected = f"inject={call}:signal=KILL:when={nth}"
    # Not with --seccomp-bpf, under which strace 6.1 injects nothing.
    options = ["-f", "-qq", "-e", f"trace={call}", "-e", injected]
    return ["strace", *options, "-o", "/dev/null"]


async def live_and_die(folder: Path, points: list[Point], count: int) -> int:
    """Run after run over one data directory, each killed at its point, if it gets there; then one
    that is asked for everything. How many were killed."""
    ledger, killed = Ledger(), 0
    for call, nth in points:
        server = ServerProcess(folder / "data", key=None, wrapper=killed_at(call, nth))
        try:
            server.start()
            if not await ledger.drive(server, count):
                server.wait()
        except AssertionError:
            if server.process.poll() is None:
                raise
        finally:
            if server.process.poll() is None:
                server.kill()
            else:
                killed += 1
            server.stop()
    server = ServerProcess(folder / "data", key=None)
    try:
        server.start()
        await ledger.check(server)
        assert server.errors() == []
    finally:
        server.stop()
    return killed


async def test_kills_at_chosen_calls(tmp_path: Path) -> None:
    """In the first start (the secret, the first key), within the log's and the records' commits,
    between a file's content and its name."""
    points = [("fsync", 2), ("fdatasync", 9), ("rename", 1), ("pwrite64", 70)]
    assert await live_and_die(tmp_path, points, 20) == len(points)


@pytest.mark.soak
@pytest.mark.parametrize("call", ["fsync", "fdatasync", "pwrite64", "rename", "ftruncate"])
async def test_kills_everywhere(tmp_path: Path, call: str) -> None:
    for first in (1, 2, 3, 4, 5, 7, 9, 12, 16, 21, 28, 37):
        folder = tmp_path / f"{call}{first}"
        folder.mkdir()
        await live_and_die(folder, [(call, first), (call, first + 3), (call, 2 * first)], 60)
