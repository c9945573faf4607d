"""The one way into the ledger: everything that waits goes into one transaction, and each caller gets its own answer."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from app.config import Config
from app.errors import Busy, ChargeError, Internal, OutcomeUnknown, ShuttingDown
from app.rules.ledger import Operation
from app.store.batch import Change, Committed, Outcome, write_batch
from app.store.catalogue import CatalogueStore
from app.store.db import Database, Script, TransactionFailed

log = logging.getLogger("chargly.store")

_Waiting: TypeAlias = tuple[Operation, asyncio.Future[Outcome]]


class Writer:
    """Group commit: while one batch is on its way to the disk, the next one gathers.

    Two transactions are handed to the database at once. The second takes what waits only when it begins, so the disk
    goes on at once when the first has ended, however long a busy event loop takes to hear of that.

    Args:
        db: where it writes.
        catalogue: whose `current` prices a batch starts from, and which learns of newer ones.
        config: `write_queue_max`, `write_batch_max` and `write_batches_at_once` bound what waits and what goes at once.
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
        self._waiting: deque[_Waiting] = deque()
        self._not_begun = False
        self._writing: set[asyncio.Task[None]] = set()
        self._recovery: asyncio.Task[None] | None = None
        self._closing = False
        self.failing = False
        """Whether the database did not take the last batch: `/readyz` says so."""

    @property
    def queue_depth(self) -> int:
        """How many operations wait."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether it takes operations."""
        return not self._closing

    async def close(self) -> None:
        """Writes what waits, then ends. What comes later is refused."""
        self._closing = True
        while self._writing:
            await asyncio.wait(self._writing)
        if self._recovery is not None:
            self._recovery.cancel()

    async def submit(self, operation: Operation) -> Outcome:
        """Applies one operation, durably. A caller that leaves does not disturb it.

        Raises:
            Busy: the queue is full, or the database did not take it, or did not say so in time (`OutcomeUnknown`);
                sent again with its key it takes effect once.
            ShuttingDown: the server is stopping.
            ChargeError: the ledger refused it, and nothing was written.

        """
        if self._closing:
            raise ShuttingDown
        if len(self._waiting) >= self._limits.write_queue_max:
            raise Busy
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((operation, answer))
        self._hand_over()
        return await answer

    def _hand_over(self) -> None:
        """Starts a transaction for what waits, unless one that has not begun will take it."""
        if self._waiting and not self._not_begun and len(self._writing) < self._limits.write_batches_at_once:
            self._not_begun = True
            task = asyncio.create_task(self._write(), name="write")
            self._writing.add(task)
            task.add_done_callback(self._written)

    def _written(self, task: asyncio.Task[None]) -> None:
        self._writing.discard(task)
        self._hand_over()

    async def _write(self) -> None:
        batch: list[_Waiting] = []
        begun = False

        def take() -> Script[Committed]:  # called in the database's thread
            nonlocal begun
            begun = True
            self._not_begun = False  # before anything is taken: what comes from here on starts a transaction of its own
            with contextlib.suppress(IndexError):
                while len(batch) < self._limits.write_batch_max:
                    batch.append(self._waiting.popleft())
            return self._script([operation for operation, _ in batch], retried=False)

        try:
            outcomes: Sequence[Outcome | ChargeError] = (await self._db.transact(take, self._announce)).outcomes
            self.failing = False
        except Busy as error:
            log.warning("a batch of %d was not written: %s", len(batch), error)
            outcomes = [error] * len(batch)
            self._note_failure()
            if not begun:  # what waits would have been in it, and has waited as long
                self._not_begun = False
                self._refuse_waiting(error)
        except Exception as error:  # noqa: BLE001 - whatever it was, each operation gets its own second try
            log.warning("a batch of %d failed and is replayed one by one: %r", len(batch), error)
            if not begun:
                self._not_begun = False
                if self.failing:  # the second in a row; after the first, a new connection is tried
                    self._refuse_waiting(Busy())
                self._note_failure()
            outcomes = await self._replay([operation for operation, _ in batch])
        for (_, answer), outcome in zip(batch, outcomes, strict=True):
            _give(answer, outcome)

    def _refuse_waiting(self, error: ChargeError) -> None:
        while self._waiting:
            _give(self._waiting.popleft()[1], error)

    async def _replay(self, operations: Sequence[Operation]) -> Sequence[Outcome | ChargeError]:
        """One by one, each looked up first: one that cannot be written hurts only itself.

        A database that fails as such (locked, full, broken) fails for all: the rest is not tried.
        """
        outcomes: list[Outcome | ChargeError] = []
        written: list[Committed] = []
        failure: ChargeError | None = None
        for operation in operations:
            try:
                if failure is not None:
                    raise failure
                script = partial(self._script, [operation], retried=True)
                outcomes += (await self._db.transact(script, written.append)).outcomes
            except ChargeError as error:
                # The first attempt may have reached the disk, so not even `Busy` may say that nothing was written.
                refusal = error if isinstance(error, TransactionFailed) else OutcomeUnknown()
                failure = None if isinstance(refusal, TransactionFailed) and refusal.rows_refused else refusal
                log.warning("operation %s was not written: %r", operation.id, error)
                outcomes.append(refusal)
            except Exception:
                log.exception("operation %s was not written", operation.id)
                outcomes.append(Internal())
        self._announce(*written)
        if failure is not None:
            self._note_failure()
        elif operations:
            self.failing = False
        return outcomes

    def _script(self, operations: Sequence[Operation], *, retried: bool) -> Script[Committed]:
        return write_batch(operations, self._catalogue.current, self._welcome_credits, retried=retried)

    def _announce(self, *commits: Committed) -> None:
        """Tells of commits as of one: a wallet's entries together, with its last state."""
        changes: dict[str, Change] = {}
        for committed in commits:
            if committed.catalogue.generation > self._catalogue.current.generation:
                self._catalogue.current = committed.catalogue
            for change in committed.changes:
                before = changes.get(change.wallet.customer_id)
                entries = (*before.entries, *change.entries) if before else change.entries
                changes[change.wallet.customer_id] = Change(change.wallet, entries)
        if changes:
            self._on_commit(list(changes.values()), self._catalogue.current.generation)

    def _note_failure(self) -> None:
        self.failing = True
        if self._recovery is None or self._recovery.done():
            self._recovery = asyncio.create_task(self._recover(), name="write-recovery")

    async def _recover(self) -> None:
        """Writes something that changes nothing until it succeeds: a server without traffic gets well too."""
        while self.failing:
            await asyncio.sleep(self._limits.write_recovery_seconds)
            with contextlib.suppress(ChargeError):
                await self._db.transact(_touch)
                self.failing = False


def _give(answer: asyncio.Future[Outcome], outcome: Outcome | ChargeError) -> None:
    if answer.done():  # its caller left
        return
    if isinstance(outcome, ChargeError):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)


def _touch() -> Script[None]:
    yield "UPDATE instance SET generation = generation", ()
