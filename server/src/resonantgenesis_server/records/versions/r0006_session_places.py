"""How far the events were read that the list of sessions follows from.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

ID = sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "session_places",
        sa.Column("organization_id", ID, nullable=False),
        sa.Column("epoch", sa.String(64), nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("organization_id", name="pk_session_places"),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_session_places_organization_id"
        ),
    )
