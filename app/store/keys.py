"""API keys: shown once, kept as SHA-256, revocable."""

import hashlib
import secrets
from typing import Any, Literal

import msgspec

from app.errors import NotFound
from app.store import schema
from app.store.db import Database, Script
from app.store.ids import new_id, now_ms

Scope = Literal["meter", "prices", "admin"]


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it is kept: times in milliseconds since 1970."""

    id: str
    name: str
    scope: Scope
    created_at: int
    revoked_at: int | None = None


def key_hash(secret: str) -> str:
    """What is stored of a key: its SHA-256. The key has 160 bits of chance, so it needs no salt."""
    return hashlib.sha256(secret.encode()).hexdigest()


async def create_key(db: Database, name: str, scope: Scope) -> tuple[ApiKey, str]:
    """Makes a key and returns it with its secret, which nobody can read again."""
    secret = f"sk_{scope}_{secrets.token_hex(20)}"
    key = ApiKey(id=new_id("key", name), name=name, scope=scope, created_at=now_ms())

    def script() -> Script[None]:
        yield (
            "INSERT INTO api_keys (id, name, scope, hash, created_at) VALUES (?, ?, ?, ?, ?)",
            (key.id, key.name, key.scope, key_hash(secret), key.created_at),
        )

    await db.transact(script)
    return key, secret


async def list_keys(db: Database) -> list[ApiKey]:
    """Every key, oldest first."""
    return [_key(row) for row in await db.fetch_all(schema.api_keys.select().order_by(schema.api_keys.c.id))]


async def find_key(db: Database, hashed: str) -> ApiKey | None:
    """The key with that hash, revoked or not."""
    row = await db.fetch_one(schema.api_keys.select().where(schema.api_keys.c.hash == hashed))
    return _key(row) if row else None


async def revoke_key(db: Database, id_or_name: str) -> list[ApiKey]:
    """Revokes the key with that id, or every key of that name; servers feel it within seconds.

    Raises:
        NotFound: no open key has it.

    """

    def script() -> Script[list[Any]]:
        return (
            yield (
                "UPDATE api_keys SET revoked_at = ? WHERE revoked_at IS NULL AND (id = ? OR name = ?) RETURNING id",
                (now_ms(), id_or_name, id_or_name),
            )
        )

    ids = {id for (id,) in await db.transact(script)}
    if not ids:
        raise NotFound(f"No open key has the id or name {id_or_name!r}.")
    return [key for key in await list_keys(db) if key.id in ids]


def _key(row: Any) -> ApiKey:
    return ApiKey(id=row.id, name=row.name, scope=row.scope, created_at=row.created_at, revoked_at=row.revoked_at)
