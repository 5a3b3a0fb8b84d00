"""Files sent and read byte by byte over sockets, and what a server's process and disk show."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from .server import KEY, PATIENCE, ServerProcess

_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident(server: ServerProcess) -> int:
    """The process' memory in bytes."""
    return int(Path(f"/proc/{server.server_pid}/statm").read_text().split()[1]) * _PAGE


def kept(server: ServerProcess) -> list[str]:
    """What lies in the directory of files, finished (by its digest, without the id behind it) or
    not (below tmp)."""
    root = server.data / "files"
    found = (str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())
    return sorted(name.partition(".")[0] for name in found)


async def until(what: Callable[[], bool]) -> None:
    """Return once it is so."""
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, "it did not come to that"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def connected(
    server: ServerProcess,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection whose reader buffers little, so that not reading is felt by the server."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=64 * 1024)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def head(method: str, path: str, *lines: str, key: str = KEY) -> bytes:
    """A request's head."""
    first = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {key}"]
    return "\r\n".join([*first, *lines, "", ""]).encode("latin-1")


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Status and headers of the next answer."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.split(":", 1) for line in lines[1:] if line)
    return int(lines[0].split(" ")[1]), {name.lower(): value.strip() for name, value in pairs}
