"""The ledger's tables. Times are whole microseconds since 1970 in UTC, which both databases sort and compare alike.

`grants` has one row for each grant, `attempts` and `requests` what was sent for it, `events` the history, `given` who
gave each grant, `sealed` encrypted values, `words` commands to the process that has the state,
`locks` who is locked out. `shards` says who may
write for a service, `members` which processes share the work, `shares` each one's part of the limits, `hosts` when a
host may be sent to next.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    TypeDecorator,
    false,
    literal_column,
    text,
    type_coerce,
)
from sqlalchemy import Text as AnyText
from sqlalchemy.types import TypeEngine

from reconciler.ledger.reading import MICROSECOND, SERVER_TIME, microseconds, moment, without_nul


class Moment(TypeDecorator[datetime]):
    """A time in UTC, stored as microseconds since 1970."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:  # noqa: ARG002
        """To microseconds."""
        return None if value is None else microseconds(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """From microseconds."""
        return moment(value)


_SERVER_TIME: ColumnElement[int] = literal_column(SERVER_TIME, BigInteger)
NOW = type_coerce(_SERVER_TIME, Moment)
"""The server's time, which is the same for all members."""


def in_(span: timedelta) -> ColumnElement[datetime]:
    """Return the server's time plus a duration."""
    return type_coerce(_SERVER_TIME + span // MICROSECOND, Moment)


class _PostgresText(TypeDecorator[str]):
    """Text, compared and sorted by code points like in SQLite, whatever the database's locale is.

    PostgreSQL holds no NUL.
    """

    impl = AnyText(collation="C")
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Replace what PostgreSQL cannot store."""
        return None if value is None else without_nul(value)


Text = AnyText().with_variant(_PostgresText(), "postgresql")
metadata = MetaData()
Serial = BigInteger().with_variant(Integer, "sqlite")


def _columns(kind: TypeEngine[Any] | type[TypeEngine[Any]], *names: str, **settings: Any) -> list[Column[Any]]:
    """Make columns of one kind that follow each other."""
    return [Column(name, kind, **settings) for name in names]


grants = Table(
    "grants",
    metadata,
    *_columns(Text, "hire", "access", primary_key=True),
    *_columns(Text, "email", "integration", "service", "source", nullable=False),
    Column("origin", Text),
    *_columns(Text, "phase", "status", "action", "reason", nullable=False),
    Column("changed", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False),
    *_columns(Moment, "retry_at", "checked_at"),
    *_columns(Text, "last_error", "digest"),
    *_columns(JSON, "snapshot", "attempted", "needs", nullable=False),
    *_columns(Moment, "executed_at", "confirmed_at", "healed_at", "orphaned_at"),
    *_columns(Boolean, "lost", "fresh", "by_hand", "guarded", nullable=False),
    Column("keep", Boolean, nullable=False, server_default=false()),
    Column("run", BigInteger),
    Column("revision", Text),
    Column("kind", Text, nullable=False, server_default="execute"),
    *_columns(Moment, "as_wanted_at", "updated_at"),
    *_columns(JSON, "wants", "differs", "accepted", nullable=False, server_default="{}"),
    Column("invitations", Integer, nullable=False, server_default="0"),
    Column("off", Boolean, nullable=False, server_default=false()),
    Column("answered", Text, nullable=False, server_default=""),
    *_columns(Text, "cause", "code", "locked"),
    *_columns(Moment, "acted_at", "ends_at"),
    Column("ends_with_hire", Boolean, nullable=False, server_default=false()),
    Column("over", Text),
    *_columns(Moment, "expire_at", "seen_at"),
    Column("form", JSON(none_as_null=True)),
    Column("left_over", Boolean, nullable=False, server_default=false()),
    Column("hire_email", Text, nullable=False, server_default=""),
    Column("through", JSON, nullable=False, server_default="[]"),
    Column("first_ends_at", Moment),
    Column("takes", Boolean, nullable=False, server_default=false()),
    Index("grants_due", "retry_at"),
    Index("grants_expire", "expire_at"),
    Index("grants_address", text("lower(email)")),
    Index("grants_hire_address", text("lower(hire_email)")),
    Index("grants_integration", "integration", "phase"),
    Index("grants_guarded", "integration", sqlite_where=text("guarded IS 1"), postgresql_where=text("guarded IS TRUE")),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", Serial, primary_key=True),
    *_columns(Text, "hire", "access", "integration", nullable=False),
    Column("run", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    *_columns(Integer, "number", "total", nullable=False),
    *_columns(Moment, "started_at", "alive_at", nullable=False),
    Column("ended_at", Moment),
    *_columns(Text, "error", "revision"),
    Column("service", Text, nullable=False, server_default=""),
    Column("epoch", BigInteger, nullable=False, server_default="0"),
    Column("by_hand", Boolean, nullable=False, server_default=false()),
    Index("attempts_grant", "hire", "access"),
    Index("attempts_open", "ended_at"),
)

requests = Table(
    "requests",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("attempt", BigInteger, ForeignKey("attempts.id", ondelete="CASCADE"), nullable=False),
    Column("run", BigInteger, nullable=False),
    Column("place", Integer, nullable=False),
    *_columns(Text, "text", "method", "url", nullable=False),
    Column("mutates", Boolean, nullable=False),
    Column("sent_at", Moment, nullable=False),
    Column("answered_at", Moment),
    Column("status_code", Integer),
    Column("outcome", Text, nullable=False),
    Column("error", Text),
    Index("requests_attempt", "attempt", "place", unique=True),
    Index("requests_run", "run"),
)

events = Table(
    "events",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("at", Moment, nullable=False),
    *_columns(Text, "hire", "access", "integration", "event", nullable=False),
    *_columns(Text, "revision", "author"),
    Column("detail", Text, nullable=False),
    *_columns(Text, "was", "granted_in"),
    *_columns(JSON(none_as_null=True), "approved_by", "data"),
    Column("code", Text),
    Column("salt", LargeBinary),
    *_columns(Text, "content", "digest", nullable=False, server_default=""),
    Index("events_grant", "hire", "access"),
    Index("events_at", "at"),
)

given = Table(
    "given",
    metadata,
    *_columns(Text, "hire", "access", primary_key=True),
    *_columns(Text, "granted_in", "author", "committer", nullable=False),
    Column("committed_at", Moment, nullable=False),
    Column("approved_by", JSON, nullable=False),
    Index("given_commit", "granted_in"),
)

pulls = Table(
    "pulls",
    metadata,
    Column("revision", Text, primary_key=True),
    Column("committed_at", Moment, nullable=False),
    Column("merges", JSON, nullable=False),
    Column("asked_at", Moment),
    Column("settled", Boolean, nullable=False, server_default=false()),
    Column("approvals", JSON(none_as_null=True)),
    Column("merged_by", Text),
    Index("pulls_open", "settled", "committed_at"),
)
"""By the commit that gave something, what the forge says of the pull request that brought it; `approvals` is null where
there is none, or as long as the forge has not answered."""

sealed = Table(
    "sealed",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

commands = Table(
    "words",  # as the first migration made it
    metadata,
    Column("id", Serial, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("kind", Text, nullable=False),
    *_columns(Text, "hire", "access", "integration"),
    Column("by", Text, nullable=False),
    Column("mac", Text),
    Column("data", JSON(none_as_null=True)),
    Column("once", Text),
)

locks = Table(
    "locks",
    metadata,
    Column("hire", Text, primary_key=True),
    Column("at", Moment, nullable=False),
    *_columns(Text, "by", "reason", nullable=False),
    Column("until", Moment),
    Column("deletes", Boolean, nullable=False),
    *_columns(JSON, "hires", "addresses", nullable=False),
    Column("mac", Text),
)

meta = Table(
    "meta",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

accounts = Table(
    "accounts",
    metadata,
    *_columns(Text, "integration", "account", primary_key=True),
    Column("first_seen", Moment, nullable=False),
)

shards = Table(
    "shards",
    metadata,
    Column("service", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("owner", Text),
    Column("until", Moment),
)

members = Table(
    "members",
    metadata,
    Column("name", Text, primary_key=True),
    Column("owner", Text, nullable=False, unique=True),
    *_columns(Moment, "since", "seen", nullable=False),
    Column("daemon", Boolean, nullable=False),
)

shares = Table(
    "shares",
    metadata,
    *_columns(Text, "name", "member", primary_key=True),
    *_columns(Integer, "has", "wants", nullable=False),
)

hosts = Table(
    "hosts",
    metadata,
    Column("host", Text, primary_key=True),
    *_columns(Moment, "next_at", "held_until"),
)

MOMENTARY = (shards, members, shares, hosts)
"""The tables of the moment: their rows end with a member."""
