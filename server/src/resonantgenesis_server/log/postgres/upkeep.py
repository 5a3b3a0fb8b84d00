"""Making, upgrading and looking at a log's store without joining it as a node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from .connection import ERRORS, unavailable
from .schema import SCHEMA, SCHEMA_VERSION, Server, create_or_check, look_at, version_of

#: Seconds to connect, and for all of the work.
_CONNECT, _WORK = 5.0, 120.0


@dataclass(frozen=True, slots=True)
class StoreState:
    """`version` 0: there is no store. `newest`: the version of this program."""

    version: int
    newest: int
    server: Server


async def look(url: str) -> StoreState:
    """The store at `url`; nothing is changed. Raises LogUnavailable with one line."""
    async with _connected(url) as db:
        return StoreState(await version_of(db, SCHEMA), SCHEMA_VERSION, await look_at(db))


async def make_or_upgrade(url: str) -> StoreState:
    """Make the store or bring it to the newest version; its state before.

    Raises LogUnavailable and StoreIsNewer with one line."""
    async with _connected(url) as db:
        server = await look_at(db)
        state = StoreState(await version_of(db, SCHEMA), SCHEMA_VERSION, server)
        await create_or_check(db, SCHEMA, server.history)
        return state


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    try:
        async with asyncio.timeout(_WORK):
            db = await asyncpg.connect(
                url,
                timeout=_CONNECT,
                target_session_attrs="read-write",
                server_settings={
                    "search_path": SCHEMA,
                    "application_name": "resonantgenesis/upkeep",
                },
            )
            try:
                yield db
            finally:
                db.terminate()
    except ERRORS as error:
        raise unavailable(error) from error
