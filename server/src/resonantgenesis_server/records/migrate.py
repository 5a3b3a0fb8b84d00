"""Brings a store to the newest version when it is opened."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from .base import StoreIsNewer


def migrate(connection: Connection) -> None:
    """Run the missing steps inside the caller's transaction.

    Raises `StoreIsNewer` when the store's version is not one of ours: going on could damage what
    the newer program wrote.
    """
    config = Config()
    # A percent sign in a path would be read as a reference by the configuration's parser.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    current = MigrationContext.configure(connection).get_current_heads()
    unknown = [revision for revision in current if revision not in known]
    if unknown:
        raise StoreIsNewer(
            f"the records were written by a newer version (revision {', '.join(unknown)}); "
            "update this program or restore an older backup"
        )
    command.upgrade(config, "head")
