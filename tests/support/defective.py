"""The server with a log in which a mistake shows once a turn asks for it."""

from __future__ import annotations

import sys
from typing import Any

from resonantgenesis_server.cli import main
from resonantgenesis_server.log.sqlite.writer import SqliteWriter

_apply: Any = SqliteWriter._apply


def _mistaken(self: SqliteWriter, db: Any, job: Any) -> None:
    if any(b"trigger the mistake" in entry.body for a in job.appends for entry in a.entries):
        raise KeyError("the mistake")
    _apply(self, db, job)


SqliteWriter._apply = _mistaken  # type: ignore[method-assign]
sys.exit(main())
