"""Who may write for a service, which members there are and what they share; at which epoch each attempt was begun."""

import sqlalchemy as sa
from alembic import op

from reconciler.ledger.schema import hosts, members, shards, shares

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Make the tables and columns; a new state has them already."""
    there = sa.inspect(op.get_bind())
    for table in (shards, members, hosts, shares):
        if table.name not in there.get_table_names():
            table.create(op.get_bind())
    if "epoch" not in {column["name"] for column in there.get_columns("attempts")}:
        op.add_column("attempts", sa.Column("service", sa.Text, nullable=False, server_default=""))
        op.add_column("attempts", sa.Column("epoch", sa.BigInteger, nullable=False, server_default="0"))
