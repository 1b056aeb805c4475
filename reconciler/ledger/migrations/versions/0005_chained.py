"""The history is a chain: each line holds the digest of the one before."""

import hashlib
import json
import secrets
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

said: list[sa.ColumnClause[Any]] = [
    sa.column(name) for name in ("hire", "access", "integration", "event", "revision", "author", "detail", "at")
]
events = sa.table("events", *said, *(sa.column(name) for name in ("id", "salt", "content", "digest")))
meta = sa.table("meta", sa.column("name"), sa.column("value"))


def upgrade() -> None:
    """Add the columns, and chain the lines that are there."""
    connection = op.get_bind()
    op.add_column("events", sa.Column("was", sa.Text))
    op.add_column("events", sa.Column("granted_in", sa.Text))
    op.add_column("events", sa.Column("approved_by", sa.JSON))
    op.add_column("events", sa.Column("salt", sa.LargeBinary))
    for name in ("content", "digest"):
        op.add_column("events", sa.Column(name, sa.Text, nullable=False, server_default=""))
    update = (
        sa.update(events)
        .where(events.c.id == sa.bindparam("line"))
        .values({name: sa.bindparam(f"new_{name}") for name in ("salt", "content", "digest")})
    )
    newest, number, digest = 0, 0, ""
    query = sa.select(events.c.id, *said).order_by(events.c.id).limit(1000)
    while rows := connection.execute(query.where(events.c.id > newest)).mappings().all():
        chained = list[dict[str, Any]]()
        for row in rows:
            salt = secrets.token_bytes(16)
            text = json.dumps(
                {name: value for name, value in row.items() if name != "id" and value},
                sort_keys=True,
                ensure_ascii=False,
                separators=(",", ":"),
            )
            content = hashlib.sha256(salt + text.encode()).hexdigest()
            number, digest = number + 1, hashlib.sha256(f"{digest}\n{content}".encode()).hexdigest()
            chained.append({"line": row["id"], "new_salt": salt, "new_content": content, "new_digest": digest})
        connection.execute(update, chained)
        newest = rows[-1]["id"]
    if number:
        connection.execute(sa.insert(meta).values(name="history_end", value=f"{number} {digest}".encode()))
