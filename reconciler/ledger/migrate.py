"""The version of a state's tables, and bringing it up to date."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.ledger.reading import Reading
from reconciler.model.errors import LedgerError

if TYPE_CHECKING:
    import sqlalchemy as sa

__all__ = ["HEAD", "refuse_newer", "upgrade", "version_of"]

HEAD = "0008"
"""The newest migration. A ledger that has it needs no alembic, which takes a quarter of a second to import."""


def version_of(reading: Reading) -> str | None:
    """The version that the state has; None where its tables were never made. Raises LedgerError for a newer one."""
    if not reading.has("alembic_version"):
        return None
    version: str | None = reading.value("SELECT version_num FROM alembic_version")
    refuse_newer(version)
    return version


def refuse_newer(version: str | None) -> None:
    """Raise LedgerError where a state's schema is newer than this program's."""
    if version is not None and version > HEAD:
        raise LedgerError(
            f"the state was written by a newer version of this program: its schema is {version}, and this one's is "
            f"{HEAD}. Upgrade the program, or go back to the copy that was kept before it was brought up to date"
        )


def upgrade(connection: sa.Connection) -> None:
    """Bring the tables up to date, in this connection's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
