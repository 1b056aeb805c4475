"""An account that is there may differ from what git wants; an attempt is of a kind, revocations among them."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the columns, and take the kind from what said so before.

    What was confirmed was as wanted as far as the check could see, and stays so.
    """
    op.add_column("grants", sa.Column("kind", sa.Text, nullable=False, server_default="execute"))
    op.add_column("grants", sa.Column("as_wanted_at", sa.BigInteger))
    op.add_column("grants", sa.Column("updated_at", sa.BigInteger))
    for name in ("wants", "differs", "accepted"):
        op.add_column("grants", sa.Column(name, sa.JSON, nullable=False, server_default="{}"))
    op.add_column("grants", sa.Column("invitations", sa.Integer, nullable=False, server_default="0"))
    op.execute("UPDATE grants SET kind = 'revoke' WHERE revoking")
    op.execute("UPDATE grants SET kind = 'run' WHERE by_hand AND NOT revoking")
    op.drop_column("grants", "revoking")
