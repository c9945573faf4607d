"""How all wallets stand. To count them, all are walked through: so it is done once for many who ask."""

import asyncio
import time
from collections.abc import Sequence

import msgspec

from app.config import Limits
from app.store.db import Database
from app.store.ids import now_ms


class Standings(msgspec.Struct, frozen=True):
    """How many wallets have a balance up to each step, and above the last; and how many are low, or frozen.

    `owed` are the credits that balances below zero lack. All is as of `at`, in milliseconds since 1970.
    """

    counts: list[int]
    low: int
    frozen: int
    owed: int
    at: int


class StandingsStore:
    """Counts wallets by their balances, and remembers it for some seconds.

    An index by balance would spare the walk, and be written to by each event.

    Args:
        db: where they are.
        steps: the balances that divide them, from low to high.
        limits: `standings_seconds_max`.

    """

    def __init__(self, db: Database, steps: Sequence[int], limits: Limits) -> None:
        self._db = db
        self._steps = steps
        self._seconds_max = limits.standings_seconds_max
        self._counting: asyncio.Task[Standings] | None = None
        self._known: Standings | None = None
        self._until = 0.0

    async def recent(self) -> Standings:
        """How they stood a moment ago. Whoever asks while they are counted waits for that.

        Raises:
            Unavailable: the database cannot be asked.

        """
        if self._known is not None and time.monotonic() < self._until:
            return self._known
        if self._counting is None:
            self._counting = asyncio.create_task(self._count())
        # One who leaves does not end what others wait for.
        return await asyncio.shield(self._counting)

    async def _count(self) -> Standings:
        try:
            began, at = time.monotonic(), now_ms()
            self._known = await self._read(at)
            self._until = began + self._seconds_max
            return self._known
        finally:
            self._counting = None

    async def _read(self, at: int) -> Standings:
        low = "low_balance_threshold IS NOT NULL AND balance < low_balance_threshold"
        place = " ".join(f"WHEN balance <= {step} THEN {number}" for number, step in enumerate(self._steps))
        rows = await self._db.fetch_all(
            f"SELECT CASE {place} ELSE {len(self._steps)} END, count(*),"
            f" CAST(sum(CASE WHEN {low} THEN 1 ELSE 0 END) AS bigint), CAST(sum(frozen) AS bigint),"
            " CAST(sum(CASE WHEN balance < 0 THEN -balance ELSE 0 END) AS bigint) FROM wallets GROUP BY 1"
        )
        counts = {row[0]: row[1] for row in rows}
        return Standings(
            counts=[counts.get(number, 0) for number in range(len(self._steps) + 1)],
            low=sum(row[2] for row in rows),
            frozen=sum(row[3] for row in rows),
            owed=sum(row[4] for row in rows),
            at=at,
        )
