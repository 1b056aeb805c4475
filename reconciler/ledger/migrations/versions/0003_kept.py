"""An entry with `keep` is reported and never revoked on its own, also once its file is gone."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column."""
    op.add_column("grants", sa.Column("keep", sa.Boolean, nullable=False, server_default=sa.false()))
