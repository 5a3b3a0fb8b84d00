"""Brings a store to the newest version when it is opened.

A new store is made from `tables`. A store of the newest version costs one look. Only an older one
waits for Alembic, whose import takes a fifth of a server's start.
"""

from __future__ import annotations

import importlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, NullPool, create_engine, text
from sqlalchemy import inspect as inspector_of
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.schema import CreateSchema

from .base import RecordsTooNew, StoreUnusable
from .tables import metadata, schema_version

#: The names of the steps begin with `r` and their revision. The last one leads to `tables`.
REVISIONS = sorted(
    path.stem.partition("_")[0].removeprefix("r")
    for path in (Path(__file__).parent / "versions").glob("r*.py")
)


@dataclass(frozen=True, slots=True)
class Revision:
    """`found` None: there are no records yet."""

    found: str | None
    newest: str

    @property
    def problem(self) -> str | None:
        """Why this program cannot use the records as they are, in one line."""
        if self.found is None:
            return "there are no records yet; run `resonantgenesis store init`"
        if self.found == COPYING:
            return UNFINISHED
        if self.found > self.newest:
            return f"the records were written by a newer version (revision {self.found})"
        if self.found < self.newest:
            return (
                f"the records have revision {self.found}, this program {self.newest}; run"
                " `resonantgenesis store upgrade`"
            )
        return None


#: In the place of the revision while a copy fills the records; no program opens them then.
COPYING = "copying"
UNFINISHED = (
    "a copy into these records has not ended; run the same `resonantgenesis store copy` again"
)


def set_revision(connection: Connection, revision: str) -> None:
    """Within the caller's transaction, in a store that has one."""
    connection.execute(schema_version.update().values(version_num=revision))


def look(connection: Connection) -> Revision:
    """The revision of the store; nothing is changed."""
    return Revision(max(_revisions(connection), default=None), REVISIONS[-1])


def migrate(connection: Connection) -> None:
    """Make the tables or run the missing steps, inside the caller's transaction.

    Raises `RecordsTooNew` for an unknown version: going on could damage what a newer program wrote.
    """
    if connection.dialect.name == "postgresql":
        _make_schema(connection)
    found = _revisions(connection)
    if COPYING in found:
        raise StoreUnusable(UNFINISHED)
    unknown = _unknown(found)
    if unknown:
        raise RecordsTooNew(
            f"the records were written by a newer version (revision {', '.join(unknown)}); "
            "update this program or restore an older backup"
        )
    if found == REVISIONS[-1:]:
        return
    if not found and not inspector_of(connection).has_table("organizations"):
        metadata.create_all(connection, checkfirst=False)
        schema_version.create(connection)
        connection.execute(schema_version.insert().values(version_num=REVISIONS[-1]))
        return
    steps = importlib.import_module(".upgrade", __package__)
    steps.upgrade(connection, max(found, default=None))


def _make_schema(connection: Connection) -> None:
    """Make PostgreSQL's schema; asked first, since one that exists needs no right to make it."""
    name = connection.exec_driver_sql("SHOW search_path").scalar_one()
    known = text("SELECT 1 FROM pg_namespace WHERE nspname = :name")
    if connection.execute(known, {"name": name}).first() is None:
        connection.execute(CreateSchema(name))


def check_revision(path: Path) -> str | None:
    """Why the store in this file cannot be used, in one line; None if it can. Changes nothing."""
    engine = create_engine("sqlite://", creator=lambda: _read_only(path), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            unknown = _unknown(_revisions(connection))
    except SQLAlchemyError as error:
        return f"{path} cannot be read: {error.__cause__ or error}"
    if unknown:
        return f"{path} was written by a newer version (revision {', '.join(unknown)})"
    return None


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)


def _revisions(connection: Connection) -> list[str]:
    """The revision of the store; none in a new one."""
    if not inspector_of(connection).has_table(schema_version.name):
        return []
    return list(connection.scalars(schema_version.select()))


def _unknown(found: list[str]) -> list[str]:
    """The revisions that this program does not know."""
    return [revision for revision in found if revision not in REVISIONS]
