"""Who may write for a service, which members there are and what they share; at which epoch each attempt was begun."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Make the tables and add the columns."""
    op.create_table(
        "shards",
        sa.Column("service", sa.Text, primary_key=True),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("owner", sa.Text),
        sa.Column("until", sa.BigInteger),
    )
    op.create_table(
        "members",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False, unique=True),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("seen", sa.BigInteger, nullable=False),
        sa.Column("daemon", sa.Boolean, nullable=False),
    )
    op.create_table(
        "hosts",
        sa.Column("host", sa.Text, primary_key=True),
        sa.Column("next_at", sa.BigInteger),
        sa.Column("held_until", sa.BigInteger),
    )
    op.create_table(
        "shares",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("member", sa.Text, primary_key=True),
        sa.Column("has", sa.Integer, nullable=False),
        sa.Column("wants", sa.Integer, nullable=False),
    )
    op.add_column("attempts", sa.Column("service", sa.Text, nullable=False, server_default=""))
    op.add_column("attempts", sa.Column("epoch", sa.BigInteger, nullable=False, server_default="0"))
