"""Between the ledger and the pages: shows and tells what is committed here, reads and shows what others commit."""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from app.config import Limits
from app.errors import ChargeError
from app.live.bus import Bus, Channel, Notice
from app.live.hub import Hub
from app.metrics import Metrics
from app.store import reads
from app.store.batch import WalletChange
from app.store.catalogue import CatalogueStore
from app.store.db import Database

log = logging.getLogger("chargly.live")


class Relay:
    """Keeps the pages of one process at the truth, whoever writes it.

    A notice says that a wallet has moved on; what its pages lack is then read from the ledger. Notices may be lost, and
    commands beside a server send none, so the versions of the wallets that are shown are read again every few seconds.

    Args:
        db: where to read.
        hub: the pages.
        catalogue: which learns that prices have changed elsewhere.
        channel: to the other processes; None where there are none.
        sender: the name of this process.
        limits: `bus_*`, `heal_*` and `catch_up_*`.
        metrics: where it is told how late notices are.

    """

    def __init__(
        self,
        db: Database,
        hub: Hub[Any],
        catalogue: CatalogueStore,
        channel: Channel | None,
        sender: str,
        limits: Limits,
        metrics: Metrics,
    ) -> None:
        self._db = db
        self._hub = hub
        self._catalogue = catalogue
        self._limits = limits
        self._metrics = metrics
        self.on_keys_changed: Callable[[], None] = lambda: None
        """Told that an API key was revoked elsewhere."""
        self._missed: set[str] = set()
        self._prices_changed = False
        self._woken = asyncio.Event()
        self.bus = Bus(channel, limits, sender, self._hear)
        hub.on_missed = self._miss

    def publish(self, changes: Sequence[WalletChange], generation: int) -> None:
        """Shows what was committed here, and tells the others. It waits for nobody."""
        self._hub.publish(changes, generation)
        self.bus.tell(((change.wallet.customer_id, change.wallet.version) for change in changes), self._hub.generation)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listens, reads and looks again for as long as the context lasts."""
        tasks = [
            asyncio.create_task(self._for_ever(self._catch_up), name="catch-up"),
            asyncio.create_task(self._for_ever(self._look_again), name="heal"),
        ]
        try:
            async with self.bus.running():
                yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _hear(self, notice: Notice) -> None:
        self._metrics.heard(notice.at)
        for customer_id, version in notice.wallets:
            self._miss(customer_id, version)
        if notice.generation > self._hub.generation:  # it says so; the catalogue knows
            self._prices_changed = True
            self._woken.set()
        if notice.keys:
            self.on_keys_changed()

    def _miss(self, customer_id: str, version: int) -> None:
        if self._hub.listening(customer_id) and (self._hub.oldest_version(customer_id) or 0) < version:
            self._missed.add(customer_id)
            self._woken.set()

    async def _for_ever(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except ChargeError as error:  # the database is away or busy, and /readyz says so
                log.warning("pages cannot be told what others have written: %r", error)
                await asyncio.sleep(self._limits.heal_seconds_between)
            except Exception:
                log.exception("pages cannot be told what others have written")
                await asyncio.sleep(self._limits.heal_seconds_between)

    async def _catch_up(self) -> None:
        await self._woken.wait()
        if self._prices_changed:
            self._prices_changed = False
            await self._look_at_prices()
        while self._missed:
            some = [self._missed.pop() for _ in range(min(len(self._missed), self._limits.catch_up_wallets_at_once))]
            await asyncio.gather(*[self._show(customer_id) for customer_id in some])
        self._woken.clear()

    async def _show(self, customer_id: str) -> None:
        """Reads what the pages of a wallet lack, and shows it."""
        since = self._hub.oldest_version(customer_id) or 0
        wallet = await reads.wallet(self._db, customer_id)
        if wallet is None or wallet.version <= since:
            return
        found, more = await reads.moves_since(self._db, customer_id, since, self._limits.live_entries_max)
        entries = [entry for entry in found if entry.version <= wallet.version]
        self._hub.catch_up(wallet, entries, since, more=more)
        self._metrics.caught_up.inc()

    async def _look_again(self) -> None:
        await asyncio.sleep(self._limits.heal_seconds_between * random.uniform(0.8, 1.2))  # noqa: S311 - spreads processes
        shown = self._hub.shown()
        for start in range(0, len(shown), self._limits.heal_wallets_at_once):
            some = shown[start : start + self._limits.heal_wallets_at_once]
            for customer_id, version in await reads.versions(self._db, some):
                self._miss(customer_id, version)
        await self._look_at_prices()

    async def _look_at_prices(self) -> None:
        self._hub.generation = max(self._hub.generation, (await self._catalogue.fresh()).generation)
