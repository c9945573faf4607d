"""What a database knows of itself: its epoch and the secret that signs widget tokens."""

import msgspec
from sqlalchemy import text

from app.store import schema
from app.store.db import Database


class Instance(msgspec.Struct, frozen=True):
    """One row. `epoch` changes only when the database is restored or replaced, so that browsers start afresh."""

    epoch: str
    token_secret: str


async def read_revision(db: Database) -> str | None:
    """The revision of its schema; None where it has none.

    Raises:
        Unavailable: it does not answer.

    """
    row = await db.fetch_one(text("SELECT version_num FROM alembic_version"))
    return None if row is None else str(row[0])


async def read_instance(db: Database) -> Instance:
    """The database's own row, made with it."""
    row = await db.fetch_one(schema.instance.select())
    if row is None:
        raise LookupError("table instance is empty")
    return Instance(row.epoch, row.token_secret)
