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

from reconciler.ledger.reading import MICROSECOND, SERVER_TIME, microseconds, moment, without_nul

__all__ = [
    "NOW",
    "Moment",
    "attempts",
    "commands",
    "events",
    "given",
    "grants",
    "hosts",
    "in_",
    "locks",
    "members",
    "meta",
    "metadata",
    "pulls",
    "requests",
    "sealed",
    "shards",
    "shares",
]


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

grants = Table(
    "grants",
    metadata,
    Column("hire", Text, primary_key=True),
    Column("access", Text, primary_key=True),
    Column("email", Text, nullable=False),
    Column("integration", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("origin", Text),
    Column("phase", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("changed", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("retry_at", Moment),
    Column("checked_at", Moment),
    Column("last_error", Text),
    Column("digest", Text),
    Column("snapshot", JSON, nullable=False),
    Column("attempted", JSON, nullable=False),
    Column("needs", JSON, nullable=False),
    Column("executed_at", Moment),
    Column("confirmed_at", Moment),
    Column("healed_at", Moment),
    Column("orphaned_at", Moment),
    Column("lost", Boolean, nullable=False),
    Column("fresh", Boolean, nullable=False),
    Column("by_hand", Boolean, nullable=False),
    Column("guarded", Boolean, nullable=False),
    Column("keep", Boolean, nullable=False, server_default=false()),
    Column("run", BigInteger),
    Column("revision", Text),
    Column("kind", Text, nullable=False, server_default="execute"),
    Column("as_wanted_at", Moment),
    Column("updated_at", Moment),
    Column("wants", JSON, nullable=False, server_default="{}"),
    Column("differs", JSON, nullable=False, server_default="{}"),
    Column("accepted", JSON, nullable=False, server_default="{}"),
    Column("invitations", Integer, nullable=False, server_default="0"),
    Column("off", Boolean, nullable=False, server_default=false()),
    Column("answered", Text, nullable=False, server_default=""),
    Column("cause", Text),
    Column("code", Text),
    Column("locked", Text),
    Column("acted_at", Moment),
    Column("ends_at", Moment),
    Column("ends_with_hire", Boolean, nullable=False, server_default=false()),
    Column("ends_moved", Boolean, nullable=False, server_default=false()),
    Column("over", Text),
    Column("expire_at", Moment),
    Column("seen_at", Moment),
    Column("form", JSON(none_as_null=True)),
    Index("grants_due", "retry_at"),
    Index("grants_expire", "expire_at"),
    Index("grants_address", text("lower(email)")),
    Index("grants_integration", "integration", "phase"),
    Index("grants_guarded", "integration", sqlite_where=text("guarded IS 1"), postgresql_where=text("guarded IS TRUE")),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("hire", Text, nullable=False),
    Column("access", Text, nullable=False),
    Column("integration", Text, nullable=False),
    Column("run", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("alive_at", Moment, nullable=False),
    Column("ended_at", Moment),
    Column("error", Text),
    Column("revision", Text),
    Column("service", Text, nullable=False, server_default=""),
    Column("epoch", BigInteger, nullable=False, server_default="0"),
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
    Column("text", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("url", Text, nullable=False),
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
    Column("hire", Text, nullable=False),
    Column("access", Text, nullable=False),
    Column("integration", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("revision", Text),
    Column("author", Text),
    Column("detail", Text, nullable=False),
    Column("was", Text),
    Column("granted_in", Text),
    Column("approved_by", JSON(none_as_null=True)),
    Column("data", JSON(none_as_null=True)),
    Column("code", Text),
    Column("salt", LargeBinary),
    Column("content", Text, nullable=False, server_default=""),
    Column("digest", Text, nullable=False, server_default=""),
    Index("events_grant", "hire", "access"),
    Index("events_at", "at"),
)

given = Table(
    "given",
    metadata,
    Column("hire", Text, primary_key=True),
    Column("access", Text, primary_key=True),
    Column("granted_in", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("committer", Text, nullable=False),
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
    Column("hire", Text),
    Column("access", Text),
    Column("integration", Text),
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
    Column("by", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("until", Moment),
    Column("deletes", Boolean, nullable=False),
    Column("hires", JSON, nullable=False),
    Column("addresses", JSON, nullable=False),
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
    Column("integration", Text, primary_key=True),
    Column("account", Text, primary_key=True),
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
    Column("since", Moment, nullable=False),
    Column("seen", Moment, nullable=False),
    Column("daemon", Boolean, nullable=False),
)

shares = Table(
    "shares",
    metadata,
    Column("name", Text, primary_key=True),
    Column("member", Text, primary_key=True),
    Column("has", Integer, nullable=False),
    Column("wants", Integer, nullable=False),
)

hosts = Table(
    "hosts",
    metadata,
    Column("host", Text, primary_key=True),
    Column("next_at", Moment),
    Column("held_until", Moment),
)

MOMENTARY = (shards, members, shares, hosts)
"""The tables of the moment: their rows end with a member."""
