"""What an idempotency key was used for."""

from sqlalchemy import select

from app.rules.wallet import Entry
from app.store import reads, schema
from app.store.db import Database


async def entry_with_key(db: Database, customer_id: str, key: str) -> Entry | None:
    """The entry that a wallet's key led to; None where it led to none.

    Raises:
        Unavailable: the database failed.

    """
    table = schema.entries
    query = select(table.c.id).where(table.c.customer_id == customer_id, table.c.idempotency_key == key)
    found = await db.fetch_one(query)
    return await reads.entry(db, found.id) if found else None
