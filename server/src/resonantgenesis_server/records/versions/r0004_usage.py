"""What turns took, and how far the events were read that tell it.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ID = sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INDEXES = (
    ("organization_id", "ended_at", "session_id", "turn"),
    ("organization_id", "subject", "ended_at"),
    ("ended_at",),
)


def upgrade() -> None:
    op.create_table(
        "usage",
        sa.Column("organization_id", ID, nullable=False),
        sa.Column("session_id", ID, nullable=False),
        sa.Column("turn", sa.Integer, nullable=False),
        sa.Column("agent_id", ID, nullable=False),
        sa.Column("key_id", ID, nullable=False),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("input_tokens", sa.BigInteger, nullable=False),
        sa.Column("output_tokens", sa.BigInteger, nullable=False),
        sa.Column("steps", sa.Integer, nullable=False),
        sa.Column("duration_ms", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger, nullable=False),
        sa.Column("day", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "session_id", "turn", name="pk_usage"),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_usage_organization_id"
        ),
    )
    for columns in INDEXES:
        op.create_index(f"ix_usage_{'_'.join(columns)}", "usage", list(columns))
    op.create_table(
        "usage_places",
        sa.Column("organization_id", ID, nullable=False),
        sa.Column("epoch", sa.String(64), nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("limit_month", sa.String(7)),
        sa.PrimaryKeyConstraint("organization_id", name="pk_usage_places"),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_usage_places_organization_id"
        ),
    )
