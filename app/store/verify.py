"""Audits what is kept, wallet by wallet, in one snapshot of the database and with little memory."""

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from app.config import LIMITS
from app.rules.audit import AUDITED_COLUMNS, Mismatch, WalletAudit
from app.rules.wallet import Grant, Hold, Member
from app.store.db import Database, Snapshot
from app.store.schema import HOLD_OPEN
from app.store.statements import WALLET_COLUMNS, grant_of, wallet_of

T = TypeVar("T")
_HOLD_COLUMNS: Final = tuple(name for name in Hold.__struct_fields__ if name not in ("metadata", "rate"))


class Progress(msgspec.Struct):
    """How far an audit has come."""

    wallets: int = 0
    entries: int = 0


class Audit:
    """An audit of one wallet or of all.

    Args:
        db: what is audited.
        customer_id: whose wallet; None for everyone's.

    """

    def __init__(self, db: Database, customer_id: str | None = None) -> None:
        self._db = db
        self._customer_id = customer_id
        self.progress = Progress()

    async def mismatches(self) -> AsyncIterator[Mismatch]:
        """The first broken promise of each wallet that has one, as they are found.

        Raises:
            Unavailable: the database failed.

        """
        async with self._db.snapshot() as snapshot:
            wallets = self._rows(snapshot, "wallets", WALLET_COLUMNS)
            grants = self._rows(snapshot, "grants", Grant.__struct_fields__, order="id")
            holds = self._rows(snapshot, "holds", _HOLD_COLUMNS, where=HOLD_OPEN, order="id")
            members = self._rows(snapshot, "members", Member.__struct_fields__, order="member")
            entries = self._rows(snapshot, "entries", AUDITED_COLUMNS, order="version")
            owned = (entries, grants, holds, members)
            async for row in wallets.every():
                wallet = wallet_of(row)
                id = wallet.customer_id
                for rows in owned:
                    if (stray := await rows.stray(id)) is not None:
                        yield stray
                audit = WalletAudit(
                    wallet, await grants.of(id, _grant), await holds.of(id, _hold), await members.of(id, _member)
                )
                self.progress.entries += await entries.feed(id, audit.take)
                self.progress.wallets += 1
                if (found := audit.finish()) is not None:
                    yield found
            for rows in owned:
                if (stray := await rows.stray(None)) is not None:
                    yield stray
            async for found in self._doubled_keys(snapshot):
                yield found
            async for found in self._unlanded(snapshot):
                yield found

    def _rows(
        self, snapshot: Snapshot, table: str, columns: Sequence[str], *, where: str = "", order: str = ""
    ) -> "_Rows":
        conditions = [*([where] if where else []), *(["customer_id = ?"] if self._customer_id is not None else [])]
        names = [name for name in columns if name != "customer_id"]
        sql = (
            f"SELECT customer_id, {', '.join(names)} FROM {table}"
            f"{' WHERE ' + ' AND '.join(conditions) if conditions else ''}"
            f" ORDER BY customer_id{', ' + order if order else ''}"
        )
        parameters = () if self._customer_id is None else (self._customer_id,)
        return _Rows(table, partial(snapshot.stream, sql, parameters, LIMITS.audit_rows_at_once))

    async def _unlanded(self, snapshot: Snapshot) -> AsyncIterator[Mismatch]:
        """Checkouts that say they are paid, and whose credits never came."""
        mine = "" if self._customer_id is None else " AND customer_id = ?"
        took_money = "status IN ('paid', 'partially_refunded', 'refunded', 'disputed')"
        sql = (
            f"SELECT customer_id, id FROM checkouts WHERE {took_money}"
            f"{mine} AND NOT EXISTS (SELECT 1 FROM entries WHERE entries.id = 'top_' || substr(checkouts.id, 4))"
        )
        parameters = () if self._customer_id is None else (self._customer_id,)
        async for chunk in snapshot.stream(sql, parameters, LIMITS.audit_rows_at_once):
            for customer_id, checkout_id in chunk:
                what = f"the top-up of checkout {checkout_id}"
                yield Mismatch(customer_id=customer_id, version=None, what=what, expected="there", found=None)

    async def _doubled_keys(self, snapshot: Snapshot) -> AsyncIterator[Mismatch]:
        """A key that more than one entry, or an entry and a checkout, has taken effect by."""
        mine = "" if self._customer_id is None else " AND customer_id = ?"
        keys = (
            f"SELECT customer_id, idempotency_key FROM entries WHERE idempotency_key IS NOT NULL{mine} UNION ALL"
            f" SELECT customer_id, idempotency_key FROM checkouts WHERE idempotency_key IS NOT NULL{mine}"
        )
        sql = f"SELECT customer_id, idempotency_key, count(*) FROM ({keys}) AS used GROUP BY 1, 2 HAVING count(*) > 1"
        parameters = () if self._customer_id is None else (self._customer_id, self._customer_id)
        async for chunk in snapshot.stream(sql, parameters, LIMITS.audit_rows_at_once):
            for customer_id, key, effects in chunk:
                what = f"the number of effects of key {key!r}"
                yield Mismatch(customer_id=customer_id, version=None, what=what, expected=1, found=effects)


class _Rows:
    """The rows of one table in the order of their customers, a chunk of them at a time."""

    def __init__(self, table: str, stream: Callable[[], AsyncIterator[Sequence[Sequence[Any]]]]) -> None:
        self._table = table
        self._chunks = stream()
        self._chunk: Sequence[Sequence[Any]] = ()
        self._at = 0

    async def every(self) -> AsyncIterator[Sequence[Any]]:
        """Each row."""
        async for chunk in self._chunks:
            for row in chunk:
                yield row

    async def of(self, customer_id: str, make: Callable[[Sequence[Any]], T]) -> list[T]:
        """The rows of a customer, who comes after those asked for before."""
        found: list[T] = []
        await self.feed(customer_id, lambda row: found.append(make(row)))
        return found

    async def feed(self, customer_id: str, take: Callable[[Sequence[Any]], None]) -> int:
        """Hands on each row of a customer; gives their number."""
        count = 0
        while await self._more():
            chunk, at = self._chunk, self._at
            while at < len(chunk) and chunk[at][0] == customer_id:
                take(chunk[at])
                at += 1
            count += at - self._at
            self._at = at
            if at < len(chunk):
                break
        return count

    async def stray(self, before: str | None) -> Mismatch | None:
        """Passes over rows of customers that come before one; tells of the first, since they have no wallet."""
        found: Mismatch | None = None
        while await self._more() and ((id := self._chunk[self._at][0]) != before):
            if before is not None and id > before:
                break
            what = f"the wallet of a row in {self._table}"
            found = found or Mismatch(customer_id=id, version=None, what=what, expected="there", found=None)
            self._at += 1
        return found

    async def _more(self) -> bool:
        if self._at < len(self._chunk):
            return True
        self._at = 0
        try:
            self._chunk = await anext(self._chunks)
        except StopAsyncIteration:
            self._chunk = ()
        return bool(self._chunk)


def _grant(row: Sequence[Any]) -> Grant:
    return grant_of(row[1:])


def _hold(row: Sequence[Any]) -> Hold:
    return Hold(**dict(zip(_HOLD_COLUMNS, row[1:], strict=True)))


def _member(row: Sequence[Any]) -> Member:
    return Member(**dict(zip(Member.__struct_fields__, row[1:], strict=True)))
