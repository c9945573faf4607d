"""API keys: shown once, kept as SHA-256, revocable."""

import hashlib
import secrets
from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec
from msgspec.structs import replace

from app.errors import InvalidRequest, NotFound
from app.rules.times import rfc3339
from app.store import schema
from app.store.db import Database, Script
from app.store.ids import new_id, now_ms

Scope = Literal["meter", "prices", "admin"]

NAME_CHARACTERS_MAX: Final = 255
ACTORS: Final = ("CHARGLY_API_KEY", "stripe")
"""Whom the ledger names where no key of its own acts: the key given from outside, and what Stripe reports."""
_OPEN_KEYS: Final = (
    "SELECT id, name, scope, created_at FROM api_keys WHERE revoked_at IS NULL AND (id = ? OR name = ?) ORDER BY id"
)


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


def check_name(name: str) -> None:
    """A key's name stands in the ledger as who acted, so it is one that people can read, and no other actor's.

    Raises:
        InvalidRequest: it is not.

    """
    if not (name.strip() and len(name) <= NAME_CHARACTERS_MAX and name.isprintable()):
        raise InvalidRequest(
            f"name: 1 to {NAME_CHARACTERS_MAX} printable characters, and not spaces alone.", field="name"
        )
    if name.strip() in ACTORS:
        raise InvalidRequest(f"name: {name.strip()!r} is an actor of the ledger's own; take another.", field="name")


async def create_key(db: Database, name: str, scope: Scope) -> tuple[ApiKey, str]:
    """Makes a key and returns it with its secret, which nobody can read again.

    Raises:
        InvalidRequest: its name is none.

    """
    check_name(name)
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


async def page_of_keys(db: Database, *, limit: int, before: str | None) -> tuple[list[ApiKey], str | None]:
    """A page of keys, revoked or not, newest first, and the id to go on before, None on the last page."""
    table = schema.api_keys
    query = table.select().order_by(table.c.id.desc()).limit(limit + 1)
    if before is not None:
        query = query.where(table.c.id < before)
    found = [_key(row) for row in await db.fetch_all(query)]
    return found[:limit], found[limit - 1].id if len(found) > limit else None


async def find_key(db: Database, hashed: str) -> ApiKey | None:
    """The key with that hash, revoked or not."""
    row = await db.fetch_one(schema.api_keys.select().where(schema.api_keys.c.hash == hashed))
    return _key(row) if row else None


async def revoke_key(db: Database, id_or_name: str, *, by_name: bool = True) -> ApiKey:
    """Revokes the key with that id, or the one open key of that name; servers feel it within seconds.

    Args:
        db: where it is.
        id_or_name: its id or name.
        by_name: whether a name will do.

    Raises:
        NotFound: no open key has it.
        InvalidRequest: several open keys have that name, and none has it as its id.

    """
    revoked_at = now_ms()

    def script() -> Script[ApiKey]:
        rows = yield _OPEN_KEYS, (id_or_name, id_or_name)
        found = [ApiKey(id=id, name=name, scope=scope, created_at=at) for id, name, scope, at in rows]
        key = _one_of(found, id_or_name) if by_name else _with_id(found, id_or_name)
        yield "UPDATE api_keys SET revoked_at = ? WHERE id = ?", (revoked_at, key.id)
        return replace(key, revoked_at=revoked_at)

    return await db.transact(script)


def _one_of(found: Sequence[ApiKey], id_or_name: str) -> ApiKey:
    if not found:
        raise NotFound(f"No open key has the id or name {id_or_name!r}.")
    with_id = [key for key in found if key.id == id_or_name]
    if len(found) > 1 and not with_id:
        each = ", ".join(f"{key.id} (made {rfc3339(key.created_at)})" for key in found)
        raise InvalidRequest(
            f"{len(found)} open keys are named {id_or_name!r}; revoke one by its id: {each}.", field="key"
        )
    return [*with_id, *found][0]


def _with_id(found: Sequence[ApiKey], key_id: str) -> ApiKey:
    for key in found:
        if key.id == key_id:
            return key
    raise NotFound("There is no open key of that id.")


def _key(row: Any) -> ApiKey:
    return ApiKey(id=row.id, name=row.name, scope=row.scope, created_at=row.created_at, revoked_at=row.revoked_at)
