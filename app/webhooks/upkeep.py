"""What is done once a minute: expiring grants are told of, old deliveries are taken away, and what waits is counted."""

from app.config import Limits
from app.store.db import Database
from app.store.deliveries import count_pending, sweep
from app.store.expiring import tell_of_expiring
from app.store.ids import now_ms


class Upkeep:
    """One process's side of it.

    Args:
        db: where deliveries and grants are.
        limits: how long deliveries are kept, how early a grant is told of, and how much is done at once.

    """

    def __init__(self, db: Database, limits: Limits) -> None:
        self._db = db
        self._limits = limits
        self.pending = 0
        """Deliveries that waited when it was last done by this process."""

    async def run(self) -> None:
        """Does it once.

        Raises:
            ChargeError: the database cannot be asked.

        """
        limits = self._limits
        await tell_of_expiring(
            self._db,
            now=now_ms(),
            window_ms=round(limits.grant_expiring_seconds * 1000),
            most=limits.grants_told_at_once,
        )
        most = limits.deliveries_swept_at_once
        ended_before = now_ms() - round(limits.deliveries_kept_seconds * 1000)
        while await sweep(self._db, ended_before=ended_before, most=most) >= most:
            pass
        self.pending = await count_pending(self._db, limits.deliveries_counted_max)
