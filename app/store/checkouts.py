"""Checkouts: what somebody is about to buy. The row commits before Stripe is called."""

from typing import Any, Literal

import msgspec

from app.errors import IdempotencyConflict, TransactionFailed
from app.store import schema
from app.store.db import Database, Script
from app.store.statements import encode_document, ledger_statements

Status = Literal["open", "processing", "paid", "expired", "failed"]


class Checkout(msgspec.Struct, frozen=True, kw_only=True):
    """One purchase of a pack: `amount` in minor units of `currency`, times in milliseconds since 1970."""

    id: str
    customer_id: str
    pack: str
    description: str
    credits: int
    amount: int
    currency: str
    status: Status
    session_id: str | None = None
    url: str | None = None
    created_at: int
    expires_at: int
    idempotency_key: str | None = None
    request_hash: str | None = None


_COLUMNS = Checkout.__struct_fields__
_INSERT = f"INSERT INTO checkouts ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"


_BY_KEY = f"SELECT {', '.join(_COLUMNS)} FROM checkouts WHERE customer_id = ? AND idempotency_key = ?"
_OPENED = "UPDATE checkouts SET session_id = ?, url = ?, expires_at = ? WHERE id = ? AND session_id IS NULL"
_BY_ID = f"SELECT {', '.join(_COLUMNS)} FROM checkouts WHERE id = ?"
_ENTRY_BY_KEY = "SELECT 1 FROM entries WHERE customer_id = ? AND idempotency_key = ?"


async def create(db: Database, checkout: Checkout) -> Checkout:
    """Keeps a new checkout; the same key with the same request gives the first one back.

    Raises:
        IdempotencyConflict: the key came with another request before.

    """
    sql = ledger_statements(db.dialect)
    customers = encode_document([checkout.customer_id]).decode()

    def script() -> Script[Checkout]:
        if checkout.idempotency_key is None:
            yield _INSERT, msgspec.structs.astuple(checkout)
            return checkout
        # An event of another process with the same key is found, or waits and finds this. A customer without a wallet
        # has nothing to lock, so an empty one is made, as the ledger does it, and taken away again.
        if not db.dialect.is_sqlite:
            yield sql.make_wallets, (customers,)
            yield sql.lock_wallets, (customers, "")
        first = yield from _first_with_key(checkout)
        if first is None:
            yield _INSERT, msgspec.structs.astuple(checkout)
        if not db.dialect.is_sqlite:
            yield sql.unlock_unopened, (customers,)
        return first or checkout

    try:
        return await db.transact(script)
    except TransactionFailed as error:
        if not error.rows_refused or checkout.idempotency_key is None:
            raise
        return await db.transact(script)  # another process had the key first, and what it wrote is found now


def _first_with_key(checkout: Checkout) -> Script[Checkout | None]:
    rows = yield _BY_KEY, (checkout.customer_id, checkout.idempotency_key)
    if rows:
        return _same_request(Checkout(**dict(zip(_COLUMNS, rows[0], strict=True))), checkout.request_hash)
    if (yield _ENTRY_BY_KEY, (checkout.customer_id, checkout.idempotency_key)):
        raise IdempotencyConflict
    return None


async def find_by_key(db: Database, customer_id: str, key: str, request_hash: str | None) -> Checkout | None:
    """The checkout that a key made before.

    Raises:
        IdempotencyConflict: by another request.

    """
    table = schema.checkouts
    query = table.select().where(table.c.customer_id == customer_id, table.c.idempotency_key == key)
    row = await db.fetch_one(query)
    return _same_request(Checkout(**{name: getattr(row, name) for name in _COLUMNS}), request_hash) if row else None


def _same_request(first: Checkout, request_hash: str | None) -> Checkout:
    if first.request_hash != request_hash:
        raise IdempotencyConflict
    return first


async def opened(db: Database, checkout_id: str, session_id: str, url: str, expires_at: int) -> Checkout:
    """Keeps what Stripe answered: its session and the page where it is paid. The first to be kept stays."""

    def script() -> Script[list[Any]]:
        yield _OPENED, (session_id, url, expires_at, checkout_id)
        return (yield _BY_ID, (checkout_id,))

    [row] = await db.transact(script)
    return Checkout(**dict(zip(_COLUMNS, row, strict=True)))


async def move(db: Database, checkout_id: str, status: Literal["processing", "expired", "failed"]) -> None:
    """Moves a checkout that is not paid yet; a paid one stays paid, whatever is reported late."""

    def script() -> Script[None]:
        yield (
            "UPDATE checkouts SET status = ? WHERE id = ? AND status IN ('open', 'processing') AND status <> ?",
            (status, checkout_id, status),
        )

    await db.transact(script)


async def find(db: Database, checkout_id: str) -> Checkout | None:
    """A checkout by its id."""
    row = await db.fetch_one(schema.checkouts.select().where(schema.checkouts.c.id == checkout_id))
    return Checkout(**{name: getattr(row, name) for name in _COLUMNS}) if row else None
