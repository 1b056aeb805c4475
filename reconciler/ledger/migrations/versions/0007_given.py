"""Who gave each grant; what is in git is found out by the next pass."""

import sqlalchemy as sa
from alembic import op

from reconciler.ledger.schema import given

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the table; a new state has it already."""
    if "given" not in sa.inspect(op.get_bind()).get_table_names():
        given.create(op.get_bind())
