"""What is read of wallets and their ledger. Lists go by index and cursor, never by offset."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Select, and_, or_, select

from app.rules.ledger import Entry, Grant, Wallet, burn_down_order
from app.store import schema
from app.store.db import Database

QUIET_KINDS = ("settings",)
"""Kinds that move no credits: listed only when they are asked for."""


class EntryFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries: by kind, event, and time in milliseconds since 1970 (`since` included, `until` not)."""

    kind: str | None = None
    event: str | None = None
    since: int | None = None
    until: int | None = None


async def wallet(db: Database, customer_id: str) -> Wallet | None:
    """A wallet as last committed, None for a customer never seen."""
    row = await db.fetch_one(schema.wallets.select().where(schema.wallets.c.customer_id == customer_id))
    return _wallet(row) if row else None


async def wallet_and_grants(db: Database, customer_id: str) -> tuple[Wallet, list[Grant]] | None:
    """A wallet and its grants that are not used up, in burn-down order, both as of one commit."""
    wallets, grants = schema.wallets, schema.grants
    live = and_(grants.c.customer_id == wallets.c.customer_id, grants.c.remaining > 0)
    names = Grant.__struct_fields__
    columns = [grants.c[name].label(f"grant_{name}") for name in names]
    query = select(wallets, *columns).outerjoin(grants, live).where(wallets.c.customer_id == customer_id)
    rows = await db.fetch_all(query)
    if not rows:
        return None
    found = [Grant(**{name: getattr(row, f"grant_{name}") for name in names}) for row in rows if row.grant_id]
    return _wallet(rows[0]), sorted(found, key=burn_down_order)


async def wallets(
    db: Database, *, query: str | None, low: bool, limit: int, after: str | None
) -> tuple[list[Wallet], str | None]:
    """A page of wallets by customer id, and the id to go on after, None on the last page.

    Args:
        db: where to read.
        query: part of a customer id or name.
        low: only those below their own threshold.
        limit: rows at most.
        after: the last customer id of the page before.

    """
    table = schema.wallets
    chosen = select(table).order_by(table.c.customer_id).limit(limit + 1)
    if query:
        chosen = chosen.where(or_(_contains(table.c.customer_id, query), _contains(table.c.name, query)))
    if low:
        chosen = chosen.where(table.c.balance < table.c.low_balance_threshold)
    if after is not None:
        chosen = chosen.where(table.c.customer_id > after)
    found = [_wallet(row) for row in await db.fetch_all(chosen)]
    return found[:limit], found[limit - 1].customer_id if len(found) > limit else None


async def entries(
    db: Database, customer_id: str, wanted: EntryFilter, *, limit: int, before: int | None
) -> tuple[list[Entry], int | None]:
    """A page of a wallet's ledger, newest first, and the version to go on before, None on the last page."""
    table = schema.entries
    query = _entries_of(customer_id).order_by(table.c.version.desc()).limit(limit + 1)
    query = query.where(table.c.kind == wanted.kind if wanted.kind else table.c.kind.not_in(QUIET_KINDS))
    if wanted.event is not None:
        query = query.where(table.c.event == wanted.event)
    if wanted.since is not None:
        query = query.where(table.c.created_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(table.c.created_at < wanted.until)
    if before is not None:
        query = query.where(table.c.version < before)
    found = [_entry(row) for row in await db.fetch_all(query)]
    return found[:limit], found[limit - 1].version if len(found) > limit else None


async def moves_since(db: Database, customer_id: str, version: int, limit: int) -> tuple[list[Entry], bool]:
    """The newest entries that moved credits after a version, oldest first, and whether there were more than `limit`."""
    table = schema.entries
    moved = and_(table.c.version > version, table.c.kind.not_in(QUIET_KINDS))
    query = _entries_of(customer_id).where(moved).order_by(table.c.version.desc()).limit(limit + 1)
    found = [_entry(row) for row in await db.fetch_all(query)]
    return found[:limit][::-1], len(found) > limit


async def entry(db: Database, entry_id: str) -> Entry | None:
    """An entry by its id."""
    row = await db.fetch_one(schema.entries.select().where(schema.entries.c.id == entry_id))
    return _entry(row) if row else None


def _entries_of(customer_id: str) -> Select[Any]:
    return select(schema.entries).where(schema.entries.c.customer_id == customer_id)


def _contains(column: Any, text: str) -> Any:
    # The pattern is bound whole: `databases` takes a literal % in a statement for a placeholder of its own.
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return column.ilike(f"%{escaped}%", escape="\\")


def _wallet(row: Any) -> Wallet:
    columns = {name: getattr(row, name) for name in Wallet.__struct_fields__}
    return Wallet(**columns | {"frozen": bool(row.frozen)})


_DOCUMENTS = {"draws": tuple[tuple[str, int], ...], "metadata": dict[str, Any], "detail": dict[str, Any]}


def _entry(row: Any) -> Entry:
    columns = {name: getattr(row, name) for name in Entry.__struct_fields__}
    for name, kind in _DOCUMENTS.items():
        if columns[name] is not None:
            columns[name] = msgspec.json.decode(columns[name], type=kind)
    return Entry(**columns)


def moved_credits(found: Sequence[Entry]) -> list[Entry]:
    """Those of some entries that a live page shows."""
    return [one for one in found if one.kind not in QUIET_KINDS]
