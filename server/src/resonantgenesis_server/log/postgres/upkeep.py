"""Making, upgrading and looking at a log's store without joining it as a node."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from ...postgres_errors import ERRORS
from .connection import unavailable
from .schema import (
    SCHEMA,
    SCHEMA_VERSION,
    Server,
    create_or_check,
    look_at,
    refuse_part,
    version_of,
)

#: Seconds to connect, and for all of the work.
_CONNECT, _WORK = 5.0, 120.0
#: Commits that are timed, and seconds in which a living node beats.
_COMMITS, BEAT_SECONDS = 11, 1.5
BEATS = """
SELECT b.node, b.beat, n.name FROM beats b JOIN writers w ON w.node=b.node AND w.alive
JOIN nodes n ON n.id=b.node ORDER BY b.node
"""


@dataclass(frozen=True, slots=True)
class StoreState:
    """`version` 0: there is no store. `newest`: the version of this program."""

    version: int
    newest: int
    server: Server


async def look(url: str, *, is_one_of_several: bool = False) -> StoreState:
    """The store at `url`; nothing is changed. Raises LogUnavailable with one line."""
    async with connected(url) as db:
        state = StoreState(await version_of(db, SCHEMA), SCHEMA_VERSION, await look_at(db))
        if state.version and not is_one_of_several:
            await refuse_part(db)
        return state


@dataclass(frozen=True, slots=True)
class Survey:
    """`nodes`: names of those whose beat moves. `commit_seconds`: the median of some commits."""

    nodes: tuple[str, ...]
    commit_seconds: float


async def survey(url: str) -> Survey:
    """Who uses the store at `url`, and how long a commit takes. Nothing is changed; where nodes
    live it takes a little longer than a beat. Raises LogUnavailable with one line."""
    async with connected(url) as db:
        before = {row["node"]: row["beat"] for row in await db.fetch(BEATS)}
        looked = time.monotonic()
        times = sorted([await _commit_seconds(db) for _ in range(_COMMITS)])
        if before:
            await asyncio.sleep(max(0.0, looked + BEAT_SECONDS - time.monotonic()))
        now = await db.fetch(BEATS)
        names = [row["name"] for row in now if before.get(row["node"], 0) < row["beat"]]
        return Survey(tuple(names), times[len(times) // 2])


async def _commit_seconds(db: asyncpg.Connection) -> float:
    began = time.monotonic()
    # A message of logical decoding is written and flushed like a row, and is in no table.
    await db.execute("SELECT pg_logical_emit_message(true, 'resonantgenesis', '')")
    return time.monotonic() - began


async def make_or_upgrade(url: str, *, is_one_of_several: bool = False) -> StoreState:
    """Make the store or bring it to the newest version; its state before.

    Raises LogUnavailable and StoreIsNewer with one line."""
    async with connected(url) as db:
        server = await look_at(db)
        state = StoreState(await version_of(db, SCHEMA), SCHEMA_VERSION, server)
        await create_or_check(db, SCHEMA, server.history, is_one_of_several=is_one_of_several)
        return state


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection for a moment. Raises LogUnavailable with one line."""
    try:
        async with asyncio.timeout(_WORK):
            db = await asyncpg.connect(
                url,
                timeout=_CONNECT,
                target_session_attrs="read-write",
                server_settings={
                    "search_path": SCHEMA,
                    "application_name": "resonantgenesis/upkeep",
                    "synchronous_commit": "on",
                },
            )
            try:
                yield db
            finally:
                db.terminate()
    except ERRORS as error:
        raise unavailable(error) from error
