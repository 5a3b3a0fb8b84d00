"""Runs the steps in `versions/`: the only module that knows Alembic.

Alembic gives the steps their operations. Its own runner would want an `env.py` that it finds by
path; the steps are one line without branches, so a loop runs them.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection

from .tables import schema_version


def upgrade(connection: Connection, reached: str | None = None) -> None:
    """Run the steps behind the revision `reached` (None: all), within the caller's transaction."""
    schema_version.create(connection, checkfirst=True)
    with Operations.context(MigrationContext.configure(connection)):
        for path in sorted((Path(__file__).parent / "versions").glob("r*.py")):
            step = importlib.import_module(f".versions.{path.stem}", __package__)
            if reached is None or step.revision > reached:
                step.upgrade()
                connection.execute(schema_version.delete())
                connection.execute(schema_version.insert().values(version_num=step.revision))
