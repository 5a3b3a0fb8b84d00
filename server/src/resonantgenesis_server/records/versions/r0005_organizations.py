"""Organizations can be disabled; no key is an "admin" beside the bootstrap key.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("organizations", sa.Column("disabled_at", sa.BigInteger))
    op.drop_column("api_keys", "is_admin")
