"""What is read of wallets and their ledger. Lists go by index and cursor, never by offset."""

import re
from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec
from msgspec.structs import replace
from sqlalchemy import Select, and_, literal_column, or_, select

from app.rules.pricing import Rate
from app.rules.wallet import QUIET_KINDS, Entry, Hold, Member, State, Taken, Wallet
from app.store import schema
from app.store.batch import states
from app.store.db import Database
from app.store.ids import now_ms
from app.store.statements import (
    WALLET_COLUMNS,
    NamedRead,
    WalletsRead,
    encode_document,
    ledger_statements,
    wallet_of,
)

_PLACEHOLDER: Final = re.compile(r"\?(\d+)")


class EntryFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries: by kind, event, and time in milliseconds since 1970 (`since` included, `until` not).

    Without a kind, those of `QUIET_KINDS` are there only where they are asked for by `quiet`.
    """

    kind: str | None = None
    quiet: bool = False
    event: str | None = None
    since: int | None = None
    until: int | None = None


async def wallet(db: Database, customer_id: str) -> Wallet | None:
    """A wallet as last committed, None for a customer never seen."""
    row = await db.fetch_one(schema.wallets.select().where(schema.wallets.c.customer_id == customer_id))
    return _wallet(row) if row else None


async def state(db: Database, customer_id: str, *, member: str | None = None) -> tuple[State, int] | None:
    """A wallet with its grants that are not used up, as of one commit, as `rules.ledger` takes it; and when that was.

    The time is the one by which the wallet was found due, in milliseconds since 1970: a database server's own.

    Args:
        db: where to read.
        customer_id: whose.
        member: somebody inside of it, whose limit counts too.

    """
    sql = ledger_statements(db.dialect).read_wallets
    values = {"p1": encode_document([customer_id]).decode(), "p2": now_ms() if db.dialect.is_sqlite else None}
    [row] = await db.fetch_all(_PLACEHOLDER.sub(r":p\1", sql), values)
    read = msgspec.json.decode(row[0], type=WalletsRead)
    found = states(read, NamedRead([], [], [])).get(customer_id)
    if found is None:
        return None
    known = None if member is None else await read_member(db, customer_id, member)
    return (replace(found, members={known.member: known}) if known else found), read.now


async def taken_version(db: Database, customer_id: str, grant_id: str) -> int:
    """The version of the last entry that took a bought grant back, or gave of it; 0 where none did."""
    table = schema.grants
    query = select(table.c.taken).where(table.c.customer_id == customer_id, table.c.id == grant_id)
    row = await db.fetch_one(query)
    return 0 if row is None or row.taken is None else msgspec.json.decode(row.taken, type=Taken).version


async def read_member(db: Database, customer_id: str, member: str) -> Member | None:
    """Somebody inside a wallet, None who was never seen."""
    table = schema.members
    row = await db.fetch_one(table.select().where(table.c.customer_id == customer_id, table.c.member == member))
    return _member(row) if row else None


async def members(db: Database, customer_id: str, *, limit: int, after: str | None) -> tuple[list[Member], str | None]:
    """A page of a wallet's members by name, and the name to go on after, None on the last page."""
    table = schema.members
    query = table.select().where(table.c.customer_id == customer_id).order_by(table.c.member).limit(limit + 1)
    if after is not None:
        query = query.where(table.c.member > after)
    found = [_member(row) for row in await db.fetch_all(query)]
    return found[:limit], found[limit - 1].member if len(found) > limit else None


async def hold(db: Database, hold_id: str) -> tuple[str, Hold] | None:
    """A hold by its id, with the customer whose wallet it is in."""
    row = await db.fetch_one(schema.holds.select().where(schema.holds.c.id == hold_id))
    return (row.customer_id, _hold(row)) if row else None


async def holds(
    db: Database, customer_id: str, *, status: str | None, limit: int, before: str | None
) -> tuple[list[Hold], str | None]:
    """A page of a wallet's holds, newest first, and the id to go on before, None on the last page."""
    table = schema.holds
    query = table.select().where(table.c.customer_id == customer_id).order_by(table.c.id.desc()).limit(limit + 1)
    if status is not None:
        query = query.where(table.c.status == status)
    if before is not None:
        query = query.where(table.c.id < before)
    found = [_hold(row) for row in await db.fetch_all(query)]
    return found[:limit], found[limit - 1].id if len(found) > limit else None


async def versions(db: Database, customer_ids: Sequence[str]) -> list[tuple[str, int]]:
    """The versions that wallets are at; of those that are there."""
    table = schema.wallets
    query = select(table.c.customer_id, table.c.version).where(table.c.customer_id.in_(customer_ids))
    return [(row.customer_id, row.version) for row in await db.fetch_all(query)]


async def due_wallets(db: Database, limit: int) -> list[str]:
    """Customers whose wallets time has changed, or may have, by now; the longest due first."""
    table = schema.wallets
    clock = db.dialect.clock()
    now: Any = now_ms() if clock is None else literal_column(clock)
    query = select(table.c.customer_id).where(table.c.due_at <= now).order_by(table.c.due_at).limit(limit)
    return [row.customer_id for row in await db.fetch_all(query)]


WalletState = Literal["low", "in_debt", "empty", "frozen"]


async def wallets(
    db: Database, *, query: str | None, state: WalletState | None, limit: int, after: str | None
) -> tuple[list[Wallet], str | None]:
    """A page of wallets by customer id, and the id to go on after, None on the last page.

    Args:
        db: where to read.
        query: part of a customer id or name.
        state: only those that are so: `low` is below their own threshold, `in_debt` below zero, `empty` at zero.
        limit: rows at most.
        after: the last customer id of the page before.

    """
    table = schema.wallets
    chosen = select(table).order_by(table.c.customer_id).limit(limit + 1)
    if query:
        chosen = chosen.where(or_(_contains(table.c.customer_id, query), _contains(table.c.name, query)))
    if state == "in_debt":
        chosen = chosen.where(table.c.balance < 0)
    elif state == "empty":
        chosen = chosen.where(table.c.balance == 0)
    elif state == "frozen":
        chosen = chosen.where(table.c.frozen == 1)
    elif state == "low":
        # Which has those alone; SQLite keeps no count of them, and would walk through all wallets.
        chosen = chosen.with_hint(table, "INDEXED BY wallets_with_threshold", "sqlite")
        chosen = chosen.where(table.c.low_balance_threshold.is_not(None))
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
    if wanted.kind is not None:
        query = query.where(table.c.kind == wanted.kind)
    elif not wanted.quiet:
        query = query.where(table.c.kind.not_in(QUIET_KINDS))
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


async def entry_with_key(db: Database, customer_id: str, key: str) -> Entry | None:
    """The entry that a wallet's idempotency key led to, None where it led to none."""
    row = await db.fetch_one(_entries_of(customer_id).where(schema.entries.c.idempotency_key == key))
    return _entry(row) if row else None


def _entries_of(customer_id: str) -> Select[Any]:
    return select(schema.entries).where(schema.entries.c.customer_id == customer_id)


def _contains(column: Any, text: str) -> Any:
    # The pattern is bound whole: `databases` takes a literal % in a statement for a placeholder of its own.
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return column.ilike(f"%{escaped}%", escape="\\")


def _wallet(row: Any) -> Wallet:
    return wallet_of([getattr(row, name) for name in WALLET_COLUMNS])


def _member(row: Any) -> Member:
    return Member(**{name: getattr(row, name) for name in Member.__struct_fields__})


def _hold(row: Any) -> Hold:
    columns = {name: getattr(row, name) for name in Hold.__struct_fields__}
    if row.metadata is not None:
        columns["metadata"] = msgspec.json.decode(row.metadata)
    if row.rate is not None:
        columns["rate"] = msgspec.json.decode(row.rate, type=Rate)
    return Hold(**columns)


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
