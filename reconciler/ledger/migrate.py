"""The version of a state's tables, and bringing it up to date."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from reconciler.ledger import schema
from reconciler.model.errors import LedgerError

__all__ = ["refuse_newer", "upgrade", "version_of"]


def version_of(connection: sa.Connection) -> str | None:
    """The version that the state has; None where its tables were never made. Raises LedgerError for a newer one."""
    if "alembic_version" not in sa.inspect(connection).get_table_names():
        return None
    version: str | None = connection.execute(sa.text("select version_num from alembic_version")).scalar()
    refuse_newer(version)
    return version


def refuse_newer(version: str | None) -> None:
    """Raise LedgerError where a state's schema is newer than this program's."""
    if version is not None and version > schema.HEAD:
        raise LedgerError(
            f"the state was written by a newer version of this program: its schema is {version}, and this one's is "
            f"{schema.HEAD}. Upgrade the program, or go back to the copy that was kept before it was brought up to date"
        )


def upgrade(connection: sa.Connection) -> None:
    """Bring the tables up to date, in this connection's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
