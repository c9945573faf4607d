"""Past events read again, to be priced at other prices; nothing is written.

It goes through the entries of the wallets that used what is priced, so it is no read of every page: it has a time
limit, and a snapshot of its own, which disturbs nobody.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

import msgspec

from app.config import Limits
from app.errors import InvalidRequest
from app.rules.pricing import Price
from app.rules.simulation import Lot, credits_then
from app.store.db import Database, Snapshot
from app.store.dialect import Dialect

_encode: Final = msgspec.json.Encoder().encode
_ROWS: Final = 1_000
_ID_BEGINS_AT: Final = len("evt_") + 1


class Replayed(msgspec.Struct, frozen=True):
    """What happened, and how many wallets would have run dry: by event, and of all."""

    lots: list[Lot]
    short: dict[str, int]
    short_in_all: int


async def replay(db: Database, prices: Mapping[str, Price], since: int, limits: Limits) -> Replayed:
    """Reads the events of some names since a time, and prices them again.

    Args:
        db: where they are.
        prices: the candidates, by event.
        since: milliseconds since 1970, on a whole hour.
        limits: how many unlike events there may be.

    Raises:
        InvalidRequest: there are more (field `days`), or one would cost more than may be.
        Unavailable: the database failed.

    """
    events = _encode(sorted(prices)).decode()
    async with db.snapshot() as snapshot:
        lots = [
            Lot(event=row[0], model=row[1], quantity=row[2], is_fixed=bool(row[3]), count=row[4], credits=row[5])
            for row in await _rows(snapshot, _lots(db.dialect), (since, events), limits.simulation_lots_max + 1)
        ]
        if len(lots) > limits.simulation_lots_max:
            raise InvalidRequest(
                f"days: these are more than {limits.simulation_lots_max:,} unlike events: take fewer days.",
                field="days",
            )
        priced = [
            (lot.event, lot.model, lot.quantity, credits_then(lot, prices[lot.event]))
            for lot in lots
            if not lot.is_fixed
        ]
        values = (since, events, _encode(priced).decode())
        short = {row[0]: row[1] for row in await _rows(snapshot, _short(db.dialect), values, len(prices) + 1)}
    return Replayed(lots, short, short.pop("", 0))


async def _rows(snapshot: Snapshot, sql: str, values: Sequence[Any], most: int) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    async for chunk in snapshot.stream(sql, values, _ROWS):
        found += chunk
        if len(found) >= most:
            break
    return found[:most]


def _wallets(dialect: Dialect) -> str:
    """Those that used what is priced, since the time `?1`."""
    return f"SELECT DISTINCT customer_id FROM usage_of_wallets WHERE hour >= ?1 AND event IN {dialect.listed('?2')}"


def _stands(entry: str) -> str:
    """Whether an event was not reversed: the id of a reversal follows from its event's."""
    reversal = f"'rev_' || substr({entry}.id, {_ID_BEGINS_AT})"
    return f"{entry}.kind = 'event' AND NOT EXISTS (SELECT 1 FROM entries AS r WHERE r.id = {reversal})"


@cache
def _lots(dialect: Dialect) -> str:
    return (
        "SELECT e.event, coalesce(e.model, ''), e.quantity, CASE WHEN e.price_version IS NULL THEN 1 ELSE 0 END,"
        f" count(*), CAST(-sum(e.credits) AS bigint) FROM ({_wallets(dialect)}) AS w"
        " JOIN entries AS e ON e.customer_id = w.customer_id"
        f" WHERE e.created_at >= ?1 AND e.event IN {dialect.listed('?2')} AND {_stands('e')} GROUP BY 1, 2, 3, 4"
    )


@cache
def _short(dialect: Dialect) -> str:
    # What an event would cost more lowers what is available at every later entry of its wallet.
    price = "CAST(value ->> 3 AS bigint)"
    columns = f"value ->> 0 AS event, value ->> 1 AS model, CAST(value ->> 2 AS bigint) AS quantity, {price} AS credits"
    more = f"CASE WHEN p.credits IS NOT NULL AND e.price_version IS NOT NULL AND {_stands('e')}"
    return (
        f"WITH priced AS MATERIALIZED (SELECT {columns} FROM {dialect.json_values('?3')} AS given),"
        " walked AS (SELECT e.customer_id, e.kind, e.event, e.available - sum("
        f"{more} THEN p.credits + e.credits ELSE 0 END)"
        " OVER (PARTITION BY e.customer_id ORDER BY e.version) AS available"
        f" FROM ({_wallets(dialect)}) AS w JOIN entries AS e ON e.customer_id = w.customer_id AND e.created_at >= ?1"
        " LEFT JOIN priced AS p ON p.event = e.event AND p.model = coalesce(e.model, '') AND p.quantity = e.quantity),"
        " dry AS MATERIALIZED (SELECT DISTINCT customer_id, event FROM walked WHERE available < 0 AND kind = 'event'"
        f" AND event IN {dialect.listed('?2')})"
        " SELECT event, count(*) FROM dry GROUP BY event"
        " UNION ALL SELECT '', count(DISTINCT customer_id) FROM dry"
    )
