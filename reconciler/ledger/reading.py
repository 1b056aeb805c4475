"""Read tables in plain SQL, the same text for both databases, so that reading needs only a driver.

The values are plain, too: times are whole microseconds since 1970 in UTC, which both databases sort and compare alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import chain, product
from typing import Any, Protocol, TypeVar, overload

from reconciler.model.errors import LedgerError

HEAD = "0010"
"""The newest version of a state's tables. A ledger that has it needs no migration, and loads none."""

VERSION = "alembic_version"
"""The table with the version, as alembic named it."""

MANY = 500
"""The most hires, or names, of one statement."""

PAGE = 1000
"""The most rows of one statement, where there may be any number."""

LONG_PAGE = 10_000
"""The same for rows of a few short columns."""

LINES = 200
"""The most lines that are written in one transaction, where there may be any number."""

BLOCKS = 20
"""The most blocks of the tree over the history that are hashed in one go: some 50 ms."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

Row = Mapping[str, Any]
"""A row, by column."""

AnyRow = TypeVar("AnyRow", bound="Row | tuple[Any, ...]")

SERVER_TIME = "cast(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)"
"""The server's time, which is the same for all members."""

MOST_LETTERS = 5
"""The most letters of a text of which either case is looked for."""

_NAME = re.compile(r"(\bIN )?:(\w+)")


class UnreadableError(LedgerError):
    """The state has a value that no version of this program writes; it may be a secret, and is not shown."""

    def __init__(self, value: object) -> None:
        super().__init__(
            f"the state has a value that this program does not write (of the type {type(value).__name__}): it was"
            " changed by hand; `reconcile history --verify` says whether the history was; restore a backup of the state"
        )


def microseconds(moment: datetime) -> int:
    """Write a time as a column has it."""
    return (moment - EPOCH) // MICROSECOND


@overload
def moment(microseconds: int) -> datetime: ...


@overload
def moment(microseconds: None) -> None: ...


def moment(microseconds: int | None) -> datetime | None:
    """Read a time in UTC from a column. Raises UnreadableError."""
    try:
        return None if microseconds is None else EPOCH + microseconds * MICROSECOND
    except (TypeError, OverflowError):
        raise UnreadableError(microseconds) from None


def lowered(text: str) -> set[str]:
    """Return what the databases' `lower` may make of a text that is written in any case: they change only ASCII.

    Of a text with many other letters these are not all, but the likely ones.
    """
    if text.isascii():
        return {text.lower()}
    letters = [each for each in text if not each.isascii() and each.lower() != each.upper()]
    if len(letters) > MOST_LETTERS:
        return {_ascii_lowered(each) for each in (text, text.lower(), text.upper(), text.title())}
    cases = ({each.lower()} if each.isascii() else {each, each.lower(), each.upper()} for each in text)
    return {"".join(spelling) for spelling in product(*cases)}


def in_batches(names: Iterable[str]) -> Iterator[list[str]]:
    """Cut names into as many as one statement takes, in their order."""
    ordered = sorted(names)
    return (ordered[start : start + MANY] for start in range(0, len(ordered), MANY))


def in_pages(read: Callable[..., list[AnyRow]], size: int = PAGE, **key: object) -> Iterator[list[AnyRow]]:
    """Read rows in the order of a key, a page at a time, so that no statement stays open while they are used.

    The statement takes the rows after this key, `:size` at most, and selects the key's columns first.
    """
    while True:
        rows = read(size=size, **key)
        yield rows
        if len(rows) < size:
            return
        last = rows[-1]
        key = dict(zip(key, last.values() if isinstance(last, Mapping) else last, strict=False))


def after(prefix: str) -> str:
    """Return the first text after all that begin with a prefix, as the databases sort: an index finds those between."""
    return f"{prefix[:-1]}{chr(ord(prefix[-1]) + 1)}"


def among(values: dict[str, object], **wanted: Collection[str]) -> Iterator[str]:
    """Make a condition for each column with values to choose from; add the values."""
    for column, several in wanted.items():
        if several:
            values[column] = sorted(several)
            yield f"{column} IN :{column}"


def where_of(conditions: Collection[str]) -> str:
    """Join the conditions of a statement with AND."""
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def _ascii_lowered(text: str) -> str:
    return "".join(each.lower() if each.isascii() else each for each in text)


def without_nul(text: str) -> str:
    """Replace NUL, which only others send and PostgreSQL cannot store, by its symbol."""
    return text.replace("\0", "\N{SYMBOL FOR NULL}")


class _Driver(Protocol):
    """A connection of `sqlite3` or `psycopg`."""

    def execute(self, text: Any, values: Any, /) -> Any:
        """Execute a statement and return its cursor."""


class Reading:
    """A connection for reading.

    A statement names its values, as in `:hire`; a list follows IN, as in `hire IN :hires`. To PostgreSQL a list is one
    value: a statement has at most 65,535 of them.
    """

    def __init__(self, driver: _Driver, *, postgres: bool = False) -> None:
        self._driver = driver
        self._postgres = postgres

    def rows(self, text: str, /, **values: object) -> Iterator[Row]:
        """Read the rows of a statement."""
        cursor = self._executed(text, values)
        columns = [column[0] for column in cursor.description or ()]
        return (dict(zip(columns, row, strict=True)) for row in cursor)

    def cells(self, text: str, /, **values: object) -> list[tuple[Any, ...]]:
        """Read the rows of a statement by place, where there may be very many."""
        return list(self._executed(text, values))

    def column(self, text: str, /, **values: object) -> list[Any]:
        """Read the only column of a statement that may have very many rows."""
        return list(chain.from_iterable(self._executed(text, values)))

    def _executed(self, text: str, values: Mapping[str, object]) -> Any:
        bound: list[Any] = []  # by place: SQLite compares each name with every other

        def mark(match: re.Match[str]) -> str:
            value = values[match[2]]
            if not match[1]:
                bound.append(self._value(value))
                return "%s" if self._postgres else "?"
            assert isinstance(value, list | tuple)
            several = list(map(self._value, value))
            if self._postgres:
                bound.append(several)
                return "= ANY(%s)"
            bound.extend(several)
            return f"IN ({', '.join('?' * len(several)) or 'NULL'})"

        return self._driver.execute(self._spelt(_NAME.sub(mark, text)), bound)

    def value(self, text: str, /, **values: object) -> Any:
        """Read the only column of the first row; None if there is no row."""
        return next(iter(self.column(text, **values)), None)

    def has(self, table: str) -> bool:
        """Whether there is a table of this name."""
        query = "SELECT to_regclass(:table)" if self._postgres else "SELECT name FROM sqlite_master WHERE name = :table"
        return self.value(query, table=table) is not None

    def _spelt(self, text: str) -> str:
        """Adapt a statement to the database: SQLite locks no rows, and uses a partial index only with the same text."""
        return text if self._postgres else text.replace(" FOR KEY SHARE", "").replace(" IS TRUE", " IS 1")

    def _value(self, value: object) -> object:
        if isinstance(value, datetime):
            return microseconds(value)
        if isinstance(value, str):  # also a member of an enumeration
            text = str(value).encode(errors="backslashreplace").decode()  # no database takes half a surrogate pair
            return without_nul(text) if self._postgres else text
        return value


def version_of(reading: Reading) -> str | None:
    """The version that the state has; None where its tables were never made. Raises LedgerError for a newer one."""
    if not reading.has(VERSION):
        return None
    version: str | None = reading.value("SELECT version_num FROM alembic_version")
    if version is not None and version > HEAD:
        raise LedgerError(
            f"the state was written by a newer version of this program: its schema is {version}, and this one's is "
            f"{HEAD}. Upgrade the program, or go back to the copy that was kept before it was brought up to date"
        )
    return version


class Backend(Protocol):
    """A database that is open for reading. Its errors are LedgerErrors."""

    @property
    def remote(self) -> bool:
        """Whether calls go over the network."""

    @property
    def unattended(self) -> bool:
        """Whether no process had the state when it was opened."""

    def reading(self) -> AbstractContextManager[Reading]:
        """Open a connection for reading, to be used only within the block."""

    def snapshot(self) -> AbstractContextManager[Reading]:
        """Open a connection for reading on which the state is the same to the end of the block, whoever writes."""


class EmptyBackend:
    """The database where there is no state yet: every statement is without rows, and no table is made for that."""

    remote = False
    description = ()

    def __init__(self, *, unattended: bool = True) -> None:
        self.unattended = unattended

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        """Give a connection that finds nothing."""
        yield Reading(self)

    snapshot = reading

    def execute(self, _text: Any, _values: Any, /) -> EmptyBackend:
        """Be the cursor of a statement, too."""
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(())


class LedgerPart:
    """A part of a state's ledger, named for what it reads; each reading is a statement of its own."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def _rows(self, text: str, /, **values: object) -> list[Row]:
        with self._backend.reading() as reading:
            return list(reading.rows(text, **values))

    def _cells(self, text: str, /, **values: object) -> list[tuple[Any, ...]]:
        with self._backend.reading() as reading:
            return reading.cells(text, **values)

    def _column(self, text: str, /, **values: object) -> list[Any]:
        with self._backend.reading() as reading:
            return reading.column(text, **values)

    def _value(self, text: str, /, **values: object) -> Any:
        with self._backend.reading() as reading:
            return reading.value(text, **values)

    def _note(self, name: str) -> bytes | None:
        """Read a note, which the program makes for itself."""
        found = self._value("SELECT value FROM meta WHERE name = :name", name=name)
        return None if found is None else bytes(found)
