"""A server that does not wait for the disk, to show that the test of it can fail."""

from __future__ import annotations

import sqlite3
import sys

from resonantgenesis_server.cli import main
from resonantgenesis_server.log.sqlite import writer as sqlite_writer
from resonantgenesis_server.log.sqlite.schema import configure_writer


def _careless(db: sqlite3.Connection) -> None:
    configure_writer(db)
    db.execute("PRAGMA synchronous=OFF")


if __name__ == "__main__":
    sqlite_writer.configure_writer = _careless
    sys.exit(main())
