"""What a database knows of itself: its epoch and the secret that signs widget tokens."""

import msgspec

from app.store import schema
from app.store.db import Database


class Instance(msgspec.Struct, frozen=True):
    """One row. `epoch` changes only when the database is restored or replaced, so that browsers start afresh."""

    epoch: str
    token_secret: str


async def read_instance(db: Database) -> Instance:
    """The database's own row, made with it."""
    row = await db.fetch_one(schema.instance.select())
    if row is None:
        raise LookupError("table instance is empty")
    return Instance(row.epoch, row.token_secret)
