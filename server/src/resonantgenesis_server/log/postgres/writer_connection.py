"""The writer's one connection: bounded statements, and what is known of a database that is away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import asyncpg
import structlog

from ...postgres_errors import ERRORS
from .connection import Database, Standing, unavailable

log_ = structlog.get_logger("resonantgenesis.log")

#: Seconds that a statement may take before its connection is given up.
STATEMENT_SECONDS = 20.0
#: Seconds that a statement may take once the process is on its way out.
_LAST_STATEMENT_SECONDS = 3.0


class WriterConnection:
    """Connects anew when it is asked to. Lives on the event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._loop = asyncio.get_running_loop()
        self._db: asyncpg.Connection | None = None
        self._away_since: float | None = None
        #: Names the statement under way.
        self._statement: object | None = None
        #: Until when to wait for a database that is away, when the process is on its way out.
        self.give_up_by: float | None = None

    @property
    def is_open(self) -> bool:
        return self._db is not None

    @property
    def is_away(self) -> bool:
        """Whether the database did not answer when it was needed last."""
        return self._away_since is not None

    @property
    def db(self) -> asyncpg.Connection:
        """Raises ConnectionError without one."""
        if self._db is None:
            raise ConnectionError("not connected")
        return self._db

    async def connect(self) -> Standing:
        """Raises what `Database.connect` raises."""
        self._db, standing = await self._database.connect("writer")
        if self._away_since is not None:
            seconds = round(self._loop.time() - self._away_since, 1)
            log_.warning(f"{self._database.words} is back", seconds=seconds)
            self._away_since = None
        return standing

    def note_absence(self, error: BaseException) -> None:
        """The database did not answer, for this reason."""
        if self._away_since is None:
            self._away_since = self._loop.time()
            reason = str(unavailable(error))
            log_.warning(f"{self._database.words} is away, appends wait", reason=reason)

    def hurry(self, seconds: float) -> None:
        """Wait no longer than `seconds` from now for a database that does not answer."""
        by = self._loop.time() + seconds
        self.give_up_by = by if self.give_up_by is None else min(by, self.give_up_by)
        if self._statement is not None:
            self._loop.call_later(_LAST_STATEMENT_SECONDS, self._give_up, self._statement)

    @contextlib.contextmanager
    def limited(self) -> Iterator[None]:
        """The connection is given up when this takes too long. The server is not asked to cancel:
        a commit that waits for its standby would be seen before it is there."""
        seconds = STATEMENT_SECONDS if self.give_up_by is None else _LAST_STATEMENT_SECONDS
        self._statement = statement = object()
        timer = self._loop.call_later(seconds, self._give_up, statement)
        try:
            yield
        finally:
            timer.cancel()
            self._statement = None

    def _give_up(self, statement: object) -> None:
        if self._statement is statement and self._db is not None:
            self._db.terminate()

    def drop(self) -> None:
        if self._db is not None:
            self._db.terminate()
            self._db = None

    async def close(self) -> None:
        """As its protocol says, within a second."""
        if self._db is not None:
            with contextlib.suppress(*ERRORS):
                await self._db.close(timeout=1.0)
        self.drop()
