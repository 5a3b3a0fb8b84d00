"""Where the content of files lies, once for each digest.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

ID = sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "blobs",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("name", ID, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("damaged", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_blobs"),
        sa.UniqueConstraint("name", name="uq_blobs_name"),
    )
    # Until now a blob had its digest for a name.
    op.execute(
        "INSERT INTO blobs (digest, name, size, damaged)"
        " SELECT sha256, sha256, max(size), false FROM files GROUP BY sha256"
    )
