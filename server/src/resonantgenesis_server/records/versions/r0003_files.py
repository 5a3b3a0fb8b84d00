"""Files: what they are called and whose they are.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ID = sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql")
INDEXES = (
    ("organization_id", "created_at", "id"),
    ("organization_id", "subject", "created_at", "id"),
    ("session_id",),
    ("sha256",),
)


def upgrade() -> None:
    op.create_table(
        "files",
        sa.Column("id", ID, nullable=False),
        sa.Column("organization_id", ID, nullable=False),
        sa.Column("subject", sa.Text),
        sa.Column("session_id", ID),
        sa.Column("agent_id", ID),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("content_type", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_files"),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_files_organization_id"
        ),
    )
    for columns in INDEXES:
        op.create_index("_".join(["ix_files", *columns]), "files", list(columns))
