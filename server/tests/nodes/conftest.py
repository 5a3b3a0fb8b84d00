"""Nodes over one database, in one process: what two or three of them do to each other."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from resonantgenesis_server.feed.hub import Hub
from resonantgenesis_server.feed.remote import RemoteStreams
from resonantgenesis_server.log.base import Entry, LogError
from resonantgenesis_server.log.postgres.log import PostgresLog
from support.postgres import PostgresServer

from ..sessions.agents import Gate
from ..sessions.rig import Rig, Rows

BEAT, TTL = 0.05, 0.5


class FeedNode:
    """A log, its hub and the streams of other nodes: what a node's readers stand on."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.hub = Hub()
        self.log: PostgresLog
        self.remote: RemoteStreams
        self.gone: list[str] = []

    async def open(self) -> FeedNode:
        self.log = await PostgresLog.open(
            self.url, on_commit=self._committed, beat_seconds=BEAT, ttl=TTL
        )
        self.remote = self.hub.source = RemoteStreams(self.log, self.hub, self._gone)
        self.remote.start()
        return self

    def _committed(self, stream: str, entries: Sequence[Entry]) -> None:
        self.remote.committed(stream, entries)

    def _gone(self, stream: str) -> None:
        self.gone.append(stream)
        self.hub.delete(stream)

    async def close(self) -> None:
        await self.remote.close()
        await self.log.close()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def feed_node(
    postgres_server: PostgresServer,
) -> AsyncIterator[Callable[[], Awaitable[FeedNode]]]:
    url = postgres_server.database()
    opened: list[FeedNode] = []

    async def open_one() -> FeedNode:
        opened.append(await FeedNode(url).open())
        return opened[-1]

    yield open_one
    for node in opened:
        await node.close()
    postgres_server.recycle(url)


@pytest.fixture
async def nodes(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_server: PostgresServer
) -> AsyncIterator[Callable[[], Awaitable[Rig]]]:
    """Opens one node after the other over one store, with the same agents. The store is in one
    database, or spread over as many as the parameter says."""
    urls = [postgres_server.database() for _ in range(getattr(request, "param", 1))]
    rows = Rows()
    gate = Gate()
    opened: list[Rig] = []

    async def open_one(**limits: Any) -> Rig:
        rig = Rig(tmp_path, " ".join(urls), rows=rows, shared=True, **limits)
        rig.agents["gate"] = gate
        rig.gate = gate
        await rig.open()
        opened.append(rig)
        return rig

    yield open_one
    for rig in opened:
        with contextlib.suppress(LogError):
            await rig.close()
    for url in urls:
        postgres_server.recycle(url)
