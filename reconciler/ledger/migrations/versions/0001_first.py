"""The first schema."""

import sqlalchemy as sa
from alembic import op

from reconciler.ledger.chain import END, Link
from reconciler.ledger.schema import meta, metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table; a later migration writes out what it changes.

    Where the history ends is noted from the start: who appends to it locks that row.
    """
    metadata.create_all(op.get_bind())
    op.execute(sa.insert(meta).values(name=END, value=Link().as_note()))
