"""What a search of sessions looks through.

Revision ID: 0014
Revises: 0013
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sessions", sa.Column("first_goal", sa.Text))
    op.add_column("sessions", sa.Column("search_text", sa.Text))
    # Without a place the list of sessions is written anew from the log, which has the goals.
    op.execute("DELETE FROM session_places")
