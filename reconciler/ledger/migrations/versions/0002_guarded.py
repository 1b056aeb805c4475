"""What the guard holds is looked up before every pass, and is seldom there: found by an index, not by a walk."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the index."""
    op.create_index("grants_guarded", "grants", ["integration"], sqlite_where=sa.text("guarded IS 1"))
