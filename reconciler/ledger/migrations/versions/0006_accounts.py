"""When each account of a listing was first read, by a digest of what it is known by."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "accounts",
        sa.Column("integration", sa.Text, primary_key=True),
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("first_seen", sa.BigInteger, nullable=False),
    )
