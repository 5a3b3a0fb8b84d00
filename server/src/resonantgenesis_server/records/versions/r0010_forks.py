"""Rows of sessions may have the status `deleted`: their forks still show them.

Older versions would list such sessions. This step makes them refuse the store.

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The tables stay as they are."""
