"""The open asks of sessions that wait, and when the first of them expires.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sessions", sa.Column("waiting", sa.JSON(none_as_null=True)))
    op.add_column("sessions", sa.Column("wakes_at", sa.BigInteger))
    op.create_index("ix_sessions_wakes_at", "sessions", ["wakes_at"])
