"""The history is a chain: each line holds the digest of the one before."""

import sqlalchemy as sa
from alembic import op

from reconciler.ledger.chain import END, Link, linked, salted
from reconciler.ledger.schema import events, meta

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the columns, and chain the lines that are there; a new state has the columns already, and no lines."""
    connection = op.get_bind()
    if "digest" in {column["name"] for column in sa.inspect(connection).get_columns("events")}:
        return
    op.add_column("events", sa.Column("was", sa.Text))
    op.add_column("events", sa.Column("granted_in", sa.Text))
    op.add_column("events", sa.Column("approved_by", sa.JSON))
    op.add_column("events", sa.Column("salt", sa.LargeBinary))
    for name in ("content", "digest"):
        op.add_column("events", sa.Column(name, sa.Text, nullable=False, server_default=""))
    end = Link()
    update = (
        sa.update(events)
        .where(events.c.id == sa.bindparam("line"))
        .values({name: sa.bindparam(f"new_{name}") for name in ("salt", "content", "digest")})
    )
    newest = 0
    query = sa.select(events).order_by(events.c.id).limit(1000)
    while rows := connection.execute(query.where(events.c.id > newest)).mappings().all():
        chained, end = linked((salted(dict(row)) for row in rows), end)
        values = [
            {"line": row["id"], **{f"new_{name}": row[name] for name in ("salt", "content", "digest")}}
            for row in chained
        ]
        connection.execute(update, values)
        newest = rows[-1]["id"]
    if end.number:
        connection.execute(sa.insert(meta).values(name=END, value=end.as_note()))
