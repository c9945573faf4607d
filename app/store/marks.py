"""How far something that goes on in time has come."""

from typing import Final

from sqlalchemy import select

from app.store import schema
from app.store.db import Database, Script

_SET: Final = (
    "INSERT INTO marks (name, at) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET at = excluded.at"
    " WHERE excluded.at > marks.at"
)


async def read_mark(db: Database, name: str) -> int | None:
    """How far something has come, in milliseconds since 1970; None where it never began."""
    table = schema.marks
    row = await db.fetch_one(select(table.c.at).where(table.c.name == name))
    return row.at if row else None


async def set_mark(db: Database, name: str, at: int) -> None:
    """Notes how far something has come; it never goes back."""

    def script() -> Script[None]:
        yield _SET, (name, at)

    await db.transact(script)
