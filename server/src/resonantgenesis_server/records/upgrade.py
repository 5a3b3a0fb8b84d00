"""Runs the steps in `versions/` with Alembic, on a store that an older version wrote."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def upgrade(connection: Connection) -> None:
    """Run the missing steps inside the caller's transaction."""
    config = Config()
    # A percent sign in a path would be read as a reference by the configuration's parser.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
