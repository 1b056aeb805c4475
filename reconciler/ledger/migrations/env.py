"""Alembic's entry: runs on the connection that the ledger hands over, in that connection's transaction."""

from alembic import context

from reconciler.ledger.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
