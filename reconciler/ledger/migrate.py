"""The version of a state's tables, and bringing it up to date.

A new state is made with the newest tables, and no migration runs. Each migration is history: it writes out the tables
and columns as they were then, and uses nothing of today's code.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.ledger.reading import Reading
from reconciler.model.errors import LedgerError

if TYPE_CHECKING:
    import sqlalchemy as sa

__all__ = ["HEAD", "upgrade", "version_of"]

HEAD = "0009"
"""The newest migration. A ledger that has it needs no alembic, which takes a quarter of a second to import."""

_VERSION = "alembic_version"
"""The table with the version, as alembic names it."""


def version_of(reading: Reading) -> str | None:
    """The version that the state has; None where its tables were never made. Raises LedgerError for a newer one."""
    if not reading.has(_VERSION):
        return None
    version: str | None = reading.value("SELECT version_num FROM alembic_version")
    if version is not None and version > HEAD:
        raise LedgerError(
            f"the state was written by a newer version of this program: its schema is {version}, and this one's is "
            f"{HEAD}. Upgrade the program, or go back to the copy that was kept before it was brought up to date"
        )
    return version


def upgrade(connection: sa.Connection) -> None:
    """Make the tables, or bring them up to date, in this connection's transaction."""
    import sqlalchemy as sa

    if sa.inspect(connection).has_table(_VERSION):
        _migrate(connection)
    else:
        _make(connection)


def _make(connection: sa.Connection) -> None:
    """Make a state without lines. Whoever appends to the history locks the note of where it ends, so it is there."""
    import sqlalchemy as sa

    from reconciler.ledger.chain import END, Link
    from reconciler.ledger.schema import meta, metadata

    metadata.create_all(connection)
    connection.execute(sa.insert(meta).values(name=END, value=Link().as_note()))
    version = sa.Table(_VERSION, sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True))
    version.create(connection)
    connection.execute(sa.insert(version).values(version_num=HEAD))


def _migrate(connection: sa.Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
