"""Who gave each grant; what is in git is found out by the next pass."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "given",
        sa.Column("hire", sa.Text, primary_key=True),
        sa.Column("access", sa.Text, primary_key=True),
        sa.Column("granted_in", sa.Text, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("committer", sa.Text, nullable=False),
        sa.Column("committed_at", sa.BigInteger, nullable=False),
        sa.Column("approved_by", sa.JSON, nullable=False),
    )
