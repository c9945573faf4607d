"""The one way into the ledger: everything that waits goes into one transaction, and each caller gets its own answer."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence

from app.config import Config
from app.errors import Busy, ChargeError, ShuttingDown
from app.rules.ledger import Operation
from app.store.batch import Change, Committed, Outcome, write_batch
from app.store.catalogue import CatalogueStore
from app.store.db import Database, TransactionFailed

log = logging.getLogger("chargly.store")


class Writer:
    """Group commit: while one batch is on its way to the disk, the next one gathers.

    Args:
        db: where it writes.
        catalogue: whose `current` prices a batch starts from, and which learns of newer ones.
        config: `write_queue_max` and `write_batch_max` bound what waits and what goes at once.
        on_commit: told the changed wallets and the catalogue's generation, after their commit and before the callers.

    """

    def __init__(
        self, db: Database, catalogue: CatalogueStore, config: Config, on_commit: Callable[[list[Change], int], None]
    ) -> None:
        self._db = db
        self._catalogue = catalogue
        self._limits = config.limits
        self._welcome_credits = config.welcome_credits
        self._on_commit = on_commit
        self._waiting: deque[tuple[Operation, asyncio.Future[Outcome]]] = deque()
        self._arrived = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self.failing = False
        """Whether the last batch could not be written: `/readyz` says so."""

    @property
    def queue_depth(self) -> int:
        """How many operations wait."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether it takes operations."""
        return self._task is not None and not self._task.done() and not self._closing

    def start(self) -> None:
        """Begins to write."""
        self._task = asyncio.create_task(self._run(), name="writer")

    async def close(self) -> None:
        """Writes what waits, then ends. What comes later is refused."""
        self._closing = True
        self._arrived.set()
        if self._task is not None:
            await self._task

    async def submit(self, operation: Operation) -> Outcome:
        """Applies one operation, durably. A caller that leaves does not disturb it.

        Raises:
            Busy: the queue is full, or the database did not take it; sent again with its key it takes effect once.
            ShuttingDown: the server is stopping.
            ChargeError: the ledger refused it, and nothing was written.

        """
        if not self.alive:
            raise ShuttingDown
        if len(self._waiting) >= self._limits.write_queue_max:
            raise Busy
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((operation, answer))
        self._arrived.set()
        return await answer

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                size = min(len(self._waiting), self._limits.write_batch_max)
                await self._write([self._waiting.popleft() for _ in range(size)])
                # One turn of the loop first, so that requests which have arrived meanwhile go into the next batch.
                await asyncio.sleep(0)
            if self._closing:
                return

    async def _write(self, batch: list[tuple[Operation, asyncio.Future[Outcome]]]) -> None:
        outcomes = await self._commit([operation for operation, _ in batch])
        for (_, answer), outcome in zip(batch, outcomes, strict=True):
            if answer.done():  # its caller left
                continue
            if isinstance(outcome, ChargeError):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)

    async def _commit(self, operations: Sequence[Operation]) -> Sequence[Outcome | ChargeError]:
        try:
            outcomes = await self._transact(operations, retried=False)
        except Exception as error:  # noqa: BLE001 - whatever it was, each operation gets its own second try
            log.warning("a batch of %d failed and is replayed one by one: %s", len(operations), error)
            return await self._replay(operations)
        self.failing = False
        return outcomes

    async def _replay(self, operations: Sequence[Operation]) -> Sequence[Outcome | ChargeError]:
        """One by one, each looked up first: one that cannot be written hurts only itself.

        A database that fails as such (locked, full, broken) fails for all: the rest is not tried.
        """
        outcomes: list[Outcome | ChargeError] = []
        down = False
        for operation in operations:
            try:
                if down:
                    raise Busy
                outcomes += await self._transact([operation], retried=True)
            except (Busy, TransactionFailed, TimeoutError) as error:
                down = down or not (isinstance(error, TransactionFailed) and error.rows_refused)
                log.warning("operation %s was not written: %s", operation.id, error)
                outcomes.append(Busy())
            except Exception:
                log.exception("operation %s was not written", operation.id)
                outcomes.append(ChargeError())
        self.failing = down
        return outcomes

    async def _transact(self, operations: Sequence[Operation], *, retried: bool) -> list[Outcome | ChargeError]:
        known = self._catalogue.current
        async with asyncio.timeout(self._limits.write_wait_seconds_max):
            committed: Committed = await self._db.transact(
                lambda: write_batch(operations, known, self._welcome_credits, retried=retried)
            )
        if committed.catalogue.generation > self._catalogue.current.generation:
            self._catalogue.current = committed.catalogue
        if committed.changes:
            self._on_commit(committed.changes, committed.catalogue.generation)
        return committed.outcomes
