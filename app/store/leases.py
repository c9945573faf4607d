"""Leases: what one process at a time does, of all that share a database.

A lease ends by itself, so a process that vanishes hands over after seconds. One that was stopped in the midst of its
work may wake when another has the lease: what is done under a lease must be harmless when it is done twice.
"""

import time

from sqlalchemy import text

from app.config import Limits
from app.store.db import Database, Script


class Lease:
    """One process's side of a lease.

    Args:
        db: where it is kept. A file of SQLite has one server, which its lock makes sure of, and that one holds all.
        name: what it is for.
        holder: the name of this process.
        limits: `lease_seconds`, a third of which after it was taken a lease is renewed; `lease_give_back_seconds_max`.

    """

    def __init__(self, db: Database, name: str, holder: str, limits: Limits) -> None:
        self._db = db
        self._name = name
        self._holder = holder
        self._seconds = limits.lease_seconds
        self._most_ms = round(limits.lease_seconds * 1000)
        self._give_back_seconds_max = limits.lease_give_back_seconds_max
        self._renew_at: float | None = None
        """On our own clock; None while it is not known to be ours."""
        self._may_be_ours = False

    async def held(self) -> bool:
        """Whether this process has it now. It takes one that is free, and renews its own in good time.

        Raises:
            ChargeError: the database cannot be asked.

        """
        clock = self._db.dialect.clock()
        if clock is None:
            return True
        now = time.monotonic()
        if self._renew_at is not None and now < self._renew_at:
            return True
        if self._renew_at is None and await self._is_of_another(clock):
            return False
        self._renew_at, self._may_be_ours = None, True  # until it is known
        self._may_be_ours = await self._db.transact(lambda: self._take(clock))
        if self._may_be_ours:
            self._renew_at = now + self._seconds / 3
        return self._may_be_ours

    async def give_back(self) -> None:
        """Lets another process have it at once.

        Raises:
            ChargeError: the database cannot be asked, or does not answer soon; it ends by itself.

        """
        if self._may_be_ours:
            self._renew_at, self._may_be_ours = None, False
            await self._db.transact(self._drop, seconds_max=self._give_back_seconds_max)

    async def _is_of_another(self, clock: str) -> bool:
        """Looks before it takes: most processes ask again and again for what another has."""
        taken = text(
            f"SELECT 1 FROM leases WHERE name = :name AND holder <> :holder"
            f" AND until > {clock} AND until <= {clock} + :most"
        )
        asked = taken.bindparams(name=self._name, holder=self._holder, most=self._most_ms)
        return await self._db.fetch_one(asked) is not None

    def _take(self, clock: str) -> Script[bool]:
        take = (
            f"INSERT INTO leases (name, holder, until) VALUES (?1, ?2, {clock} + ?3) ON CONFLICT (name) DO UPDATE"
            f" SET holder = excluded.holder, until = excluded.until WHERE leases.holder = ?2 OR leases.until <= {clock}"
            # One that ends later than any could was taken by a clock that has gone back since.
            f" OR leases.until > {clock} + ?3 RETURNING 1"
        )
        rows = yield take, (self._name, self._holder, self._most_ms)
        return bool(rows)

    def _drop(self) -> Script[None]:
        yield "DELETE FROM leases WHERE name = ? AND holder = ?", (self._name, self._holder)
