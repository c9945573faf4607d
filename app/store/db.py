"""The database behind one door: held connections for reading, whole transactions for writing.

`databases` gives no connection back after a failed COMMIT, and opens one for every call on SQLite. So reads use
connections held here, and a transaction is a *script*: a generator that yields statements and is given their rows.
After a failure its connection is replaced. What SQLite and PostgreSQL do each in its own way is an `Engine`.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from databases.core import Connection as HeldConnection
from sqlalchemy.sql import ClauseElement

from app.config import Config
from app.errors import Busy, OutcomeUnknown, TransactionFailed, Unavailable
from app.store.dialect import Statement, dialect_of
from app.store.sqlite import SqliteEngine
from app.store.transaction import Attempt, Engine, Row, Script, Snapshot

__all__ = ["Database", "Row", "Script", "Snapshot", "Statement"]

log = logging.getLogger("chargly.store")

T = TypeVar("T")


class Database:
    """One process's connections. `open` before use, `close` at the end."""

    def __init__(self, config: Config) -> None:
        limits = config.limits
        self.dialect = dialect_of(config.database_url)
        """The engine's words."""
        self._engine = _engine(config)
        self._wait_seconds = limits.write_wait_seconds_max
        self._close_seconds = limits.database_close_seconds_max
        self._readers: asyncio.Queue[HeldConnection] = asyncio.Queue(limits.read_connections)
        self._reader_count = limits.read_connections
        self._writer: HeldConnection | None = None
        self._held: set[HeldConnection] = set()
        self._broken: set[HeldConnection] = set()
        self._opening = asyncio.Lock()
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._waiting_max = limits.transactions_waiting_max
        self._snapshots = asyncio.Semaphore(limits.snapshots_max)
        self._under_way: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Opens every connection it will hold.

        Raises:
            Unavailable: the database cannot be reached.

        """
        try:
            await self._engine.pool.connect()
            self._writer = await self._hold_with(self._engine.prepare_writer)
            for _ in range(self._reader_count):
                self._readers.put_nowait(await self._hold_with(self._engine.prepare_reader))
        except self._engine.failures as error:
            raise Unavailable from error

    async def close(self) -> None:
        """Closes them; what is under way ends first. What hangs is left to end by itself."""
        deadline = asyncio.get_running_loop().time() + self._close_seconds
        while self._under_way:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                log.error("the database did not answer for %s seconds", self._close_seconds)
                for held in self._held:
                    self._engine.abandon(held)
                await asyncio.sleep(0)  # their sockets are closed in the loop's next turn
                return
            await asyncio.wait(self._under_way, timeout=left)
        try:
            async with asyncio.timeout(self._close_seconds):
                for held in list(self._held):
                    await self._let_go(held)
                await self._engine.pool.disconnect()
        except TimeoutError:
            log.warning("the database did not hear that its connections were closed")

    async def fetch_all(self, query: ClauseElement | str, values: dict[str, Any] | None = None) -> list[Any]:
        """All rows of a query, each with its columns as attributes.

        Raises:
            Unavailable: no connection came free in time, or the database failed or did not answer.

        """
        try:
            async with asyncio.timeout(self._wait_seconds):
                reader = await self._readers.get()
        except TimeoutError as error:
            raise Unavailable from error
        lease = _Lease(reader)
        # A task of its own: a read whose caller has left keeps its connection until that has let go of it.
        task = self._start(self._read(lease, query, values))
        try:
            done, _ = await asyncio.wait((task,), timeout=self._wait_seconds)
        except asyncio.CancelledError:
            await self._end_statement(lease.held, task)
            raise
        if not done:
            await self._end_statement(lease.held, task)
            raise Unavailable
        return task.result()

    async def _read(self, lease: "_Lease", query: ClauseElement | str, values: dict[str, Any] | None) -> list[Any]:
        try:
            await self._see_to(lease)
            return list(await lease.held.fetch_all(query, values))
        except asyncio.CancelledError:
            if lease.held in self._held and not await self._engine.at_rest(lease.held):
                self._broken.add(lease.held)
            raise
        except self._engine.failures as error:
            if self._engine.finds_nothing(error):
                return []
            if not self._engine.spares_connection(error):
                log.warning("a read failed: %r", error)
                self._broken.add(lease.held)  # the next read opens another: this one has waited enough
            raise Unavailable from error
        finally:
            self._readers.put_nowait(lease.held)

    async def _see_to(self, lease: "_Lease") -> None:
        """Replaces a broken connection before it is read from."""
        broken = lease.held
        if broken not in self._broken and self._engine.is_open(broken):
            return
        self._broken.add(broken)
        await self._let_go(broken)
        lease.held = await self._hold_with(self._engine.prepare_reader)
        self._broken.discard(broken)

    async def _end_statement(self, held: HeldConnection, task: asyncio.Task[Any]) -> None:
        if held in self._held:
            await self._engine.end_statement(held, task)

    async def fetch_one(self, query: ClauseElement | str, values: dict[str, Any] | None = None) -> Any | None:
        """The first row of a query, or None. Fails as `fetch_all` does."""
        rows = await self.fetch_all(query, values)
        return rows[0] if rows else None

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """The database as of now, on a connection of its own, for reading more than fits in memory.

        It has no limit of time.

        Raises:
            Unavailable: as many are open as may be, and none ended in time; or the database failed.

        """
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._snapshots.acquire()
        except TimeoutError as error:
            raise Unavailable from error
        try:
            async with contextlib.AsyncExitStack() as opened:
                try:
                    snapshot = await opened.enter_async_context(self._engine.snapshot())
                except self._engine.failures as error:
                    raise Unavailable from error
                yield snapshot
        finally:
            self._snapshots.release()

    async def transact(self, script: Callable[[], Script[T]], *, seconds_max: float | None = None) -> T:
        """Runs a script as one transaction when its turn comes: of these one at a time, so that metering goes on.

        Args:
            script: as of `hand_over`.
            seconds_max: for its turn, and again for itself; by default as for all.

        Raises:
            Busy: too many wait, or the turn did not come in time.
            As `hand_over` does.

        """
        if self._waiting >= self._waiting_max:
            raise Busy
        self._waiting += 1
        try:
            async with asyncio.timeout(seconds_max or self._wait_seconds):
                await self._turn.acquire()
        except TimeoutError as error:
            raise Busy from error
        finally:
            self._waiting -= 1
        try:
            return await self.hand_over(script, seconds_max=seconds_max)
        finally:
            self._turn.release()

    async def hand_over(
        self,
        script: Callable[[], Script[T]],
        on_commit: Callable[[T], None] = lambda _result: None,
        *,
        seconds_max: float | None = None,
    ) -> T:
        """Runs a script as one transaction, whole or not at all. A caller that leaves does not disturb it.

        Several may be handed over at once; they run one after the other, in order.

        Args:
            script: called when the transaction begins, on SQLite in the thread where it runs; called again where
                PostgreSQL has rolled it back for the sake of another transaction.
            on_commit: told the result once it is committed, though its caller may have left or been told
                `OutcomeUnknown`. What it raises would hide that commit, so it must not.
            seconds_max: how long it may take; by default as long as all.

        Raises:
            Busy: it did not come to its COMMIT in time, or another process holds a lock it needs; nothing was written.
            OutcomeUnknown: its COMMIT was sent and not answered in time.
            TransactionFailed: the database failed.
            Anything the script raises: it was rolled back.

        """
        attempt = Attempt(script)
        task = self._start(self._run(attempt, on_commit))
        seconds = seconds_max or self._wait_seconds
        try:
            return await self._outcome(attempt, task, seconds)
        except asyncio.CancelledError:
            self._start(self._outcome(attempt, task, seconds))  # one that hangs is given up, though nobody waits for it
            raise

    async def _outcome(self, attempt: Attempt[T], task: asyncio.Task[T], seconds: float) -> T:
        done, _ = await asyncio.wait((task,), timeout=seconds)
        if done:
            return task.result()
        attempt.give_up()
        if attempt.committing:
            raise OutcomeUnknown
        if attempt.begun and attempt.held:
            await self._end_statement(attempt.held, task)
        raise Busy

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.debug("what may have had no caller left failed: %r", task.exception())

    async def _run(self, attempt: Attempt[T], on_commit: Callable[[T], None]) -> T:
        async with self._engine.turn:
            held = attempt.held = await self._writing()
            try:
                result = await self._engine.run(held, attempt)
            except self._engine.failures as error:
                refused = self._engine.refuses_rows(error)
                raise TransactionFailed(str(error), rows_refused=refused) from error
            finally:
                if attempt.spoilt:
                    self._discard(held)
            on_commit(result)
            return result

    async def _writing(self) -> HeldConnection:
        async with self._opening:
            if self._writer is not None and not self._engine.is_open(self._writer):
                self._discard(self._writer)
            if self._writer is None:
                try:
                    self._writer = await self._hold_with(self._engine.prepare_writer)
                except self._engine.failures as error:
                    raise TransactionFailed(str(error), rows_refused=False) from error
            return self._writer

    def _discard(self, broken: HeldConnection) -> None:
        """Lets the next transaction open a connection of its own: what this one still holds is not to be trusted."""
        if self._writer is broken:
            self._writer = None
            self._start(self._let_go(broken))

    async def _hold(self) -> HeldConnection:
        # `databases` keeps one connection for each task: a task of its own gives a connection of its own.
        held = await asyncio.create_task(self._acquire())
        self._held.add(held)
        return held

    async def _hold_with(self, prepare: Callable[[HeldConnection], Awaitable[None]]) -> HeldConnection:
        held = await self._hold()
        try:
            await prepare(held)
        except BaseException:
            await self._let_go(held)
            raise
        return held

    async def _let_go(self, held: HeldConnection) -> None:
        if held not in self._held:
            return
        self._held.discard(held)
        try:
            await self._engine.let_go(held)
        except self._engine.failures as error:
            log.warning("a connection could not be closed: %s", error)

    async def _acquire(self) -> HeldConnection:
        return await self._engine.pool.connection().__aenter__()


class _Lease:
    """A connection while one read has it; the read may replace it."""

    def __init__(self, held: HeldConnection) -> None:
        self.held = held


def _engine(config: Config) -> Engine:
    if dialect_of(config.database_url).is_sqlite:
        return SqliteEngine(config)
    from app.store.postgres import PostgresEngine  # noqa: PLC0415 - asyncpg is there only with its extra

    return PostgresEngine(config)
