"""Brings a store to the newest version when it is opened."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, create_engine
from sqlalchemy.exc import SQLAlchemyError

from .base import StoreIsNewer


def migrate(connection: Connection) -> None:
    """Run the missing steps inside the caller's transaction.

    Raises `StoreIsNewer` when the store's version is not one of ours: going on could damage what
    the newer program wrote.
    """
    config = _config()
    config.attributes["connection"] = connection
    unknown = _unknown(connection, config)
    if unknown:
        raise StoreIsNewer(
            f"the records were written by a newer version (revision {', '.join(unknown)}); "
            "update this program or restore an older backup"
        )
    command.upgrade(config, "head")


def check_revision(path: Path) -> str | None:
    """Why the store in this file cannot be used, in one line; None if it can. Changes nothing."""
    engine = create_engine("sqlite://", creator=lambda: _read_only(path), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            unknown = _unknown(connection, _config())
    except SQLAlchemyError as error:
        return f"{path} cannot be read: {error.__cause__ or error}"
    if unknown:
        return f"{path} was written by a newer version (revision {', '.join(unknown)})"
    return None


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)


def _config() -> Config:
    config = Config()
    # A percent sign in a path would be read as a reference by the configuration's parser.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def _unknown(connection: Connection, config: Config) -> list[str]:
    """The store's revisions that are not ours."""
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    current = MigrationContext.configure(connection).get_current_heads()
    return [revision for revision in current if revision not in known]
