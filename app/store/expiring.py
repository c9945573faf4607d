"""Grants that expire soon with credits left: whoever listens is told once of each."""

from functools import partial
from typing import Any, Final

from app.rules.times import rfc3339
from app.store.db import Database, Script
from app.store.marks import read_mark, set_mark
from app.store.webhooks import POSITIONS_OF_A_VERSION, Message, deliveries_of, position_of

_TYPE: Final = "grant.expiring"
_LISTENING: Final = (
    "SELECT 1 FROM webhook_endpoints WHERE disabled IS NULL AND (events = ' * ' OR events LIKE :wanted) LIMIT 1"
)
_EXPIRING: Final = (
    "SELECT g.expires_at, g.customer_id, g.id, g.category, g.remaining, w.version"
    " FROM grants AS g JOIN wallets AS w ON w.customer_id = g.customer_id"
    " WHERE g.expires_at IS NOT NULL AND g.expires_at <= :until"
    " AND (g.expires_at, g.customer_id, g.id) > (:at, :customer_id, :id)"
    " AND g.remaining > 0 AND g.state IN ('pending', 'active') AND g.expires_at - g.effective_at >= :life"
    " ORDER BY g.expires_at, g.customer_id, g.id LIMIT :most"
)


async def tell_of_expiring(db: Database, *, now: int, window_ms: int, most: int) -> int:
    """Writes a message for each grant that has come within a window of its end since this was last done.

    Where nobody listens nothing is read, so whoever begins to listen hears of all that are within the window.

    Args:
        db: where they are.
        now: milliseconds since 1970.
        window_ms: how long before its end a grant is told of; one that lives for less than twice that is not.
        most: how many in one transaction.

    Returns:
        How many were told of.

    """
    if await db.fetch_one(_LISTENING, {"wanted": f"% {_TYPE} %"}) is None:
        return 0
    mark = await read_mark(db, _TYPE)
    bounds = {"until": now + window_ms, "life": 2 * window_ms, "most": most}
    after = {"at": max(now, mark or 0) + 1, "customer_id": "", "id": ""}
    told = 0
    while rows := await db.fetch_all(_EXPIRING, bounds | after):
        messages = [_message(row, now) for row in rows]
        await db.transact(partial(_write, db, messages))
        told += len(rows)
        after = {name: rows[-1][at] for at, name in enumerate(after)}
    # Only now: of what is told a second time, nothing is written.
    await set_mark(db, _TYPE, now + window_ms)
    return told


def _write(db: Database, messages: list[Message]) -> Script[None]:
    yield deliveries_of(db.dialect, messages)


def _message(row: Any, now: int) -> Message:
    expires_at, customer_id, grant_id, category, remaining, version = (row[at] for at in range(6))
    return Message(
        id=f"msg_expiring_{grant_id}",
        type=_TYPE,
        customer_id=customer_id,
        # Behind whatever the wallet has said as of that version.
        position=position_of(version, POSITIONS_OF_A_VERSION - 1),
        data={
            "customer_id": customer_id,
            "grant_id": grant_id,
            "category": category,
            "credits_remaining": remaining,
            "expires_at": rfc3339(expires_at),
        },
        at=now,
    )
