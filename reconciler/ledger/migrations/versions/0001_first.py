"""The first schema."""

from alembic import op

from reconciler.ledger.schema import metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table; a later migration writes out what it changes."""
    metadata.create_all(op.get_bind())
