"""Alembic's entry: runs the revisions on the connection that `store.migrate` opened."""

from alembic import context

from app.store.schema import metadata

connection = context.config.attributes["connection"]
# One transaction for all of it, on SQLite too: a start that dies half-way leaves the old schema, not half of the new.
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
context.run_migrations()
