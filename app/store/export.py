"""The ledger row by row, as of one moment and with little memory."""

from collections.abc import AsyncIterator
from typing import Any, Final

from app.config import LIMITS
from app.rules.wallet import Entry
from app.store.db import Snapshot

EXPORTED: Final = tuple(name for name in Entry.__struct_fields__ if name != "request_hash")
"""The columns of a row: what an operator may read of an entry. A request's hash tells nobody anything."""


def ledger_rows(snapshot: Snapshot, customer_id: str | None) -> AsyncIterator[list[tuple[Any, ...]]]:
    """Entries as their table has them, wallets by customer id and each oldest first, in chunks.

    Args:
        snapshot: the moment.
        customer_id: whose; None for everyone's.

    Raises:
        Unavailable: the database failed.

    """
    where, parameters = _of(customer_id)
    sql = f"SELECT {', '.join(EXPORTED)} FROM entries{where} ORDER BY customer_id, version"
    return snapshot.stream(sql, parameters, LIMITS.export_rows_at_once)


async def count_entries(snapshot: Snapshot, customer_id: str | None) -> int | None:
    """How many rows there are, told by the wallets, whose versions have no gaps; None where there is no wallet.

    Raises:
        Unavailable: the database failed.

    """
    where, parameters = _of(customer_id)
    async for [(entries,)] in snapshot.stream(f"SELECT sum(version) FROM wallets{where}", parameters, 1):
        return None if entries is None else int(entries)
    return None


def _of(customer_id: str | None) -> tuple[str, tuple[str, ...]]:
    return ("", ()) if customer_id is None else (" WHERE customer_id = ?", (customer_id,))
