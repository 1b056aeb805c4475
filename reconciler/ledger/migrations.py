"""Make a state's tables, and bring those of an earlier version up to date.

A new state is made with the newest tables, and no migration runs. Each migration is history: it writes out the tables
and columns as they were then, and uses nothing of today's code. The first schema is the base that they start from; a
state of every one is in tests/ledger/schemas.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from reconciler.ledger.backend import engine_over
from reconciler.ledger.chain import END, Link
from reconciler.ledger.reading import HEAD, VERSION
from reconciler.ledger.schema import meta, metadata

if TYPE_CHECKING:
    import sqlite3

    from alembic.operations import Operations

_version = sa.Table(VERSION, sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True))


def upgrade(connection: sa.Connection) -> None:
    """Make the tables, or bring them up to date, in this connection's transaction."""
    if not sa.inspect(connection).has_table(VERSION):
        _make(connection)
        return
    # It takes a quarter of a second to import, which a ledger that is up to date is spared.
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    before = connection.execute(sa.select(_version.c.version_num)).scalar_one()
    op = Operations(MigrationContext.configure(connection))
    for version, migrate in MIGRATIONS.items():
        if version > before:
            migrate(op, connection)
    connection.execute(sa.update(_version).values(version_num=HEAD))


def bring_up_to_date(connection: sqlite3.Connection) -> None:
    """Migrate the tables of a state in memory."""
    with engine_over(connection).begin() as transaction:
        upgrade(transaction)


def _make(connection: sa.Connection) -> None:
    """Make a state without lines. Whoever appends to the history locks the note of where it ends, so it is there."""
    metadata.create_all(connection)
    connection.execute(sa.insert(meta).values(name=END, value=Link().as_note()))
    _version.create(connection)
    connection.execute(sa.insert(_version).values(version_num=HEAD))


# --- history ----------------------------------------------------------------------------------------------------------


def _columns(kind: type[sa.types.TypeEngine[Any]], *names: str, **settings: Any) -> list[sa.Column[Any]]:
    return [sa.Column(name, kind, **settings) for name in names]


def _add_columns(
    op: Operations, table: str, kind: type[sa.types.TypeEngine[Any]], *names: str, **settings: Any
) -> None:
    for column in _columns(kind, *names, **settings):
        op.add_column(table, column)


_SAID: list[sa.ColumnClause[Any]] = [
    sa.column(name) for name in ("hire", "access", "integration", "event", "revision", "author", "detail", "at")
]
_ADDED = ("id", "was", "salt", "content", "digest")
_events = sa.table("events", *_SAID, *(sa.column(name) for name in _ADDED), sa.column("data", sa.JSON))
_grants = sa.table("grants", *(sa.column(name) for name in ("status", "reason", "code", "cause")))
_meta = sa.table("meta", sa.column("name"), sa.column("value"))


def _digests(said: Mapping[str, Any], before: str) -> dict[str, Any]:
    """Return a line's salt and digests, by the digest of the line before."""
    salt = secrets.token_bytes(16)
    kept = {name: value for name, value in said.items() if value}
    text = json.dumps(kept, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    content = hashlib.sha256(salt + text.encode()).hexdigest()
    return {"salt": salt, "content": content, "digest": hashlib.sha256(f"{before}\n{content}".encode()).hexdigest()}


def _guarded(op: Operations, _connection: sa.Connection) -> None:
    """What the guard holds is looked up before every pass, and is seldom there: found by an index, not by a walk."""
    op.create_index("grants_guarded", "grants", ["integration"], sqlite_where=sa.text("guarded IS 1"))


def _kept(op: Operations, _connection: sa.Connection) -> None:
    """An entry with `keep` is reported and never revoked on its own, also once its file is gone."""
    _add_columns(op, "grants", sa.Boolean, "keep", nullable=False, server_default=sa.false())


def _as_wanted(op: Operations, _connection: sa.Connection) -> None:
    """An account that is there may differ from what git wants; an attempt is of a kind, revocations among them.

    What was confirmed was as wanted as far as the check could see, and stays so.
    """
    _add_columns(op, "grants", sa.Text, "kind", nullable=False, server_default="execute")
    _add_columns(op, "grants", sa.BigInteger, "as_wanted_at", "updated_at")
    _add_columns(op, "grants", sa.JSON, "wants", "differs", "accepted", nullable=False, server_default="{}")
    _add_columns(op, "grants", sa.Integer, "invitations", nullable=False, server_default="0")
    op.execute("UPDATE grants SET kind = 'revoke' WHERE revoking")
    op.execute("UPDATE grants SET kind = 'run' WHERE by_hand AND NOT revoking")
    op.drop_column("grants", "revoking")


def _chained(op: Operations, connection: sa.Connection) -> None:
    """The history is a chain: each line holds the digest of the one before. Lines that are there are chained, too."""
    _add_columns(op, "events", sa.Text, "was", "granted_in")
    _add_columns(op, "events", sa.JSON, "approved_by")
    _add_columns(op, "events", sa.LargeBinary, "salt")
    _add_columns(op, "events", sa.Text, "content", "digest", nullable=False, server_default="")
    update = (
        sa.update(_events)
        .where(_events.c.id == sa.bindparam("line"))
        .values({name: sa.bindparam(f"new_{name}") for name in ("salt", "content", "digest")})
    )
    newest, number, digest = 0, 0, ""
    query = sa.select(_events.c.id, *_SAID).order_by(_events.c.id).limit(1000)
    while rows := connection.execute(query.where(_events.c.id > newest)).mappings().all():
        chained = list[dict[str, Any]]()
        for row in rows:
            made = _digests({name: value for name, value in row.items() if name != "id"}, digest)
            number, digest = number + 1, made["digest"]
            chained.append({"line": row["id"], **{f"new_{name}": value for name, value in made.items()}})
        connection.execute(update, chained)
        newest = rows[-1]["id"]
    if number:
        connection.execute(sa.insert(_meta).values(name="history_end", value=f"{number} {digest}".encode()))


def _accounts(op: Operations, _connection: sa.Connection) -> None:
    """When each account of a listing was first read, by a digest of what it is known by."""
    keys = _columns(sa.Text, "integration", "account", primary_key=True)
    op.create_table("accounts", *keys, sa.Column("first_seen", sa.BigInteger, nullable=False))


def _given(op: Operations, _connection: sa.Connection) -> None:
    """Who gave each grant; what is in git is found out by the next pass."""
    op.create_table(
        "given",
        *_columns(sa.Text, "hire", "access", primary_key=True),
        *_columns(sa.Text, "granted_in", "author", "committer", nullable=False),
        sa.Column("committed_at", sa.BigInteger, nullable=False),
        sa.Column("approved_by", sa.JSON, nullable=False),
    )


def _shards(op: Operations, _connection: sa.Connection) -> None:
    """Who may write for a service, which members there are and what they share; at which epoch an attempt was begun."""
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
        *_columns(sa.BigInteger, "since", "seen", nullable=False),
        sa.Column("daemon", sa.Boolean, nullable=False),
    )
    times = _columns(sa.BigInteger, "next_at", "held_until")
    op.create_table("hosts", sa.Column("host", sa.Text, primary_key=True), *times)
    keys = _columns(sa.Text, "name", "member", primary_key=True)
    op.create_table("shares", *keys, *_columns(sa.Integer, "has", "wants", nullable=False))
    _add_columns(op, "attempts", sa.Text, "service", nullable=False, server_default="")
    _add_columns(op, "attempts", sa.BigInteger, "epoch", nullable=False, server_default="0")


_CODES = (
    ("counting", "suspended", "held by the guard until it has counted%"),
    ("tripped", "suspended", "held by the guard: %"),
    ("policy", "blocked", "policy %"),
    ("drift", "differs", "drift%"),
    ("last_seen", "unknown", "%; last seen present on %"),
)
"""What the reasons of before said: a code, for a status, by the sentence. The first of these has to be right, for the
guard counts by it; the others are for what is shown until the next pass."""

_CAUSES = (
    ("initial_data", "initial data %"),
    ("connection", "%connect again: `reconcile oauth connect %"),
    ("connection", "not connected: run `reconcile oauth connect %"),
)
"""Who had to do something, in the same way."""


def _renames(op: Operations, connection: sa.Connection) -> None:
    """Lines for renames, a code of the state's key for commands; who is off and when it ends; locks; what a forge says.

    There is a line for each rename there was, of the lines up to the last that was written before it.
    """
    _add_columns(op, "events", sa.JSON, "data")
    _add_columns(op, "events", sa.Text, "code")
    _add_columns(op, "words", sa.Text, "mac")
    _add_columns(op, "grants", sa.Boolean, "off", nullable=False, server_default=sa.false())
    _add_columns(op, "grants", sa.Text, "answered", nullable=False, server_default="")
    _add_columns(op, "grants", sa.Text, "cause", "code")
    for code, status, reason in _CODES:
        these = _grants.c.status == status, _grants.c.reason.like(reason)
        connection.execute(sa.update(_grants).where(*these).values(code=code))
    for cause, reason in _CAUSES:
        these = _grants.c.status.in_(("blocked", "unknown")), _grants.c.reason.like(reason)
        connection.execute(sa.update(_grants).where(*these).values(cause=cause))
    _add_columns(op, "grants", sa.Text, "locked")
    _add_columns(op, "words", sa.JSON, "data")
    _add_columns(op, "words", sa.Text, "once")
    _make_locks(op)
    _add_columns(op, "grants", sa.BigInteger, "acted_at", "ends_at")
    _add_columns(op, "grants", sa.Boolean, "ends_with_hire", "ends_moved", nullable=False, server_default=sa.false())
    _add_columns(op, "grants", sa.Text, "over")
    _add_columns(op, "grants", sa.BigInteger, "expire_at", "seen_at")
    _add_columns(op, "grants", sa.JSON, "form")
    op.create_index("grants_expire", "grants", ["expire_at"])
    _make_pulls(op)
    noted = connection.execute(sa.select(_meta.c.value).where(_meta.c.name == "history_end")).scalar()
    number, _, digest = (b"0 " if noted is None else bytes(noted)).decode().partition(" ")
    end, now = int(number), time.time_ns() // 1000
    for last, row in _renamed(connection):
        end += 1
        line = {"at": now, **{name: row[name] for name in ("hire", "access", "integration")}, "event": "renamed"}
        line |= {"detail": f"was {row['was']}", "data": {"was": row["was"], "place": end - last - 1}}
        made = _digests(line, digest)
        digest = made["digest"]
        connection.execute(sa.insert(_events).values(**line, **made))
    connection.execute(sa.update(_meta).where(_meta.c.name == "history_end").values(value=f"{end} {digest}".encode()))


def _left_over(op: Operations, _connection: sa.Connection) -> None:
    """What is begun anew does not forget that an attempt before it may have left an account.

    A hire is found again whose file was renamed while an account is under an address of before. A grant is of each
    sequence by which its hire has it. What a person asked for is told from what git did. An end that was moved may be
    moved back: what it was at first is kept, as far as that is known. Of what the guard holds it is
    noted whether it takes access away.
    """
    _add_columns(op, "grants", sa.Boolean, "left_over", nullable=False, server_default=sa.false())
    _add_columns(op, "grants", sa.Text, "hire_email", nullable=False, server_default="")
    op.execute("UPDATE grants SET hire_email = email")
    _add_columns(op, "grants", sa.JSON, "through", nullable=False, server_default="[]")
    _add_columns(op, "attempts", sa.Boolean, "by_hand", nullable=False, server_default=sa.false())
    op.create_index("grants_hire_address", "grants", [sa.text("lower(hire_email)")])
    _add_columns(op, "grants", sa.BigInteger, "first_ends_at")
    op.execute("UPDATE grants SET first_ends_at = ends_at WHERE ends_moved IS FALSE")
    op.drop_column("grants", "ends_moved")
    _add_columns(op, "grants", sa.Boolean, "takes", nullable=False, server_default=sa.false())
    op.execute(
        "UPDATE grants SET takes = TRUE WHERE guarded"
        " AND (lost OR orphaned_at IS NOT NULL OR (as_wanted_at IS NOT NULL AND NOT changed))"
    )


def _make_locks(op: Operations) -> None:
    op.create_table(
        "locks",
        sa.Column("hire", sa.Text, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        *_columns(sa.Text, "by", "reason", nullable=False),
        sa.Column("until", sa.BigInteger),
        sa.Column("deletes", sa.Boolean, nullable=False),
        *_columns(sa.JSON, "hires", "addresses", nullable=False),
        sa.Column("mac", sa.Text),
    )


def _make_pulls(op: Operations) -> None:
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
    op.execute(
        "INSERT INTO pulls (revision, committed_at, merges)"
        " SELECT granted_in, max(committed_at), '[]' FROM given GROUP BY granted_in"
    )


def _renamed(connection: sa.Connection) -> Iterator[tuple[int, dict[str, Any]]]:
    """Return the last line, with its number, of each run of lines that one name has now and that another one had."""
    columns = [_events.c[name] for name in ("id", "was", "hire", "access", "integration")]
    numbered = sa.select(*columns, sa.func.row_number().over(order_by=_events.c.id).label("number")).subquery()
    was = sa.select(numbered).where(numbered.c.was.is_not(None)).order_by(numbered.c.was, numbered.c.number)
    found = [dict(row) for row in connection.execute(was).mappings()]
    for _, run in groupby(found, lambda row: (row["was"], row["hire"], row["access"])):
        *_, row = run
        yield row["number"], row


MIGRATIONS: Mapping[str, Callable[[Operations, sa.Connection], None]] = {
    "0002": _guarded,
    "0003": _kept,
    "0004": _as_wanted,
    "0005": _chained,
    "0006": _accounts,
    "0007": _given,
    "0008": _shards,
    "0009": _renames,
    "0010": _left_over,
}
"""By the version that each brings a state to."""
