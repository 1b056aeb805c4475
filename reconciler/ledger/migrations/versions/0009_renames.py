"""Lines for renames, a code of the state's key for commands; who is off and when it ends; locks; what a forge says."""

import hashlib
import json
import secrets
import time
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

NAMES = ("id", "was", "at", "hire", "access", "integration", "event", "detail", "salt", "content", "digest")
events = sa.table("events", sa.column("data", sa.JSON), *(sa.column(name) for name in NAMES))
grants = sa.table("grants", *(sa.column(name) for name in ("status", "reason", "code", "cause")))
meta = sa.table("meta", sa.column("name"), sa.column("value"))

CODES = (
    ("counting", "suspended", "held by the guard until it has counted%"),
    ("tripped", "suspended", "held by the guard: %"),
    ("policy", "blocked", "policy %"),
    ("drift", "differs", "drift%"),
    ("last_seen", "unknown", "%; last seen present on %"),
)
"""What the reasons of before said: a code, for a status, by the sentence. The first of these has to be right, for the
guard counts by it; the others are for what is shown until the next pass."""
CAUSES = (
    ("initial_data", "initial data %"),
    ("connection", "%connect again: `reconcile oauth connect %"),
    ("connection", "not connected: run `reconcile oauth connect %"),
)
"""Who had to do something, in the same way."""


def upgrade() -> None:
    """Add the columns, and a line for each rename there was, of the lines up to the last that was written before it."""
    connection = op.get_bind()
    op.add_column("events", sa.Column("data", sa.JSON))
    op.add_column("events", sa.Column("code", sa.Text))
    op.add_column("words", sa.Column("mac", sa.Text))
    op.add_column("grants", sa.Column("off", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("grants", sa.Column("answered", sa.Text, nullable=False, server_default=""))
    op.add_column("grants", sa.Column("cause", sa.Text))
    op.add_column("grants", sa.Column("code", sa.Text))
    for code, status, reason in CODES:
        these = grants.c.status == status, grants.c.reason.like(reason)
        connection.execute(sa.update(grants).where(*these).values(code=code))
    for cause, reason in CAUSES:
        these = grants.c.status.in_(("blocked", "unknown")), grants.c.reason.like(reason)
        connection.execute(sa.update(grants).where(*these).values(cause=cause))
    op.add_column("grants", sa.Column("locked", sa.Text))
    op.add_column("words", sa.Column("data", sa.JSON))
    op.add_column("words", sa.Column("once", sa.Text))
    _make_locks()
    for name in ("acted_at", "ends_at"):
        op.add_column("grants", sa.Column(name, sa.BigInteger))
    for name in ("ends_with_hire", "ends_moved"):
        op.add_column("grants", sa.Column(name, sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("grants", sa.Column("over", sa.Text))
    op.add_column("grants", sa.Column("expire_at", sa.BigInteger))
    op.add_column("grants", sa.Column("seen_at", sa.BigInteger))
    op.add_column("grants", sa.Column("form", sa.JSON))
    op.create_index("grants_expire", "grants", ["expire_at"])
    _make_pulls(connection)
    noted = connection.execute(sa.select(meta.c.value).where(meta.c.name == "history_end")).scalar()
    number, _, digest = (b"0 " if noted is None else bytes(noted)).decode().partition(" ")
    end, now = int(number), time.time_ns() // 1000
    for last, row in _renamed(connection):
        end += 1
        line = {"at": now, **{name: row[name] for name in ("hire", "access", "integration")}, "event": "renamed"}
        line |= {"detail": f"was {row['was']}", "data": {"was": row["was"], "place": end - last - 1}}
        salt = secrets.token_bytes(16)
        said = {name: value for name, value in line.items() if value}
        text = json.dumps(said, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        content = hashlib.sha256(salt + text.encode()).hexdigest()
        digest = hashlib.sha256(f"{digest}\n{content}".encode()).hexdigest()
        connection.execute(sa.insert(events).values(**line, salt=salt, content=content, digest=digest))
    connection.execute(sa.update(meta).where(meta.c.name == "history_end").values(value=f"{end} {digest}".encode()))


def _make_locks() -> None:
    op.create_table(
        "locks",
        sa.Column("hire", sa.Text, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("until", sa.BigInteger),
        sa.Column("deletes", sa.Boolean, nullable=False),
        sa.Column("hires", sa.JSON, nullable=False),
        sa.Column("addresses", sa.JSON, nullable=False),
        sa.Column("mac", sa.Text),
    )


def _make_pulls(connection: sa.Connection) -> None:
    op.create_table(
        "pulls",
        sa.Column("revision", sa.Text, primary_key=True),
        sa.Column("committed_at", sa.BigInteger, nullable=False),
        sa.Column("merges", sa.JSON, nullable=False),
        sa.Column("asked_at", sa.BigInteger),
        sa.Column("settled", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("approvals", sa.JSON),
        sa.Column("merged_by", sa.Text),
    )
    op.create_index("pulls_open", "pulls", ["settled", "committed_at"])
    op.create_index("given_commit", "given", ["granted_in"])
    connection.execute(
        sa.text(
            "INSERT INTO pulls (revision, committed_at, merges)"
            " SELECT granted_in, max(committed_at), '[]' FROM given GROUP BY granted_in"
        )
    )


def _renamed(connection: sa.Connection) -> Iterator[tuple[int, dict[str, Any]]]:
    """Return the last line, with its number, of each run of lines that one name has now and that another one had."""
    columns = [events.c[name] for name in ("id", "was", "hire", "access", "integration")]
    numbered = sa.select(*columns, sa.func.row_number().over(order_by=events.c.id).label("number")).subquery()
    was = sa.select(numbered).where(numbered.c.was.is_not(None)).order_by(numbered.c.was, numbered.c.number)
    found = [dict(row) for row in connection.execute(was).mappings()]
    for _, run in groupby(found, lambda row: (row["was"], row["hire"], row["access"])):
        *_, row = run
        yield row["number"], row
