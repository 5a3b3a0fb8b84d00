"""What the contract suite asks of a backend, and the small words its tests are written in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest
from resonantgenesis_server.log.base import (
    Append,
    Entry,
    EventLog,
    Fences,
    IdempotencyKeys,
    NewEntry,
    OnCommit,
)
from resonantgenesis_server.log.postgres.log import PostgresLog
from resonantgenesis_server.log.postgres.spread import SpreadLog
from resonantgenesis_server.log.sqlite.log import SqliteLog
from support.postgres import PostgresServer

#: Bound of every wait for something that a backend may show later.
PATIENCE = 15.0
QUEUE_BOUND = 64 * 1024 * 1024


class Store(EventLog, Fences, IdempotencyKeys, Protocol):
    """What `main` makes of a backend: its three interfaces and an end."""

    async def close(self, timeout: float = 10.0) -> None: ...


class Backend(Protocol):
    """A place where one store lives. Every `open` is a new handle on that same store.

    `place` is that for another process: the backend's name in BACKENDS, and a path or URL.
    """

    place: tuple[str, str]

    async def open(
        self, *, on_commit: OnCommit = ..., max_queued_bytes: int = QUEUE_BOUND
    ) -> Store: ...


class SqliteBackend:
    def __init__(self, directory: Path) -> None:
        self._path = directory / "log.db"
        self.place = "sqlite", str(self._path)

    async def open(
        self,
        *,
        on_commit: OnCommit = lambda _stream, _entries: None,
        max_queued_bytes: int = QUEUE_BOUND,
    ) -> Store:
        return await SqliteLog.open(
            self._path, on_commit=on_commit, max_queued_bytes=max_queued_bytes
        )


class PostgresBackend:
    def __init__(self, url: str) -> None:
        self._url = url
        self.place = "postgres", url

    async def open(
        self,
        *,
        on_commit: OnCommit = lambda _stream, _entries: None,
        max_queued_bytes: int = QUEUE_BOUND,
    ) -> Store:
        return await PostgresLog.open(
            self._url, on_commit=on_commit, max_queued_bytes=max_queued_bytes
        )


#: Streams of the suite that several nodes append to.
SHARED = {"events", "billing", "other"}


class _AmongNodes(PostgresLog):
    """One of two nodes that live."""

    other: PostgresLog

    async def close(self, timeout: float = 10.0) -> None:
        await super().close(timeout)
        await self.other.close(timeout)


class NodesBackend(PostgresBackend):
    """Every handle is beside another node that lives, and sequences what they share."""

    async def open(
        self,
        *,
        on_commit: OnCommit = lambda _stream, _entries: None,
        max_queued_bytes: int = QUEUE_BOUND,
    ) -> Store:
        other = await PostgresLog.open(self._url, is_shared=SHARED.__contains__)
        log = await _AmongNodes.open(
            self._url,
            on_commit=on_commit,
            max_queued_bytes=max_queued_bytes,
            is_shared=SHARED.__contains__,
        )
        assert isinstance(log, _AmongNodes)
        assert not log.is_alone
        log.other = other
        return log


class SpreadBackend:
    """One store in two databases; what nodes share is in the first."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = urls
        self.place = "postgres-spread", " ".join(urls)

    async def open(
        self,
        *,
        on_commit: OnCommit = lambda _stream, _entries: None,
        max_queued_bytes: int = QUEUE_BOUND,
    ) -> Store:
        return await SpreadLog.open(
            self._urls,
            on_commit=on_commit,
            max_queued_bytes=max_queued_bytes,
            is_shared=SHARED.__contains__,
        )


def _database(request: pytest.FixtureRequest) -> str:
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = server.database()
    request.addfinalizer(lambda: server.recycle(url))
    return url


def _postgres(request: pytest.FixtureRequest, _directory: Path) -> Backend:
    return PostgresBackend(_database(request))


def _spread(request: pytest.FixtureRequest, _directory: Path) -> Backend:
    return SpreadBackend([_database(request), _database(request)])


def _among_nodes(request: pytest.FixtureRequest, _directory: Path) -> Backend:
    return NodesBackend(_postgres(request, _directory).place[1])


#: A backend joins the suite by a line here; it gets an empty directory of its own.
BACKENDS: dict[str, Callable[[pytest.FixtureRequest, Path], Backend]] = {
    "sqlite": lambda _request, directory: SqliteBackend(directory),
    "postgres": _postgres,
    "postgres-nodes": _among_nodes,
    "postgres-spread": _spread,
}


#: For tests of very many examples: a store in two databases takes them in a soak only.
EVERY_EXAMPLE = pytest.mark.parametrize(
    "backend",
    [
        pytest.param(name, marks=[pytest.mark.soak] if name == "postgres-spread" else [])
        for name in sorted(BACKENDS)
    ],
    indirect=True,
)


class Recorder:
    """An `on_commit` that keeps what it was told, per stream."""

    def __init__(self) -> None:
        self.seen: dict[str, list[Entry]] = {}

    def __call__(self, stream: str, entries: Sequence[Entry]) -> None:
        self.seen.setdefault(stream, []).extend(entries)


def new(*bodies: str | bytes, kind: str = "message") -> list[NewEntry]:
    return [NewEntry(kind, b if isinstance(b, bytes) else b.encode()) for b in bodies]


def keyed(*keys: str, body: bytes = b"{}") -> list[NewEntry]:
    return [NewEntry("message", body, key=key) for key in keys]


def texts(entries: Sequence[Entry]) -> list[str]:
    return [entry.body.decode() for entry in entries]


def numbered(count: int, prefix: str = "e") -> Iterator[str]:
    return (f"{prefix}{number}" for number in range(1, count + 1))


async def put(store: Store, stream: str, *bodies: str) -> int:
    """Append in one call; the stream's last position."""
    return (await store.append(Append(stream, new(*bodies))))[0]


async def read_all(store: Store, stream: str, after: int = 0, *, limit: int = 1000) -> list[Entry]:
    """Page through to the end, checking that pages join."""
    found: list[Entry] = []
    while True:
        page = await store.read(stream, after, limit=limit)
        found.extend(page.entries)
        if page.at_end:
            return found
        assert page.entries, "a page that is not at the end holds something"
        after = page.entries[-1].position


async def read_until(store: Store, stream: str, head: int) -> list[Entry]:
    """Read until position `head` is there: other groups' entries may show later (rule 3)."""
    async with asyncio.timeout(PATIENCE):
        while True:
            entries = await read_all(store, stream)
            if entries and entries[-1].position >= head:
                return entries
            await asyncio.sleep(0.005)


def assert_dense(entries: Sequence[Entry], first: int = 1) -> None:
    assert [e.position for e in entries] == list(range(first, first + len(entries)))
