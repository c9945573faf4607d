"""The one way into the ledger: everything that waits goes into one transaction, and each caller gets its own answer."""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from app.config import Config
from app.errors import Busy, ChargeError, Internal, OutcomeUnknown, ShuttingDown, TransactionFailed
from app.metrics import Metrics
from app.rules.operations import Operation
from app.store.batch import Committed, Outcome, WalletChange, write_batch
from app.store.catalogue import CatalogueStore
from app.store.db import Database, Script
from app.store.wallet_cache import WalletCache

log = logging.getLogger("chargly.store")

Result: TypeAlias = Outcome | ChargeError
_Waiting: TypeAlias = tuple[Sequence[Operation], asyncio.Future[Sequence[Result]]]
"""Operations that were submitted together, and where their results go: they stay together, and in order."""


class Writer:
    """Group commit: while one batch is on its way to the disk, the next one gathers.

    What was submitted together stays together, so a batch and the queue may go beyond their limits by one call.

    `write_batches_at_once` transactions are handed to the database. One takes what waits only when it begins, so the
    disk goes on when the one before has ended, however long a busy event loop takes to hear of that.

    Args:
        db: where it writes.
        catalogue: whose `current` prices a batch starts from, and which learns of newer ones.
        config: `write_queue_max`, `write_batch_max` and `write_batches_at_once` bound what waits and what goes at once.
        metrics: where each transaction is counted.
        on_commit: told the changed wallets and the catalogue's generation, after their commit and before the callers
            are answered; where a batch before is replayed, once that is settled, so that commits are told in order.

    """

    def __init__(
        self,
        db: Database,
        catalogue: CatalogueStore,
        config: Config,
        on_commit: Callable[[list[WalletChange], int], None],
        metrics: Metrics | None = None,
    ) -> None:
        self._db = db
        self._catalogue = catalogue
        self._limits = config.limits
        self._welcome_credits = config.welcome_credits
        self._on_commit = on_commit
        self._metrics = metrics or Metrics()
        self._cache = WalletCache(config.limits.wallets_cached_max)
        self._waiting: deque[_Waiting] = deque()
        self._operations_waiting = 0
        self._not_begun = False
        self._flights: deque[_Flight] = deque()
        self._writing: set[asyncio.Task[None]] = set()
        self._recovery: asyncio.Task[None] | None = None
        self._closing = False
        self.failing = False
        """Whether the database did not take the last batch: `/readyz` says so."""

    @property
    def alive(self) -> bool:
        """Whether it takes operations."""
        return not self._closing

    @property
    def operations_waiting(self) -> int:
        """How many operations have not been answered."""
        return self._operations_waiting

    async def close(self) -> None:
        """Writes what waits, then ends; what hangs is not waited for long. What comes later is refused."""
        self._closing = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.database_close_seconds_max):
                while self._writing:
                    await asyncio.wait(self._writing)
        if self._recovery is not None:
            self._recovery.cancel()
            await asyncio.wait((self._recovery,))

    async def submit(self, operation: Operation) -> Outcome:
        """Applies one operation, durably. A caller that leaves does not disturb it.

        Raises:
            Busy: the queue is full, or the database did not take it in time; nothing was written.
            OutcomeUnknown, TransactionFailed: it may have been written; sent again with its key it takes effect once.
            ShuttingDown: the server is stopping.
            ChargeError: the ledger refused it, and nothing was written.

        """
        [result] = await self.submit_all((operation,))
        if isinstance(result, ChargeError):
            raise result
        return result

    async def submit_all(self, operations: Sequence[Operation]) -> Sequence[Result]:
        """Applies operations in their order, each standing alone, in one commit where the database takes it.

        Returns:
            An outcome or a refusal for each.

        Raises:
            Busy: the queue is full; nothing was written.
            ShuttingDown: the server is stopping.

        """
        if self._closing:
            raise ShuttingDown
        if self._operations_waiting >= self._limits.write_queue_max:
            raise Busy
        answer: asyncio.Future[Sequence[Result]] = asyncio.get_running_loop().create_future()
        self._waiting.append((operations, answer))
        self._operations_waiting += len(operations)
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
        operations: list[Operation] = []
        begun = False
        loop = asyncio.get_running_loop()
        flight = _Flight()
        self._flights.append(flight)
        handed_over = time.perf_counter()

        def take() -> Script[Committed]:  # called in the database's thread
            nonlocal begun
            begun = True
            self._not_begun = False  # before anything is taken: what comes from here on starts a transaction of its own
            with contextlib.suppress(IndexError):
                while len(operations) < self._limits.write_batch_max:
                    batch.append(self._waiting.popleft())
                    operations.extend(batch[-1][0])
            if self._waiting:
                loop.call_soon_threadsafe(self._hand_over)
            return self._script(operations, retried=False)

        results: Sequence[Result] = ()
        try:
            results = (await self._db.hand_over(take, partial(self._committed, flight))).outcomes
            self.failing = False
        except (Busy, OutcomeUnknown) as error:
            log.warning("a batch of %d: %r", len(operations), error)
            results = [error] * len(operations)
            self._note_failure(refuse=None if begun else error)  # what waits would wait as long for nothing
        except Exception as error:  # noqa: BLE001 - whatever it was, each operation gets its own second try
            log.warning("a batch of %d failed and is replayed one by one: %r", len(operations), error)
            if not begun:  # after the first such failure a new connection is tried, after the second none
                self._note_failure(refuse=Busy() if self.failing else None)
            results = await self._replay(operations, flight)
        finally:
            if not begun:
                self._not_begun = False
            self._operations_waiting -= len(operations)
            self._settle(flight)
            if operations:
                self._metrics.batch(list(map(_told, operations, results)), time.perf_counter() - handed_over)
            _give_each(batch, [*results, *([Internal()] * (len(operations) - len(results)))])

    async def _replay(self, operations: Sequence[Operation], flight: "_Flight") -> Sequence[Result]:
        """One by one, each looked up first: one that cannot be written hurts only itself.

        A database that fails as such (locked, full, broken) fails for all: the rest is not tried.
        """
        outcomes: list[Result] = []
        failure: ChargeError | None = None
        for operation in operations:
            if failure is not None:
                outcomes.append(failure)
                continue
            try:
                script = partial(self._script, [operation], retried=True)
                outcomes += (await self._db.hand_over(script, partial(self._committed, flight))).outcomes
            except ChargeError as error:
                # The first attempt may have reached the disk, so not even `Busy` may say that nothing was written.
                refusal = error if isinstance(error, TransactionFailed) else OutcomeUnknown()
                failure = None if isinstance(refusal, TransactionFailed) and refusal.rows_refused else refusal
                log.warning("operation %s: %r", operation.id, error)
                outcomes.append(refusal)
            except Exception:
                log.exception("operation %s failed", operation.id)
                outcomes.append(Internal())
        if failure is not None:
            self._note_failure()
        elif operations:
            self.failing = False
        return outcomes

    def _script(self, operations: Sequence[Operation], *, retried: bool) -> Script[Committed]:
        return write_batch(
            self._db.dialect,
            operations,
            self._catalogue.current,
            self._welcome_credits,
            retried=retried,
            cache=self._cache,
        )

    def _committed(self, flight: "_Flight", committed: Committed) -> None:
        if flight.settled:  # its callers had to be told that the outcome is unknown
            self._announce([committed])
        else:
            flight.commits.append(committed)

    def _settle(self, flight: "_Flight") -> None:
        """Tells what is settled, in the order of the batches: one that is replayed holds back those behind it."""
        flight.settled = True
        commits: list[Committed] = []
        while self._flights and self._flights[0].settled:
            commits += self._flights.popleft().commits
        self._announce(commits)

    def _announce(self, commits: Sequence[Committed]) -> None:
        """Tells of commits as of one: a wallet's entries together, by version, with its last state."""
        changes: dict[str, WalletChange] = {}
        for committed in commits:
            if committed.catalogue.generation > self._catalogue.current.generation:
                self._catalogue.current = committed.catalogue
            for change in committed.changes:
                customer_id = change.wallet.customer_id
                before = changes.get(customer_id)
                changes[customer_id] = _joined(before, change) if before else change
        if changes:
            try:
                self._on_commit(list(changes.values()), self._catalogue.current.generation)
            except Exception:  # it is committed, whoever could not be told
                log.exception("a commit could not be told")

    def _note_failure(self, *, refuse: ChargeError | None = None) -> None:
        self.failing = True
        while refuse is not None and self._waiting:
            operations, answer = self._waiting.popleft()
            self._operations_waiting -= len(operations)
            _give(answer, [refuse] * len(operations))
        if self._recovery is None or self._recovery.done():
            self._recovery = asyncio.create_task(self._recover(), name="write-recovery")

    async def _recover(self) -> None:
        """Writes something that changes nothing until it succeeds: a server without traffic gets well too."""
        while self.failing:
            await asyncio.sleep(self._limits.write_recovery_seconds)
            try:
                await self._db.hand_over(_touch)
                self.failing = False
            except ChargeError as error:
                log.warning("the database still does not write: %r", error)
            except Exception:
                log.exception("the database still does not write")


def _told(operation: Operation, result: Result) -> tuple[str, str]:
    """An operation's kind and what became of it, as metrics name them."""
    if isinstance(result, ChargeError):
        return type(operation).__name__, result.code
    return type(operation).__name__, "replayed" if result.replayed else "applied"


class _Flight:
    """A batch on its way: what it has committed so far, which is told once it is settled."""

    def __init__(self) -> None:
        self.commits: list[Committed] = []
        self.settled = False


def _joined(before: WalletChange, after: WalletChange) -> WalletChange:
    by_version = {entry.version: entry for entry in (*before.entries, *after.entries)}
    wallet = max(before.wallet, after.wallet, key=lambda wallet: wallet.version)
    return WalletChange(wallet, tuple(by_version[version] for version in sorted(by_version)))


def _give_each(batch: Sequence[_Waiting], results: Sequence[Result]) -> None:
    """Hands each its own part of a batch's results."""
    start = 0
    for operations, answer in batch:
        _give(answer, results[start : start + len(operations)])
        start += len(operations)


def _give(answer: asyncio.Future[Sequence[Result]], results: Sequence[Result]) -> None:
    if not answer.done():  # or its caller left
        answer.set_result(results)


def _touch() -> Script[None]:
    yield "UPDATE instance SET generation = generation", ()
