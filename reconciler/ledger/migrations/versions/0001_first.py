"""The first schema: the base that later migrations start from.

A new state gets the newest tables at once (`reconciler.ledger.migrate`), so nothing runs this. A state that has these
tables is in tests/ledger/schemas.
"""

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Leave the state as it is."""
