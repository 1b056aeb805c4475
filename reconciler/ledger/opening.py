"""Open the state that the setting `state` names: for reading, for writing, or locked.

Writing is imported when it is first needed: to import SQLAlchemy takes longer than a command that only reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconciler.ledger.reader import LedgerReader
from reconciler.ledger.sqlite.lock import StateLock
from reconciler.ledger.sqlite.reading import SqliteBackend, back_up
from reconciler.model.errors import LedgerError
from reconciler.model.failpoints import Reached, unwatched
from reconciler.model.value import Frozen

if TYPE_CHECKING:
    import sqlalchemy as sa

    from reconciler.ledger.postgres.membership import Membership
    from reconciler.ledger.postgres.reading import Server
    from reconciler.ledger.writer import LedgerWriter
    from reconciler.repository.git.checkout import Checkout

_SQLITE = "sqlite:///"

REPOSITORY = "repository"
"""The name of the note that has the first commit of the repository that a server's state belongs to."""


def _none() -> None:
    """No password."""


class HeldLedger(Frozen):
    """A state that is open for writing under a lease; on a server, with the member that has the lease."""

    ledger: LedgerWriter
    member: Membership | None = None
    connect: Mapping[str, Any] = {}
    """The arguments of a connection to the server."""


class StateLocation(Frozen):
    """A state by its URL: a SQLite file, relative to the repository's root, or a database of a PostgreSQL server.

    `password` is called only before connecting to a server. A SQLite file lies within its repository. A URL is easily
    copied to the settings of another one, for which all grants of the first would be orphans: a server's state belongs
    to one `repository`, whose first commit is noted in it.
    """

    url: str
    root: Path
    password: Callable[[], str | None] = _none
    repository: Checkout | None = None

    @property
    def file(self) -> Path | None:
        """The SQLite file; None if a server has the state."""
        return self.root / self.url.removeprefix(_SQLITE) if self.url.startswith(_SQLITE) else None

    def exists(self) -> bool:
        """Whether there is a state. Raises LedgerError if that is unknown."""
        if self.file is not None:
            return self.file.exists() and self.file.stat().st_size > 0
        return self._server().version() is not None

    def writer(self, reached: Reached = unwatched, *, migrate: bool = False) -> LedgerWriter:
        """Open the state for writing; create it, private to its owner, if it does not exist.

        A state of an older schema is migrated; one on a server only with `migrate`, which a person confirms after
        making a copy.
        """
        from reconciler.ledger.transaction import Session
        from reconciler.ledger.writer import LedgerWriter

        if self.file is not None:
            from reconciler.ledger.sqlite.writing import WritableSqliteBackend

            return LedgerWriter(Session(WritableSqliteBackend.open(self.file, reached), reached))
        server = self._server()
        from reconciler.ledger.postgres.writing import WritablePostgresBackend

        ledger = LedgerWriter(Session(WritablePostgresBackend.open(server, reached, migrate=migrate), reached))
        if self.repository is not None:
            try:
                _claim(ledger, self.repository)
            except BaseException:
                ledger.close()
                raise
        return ledger

    def make(self, fill: Callable[[sa.Connection], None]) -> None:
        """Create the state and fill it, in one transaction. Raises LedgerError if there is one; so may `fill`."""
        if self.file is not None:
            from reconciler.ledger.sqlite.writing import WritableSqliteBackend

            WritableSqliteBackend.make(self.file, fill)
            return
        server = self._server()
        from reconciler.ledger.postgres.writing import WritablePostgresBackend

        WritablePostgresBackend.make(server, fill)

    def back_up(self, path: Path) -> None:
        """Copy the state as it is now to a private file that is not there yet. Raises LedgerError."""
        if self.file is None:
            raise LedgerError(
                f"{self} is on a server, which has its own way to back up: "
                f"pg_dump --format=custom --schema=reconciler --file={path} {self}"
            )
        back_up(self.file, path)

    @contextmanager
    def reader(self) -> Iterator[LedgerReader]:
        """Open the state for reading, without changing anything, whether it is locked or not."""
        if self.file is not None:
            with SqliteBackend.opened(self.file) as backend:
                yield LedgerReader(backend)
            return
        server = self._server()
        from reconciler.ledger.postgres.reading import PostgresBackend

        with PostgresBackend.opened(server) as backend:
            ledger = LedgerReader(backend)
            if self.repository is not None:
                _refuse_another(ledger, self.repository)
            yield ledger

    @contextmanager
    def locked(self, command: str, now: datetime, reached: Reached = unwatched) -> Iterator[HeldLedger]:
        """Open the state for writing, and have all of it locked while the block runs.

        Raises StateLockedError, naming the process that has locked it: at once, or after waiting for one that may be
        dead.
        """
        if self.file is not None:
            with StateLock(self.file).acquire(command, now, reached), closing(self.writer(reached)) as ledger:
                yield HeldLedger(ledger.take_everything())
            return
        from reconciler.ledger.postgres.membership import everything, member_name

        with (
            closing(self.writer(reached)) as ledger,
            everything(ledger.backend, member_name(command), str(self)) as (member, lease),
        ):
            yield HeldLedger(ledger.under(lease), member)

    @contextmanager
    def shared(self, name: str, lost: Callable[[], None] | None, reached: Reached = unwatched) -> Iterator[HeldLedger]:
        """Open a server's state for writing as a member of this name while the block runs.

        A daemon's `lost` is called from another thread when the member is over. Raises StateLockedError if another
        member has the name.
        """
        from reconciler.ledger.postgres.membership import Membership

        with closing(self.writer(reached)) as ledger:
            member = Membership(ledger.backend, name, lost)
            lease = member.join()
            try:
                yield HeldLedger(ledger.under(lease), member, self._server().arguments())
            finally:
                member.leave()

    def refuse_unserved(self) -> None:
        """Raise LedgerError if this installation cannot open such a state."""
        if self.file is None and find_spec("psycopg") is None:
            raise LedgerError(
                "state: postgresql:// needs the extra `fleet`, which is not installed here: "
                "pip install 'access-reconciler[fleet]'"
            )

    def _server(self) -> Server:
        self.refuse_unserved()
        from reconciler.ledger.postgres.reading import Server

        return Server(self.url, self.password())

    def __str__(self) -> str:
        return self.url if self.file is None else str(self.file)


def _claim(ledger: LedgerWriter, repository: Checkout) -> None:
    """Note the repository in a state without such a note. Raises LedgerError if the state is another repository's."""
    _refuse_another(ledger, repository)
    if ledger.notes.get(REPOSITORY) is None and (first := repository.first_commit()) is not None:
        ledger.notes.put(REPOSITORY, lambda there: there or first.encode())


def _refuse_another(ledger: LedgerReader, repository: Checkout) -> None:
    """Raise LedgerError if the state is another repository's."""
    noted = ledger.notes.get(REPOSITORY)
    if noted is not None and not repository.may_have(noted.decode()):
        raise LedgerError(
            f"the state is another repository's: that one's first commit is {noted.decode()[:12]}, which this checkout "
            "does not have. Each repository has a database of its own: mend `state`. Where the whole history was "
            "rewritten on purpose, docs/how-to/from-one-to-a-fleet.md says how to go on"
        )
