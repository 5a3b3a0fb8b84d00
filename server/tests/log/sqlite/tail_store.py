"""A writer and a reader in one thread: what comes between which two statements is the test's."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resonantgenesis_server.log.base import Append, Page
from resonantgenesis_server.log.queue import Job
from resonantgenesis_server.log.sqlite.log import position_at, read_page
from resonantgenesis_server.log.sqlite.schema import SPAN, configure_writer, create_or_check
from resonantgenesis_server.log.sqlite.writer import SqliteWriter

from .support import new

Work = Callable[[sqlite3.Connection], Any]


def _nobody(_result: Any, _error: Exception | None) -> None:
    pass


class Watched(sqlite3.Connection):
    """Calls `between` before and after each of its statements."""

    between: Callable[[], None] = staticmethod(lambda: None)

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        self.between()
        done = super().execute(*arguments)
        self.between()
        return done


def connect(path: Path) -> Watched:
    return sqlite3.connect(path, isolation_level=None, factory=Watched)


class TailStore:
    """What the writer's thread does, call by call."""

    def __init__(self, path: Path) -> None:
        create_or_check(path, "epoch")
        self.path = path
        self.db = connect(path)
        configure_writer(self.db)
        self.reader = connect(path)
        self.writer = SqliteWriter(path)
        self.tail = self.writer.tail

    def close(self) -> None:
        self.db.close()
        self.reader.close()

    def commit(self, *group: Append | Work) -> list[Any]:
        """Each a job of one group; what came of them."""
        jobs = [
            Job((each,), None, _nobody, 0)
            if isinstance(each, Append)
            else Job((), each, _nobody, 0)
            for each in group
        ]
        self.writer._commit(self.db, jobs)
        for job in jobs:
            if job.error is not None:
                raise job.error
        return [job.result for job in jobs]

    def put(self, stream: str, *bodies: str, close: bool = False) -> int:
        ((position,),) = self.commit(Append(stream, new(*bodies), close=close))
        return int(position)

    def trim(self, stream: str, before: int) -> None:
        self.commit(lambda db: self.writer.trim(db, stream, before))

    def delete(self, stream: str) -> None:
        self.commit(lambda db: self.writer.delete(db, [stream]))

    def step(self) -> None:
        self.tail.step(self.db)

    def move(self) -> None:
        """A whole move, step by step."""
        self.step()
        while self.tail.moving:
            self.step()

    def read(self, stream: str, after: int = 0, limit: int = SPAN, max_bytes: int = SPAN) -> Page:
        self.reader.execute("BEGIN")
        try:
            return read_page(self.reader, self.tail, stream, after, limit, max_bytes)
        finally:
            self.reader.execute("COMMIT")

    def since(self, stream: str, at: int) -> int | None:
        return position_at(self.reader, self.tail, stream, at)

    def count(self, table: str) -> int:
        found: tuple[int] = self.db.execute(f"SELECT count(*) FROM {table}").fetchone()
        return found[0]
