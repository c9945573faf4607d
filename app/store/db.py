"""The database behind one door: held connections for reading, whole transactions for writing.

`databases` opens a SQLite connection for every call unless one is held, its `transaction()` sends a plain BEGIN (which
fails at once when another connection commits between a read and a write), and a failed COMMIT never gives its
connection back. So reads use connections held here, and a transaction is a *script*: a generator that yields statements
and is given their rows. On SQLite the whole script runs in one hop to the connection's own thread, between BEGIN
IMMEDIATE and COMMIT; after any failure that connection is replaced.
"""

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Coroutine, Generator, Sequence
from pathlib import Path
from typing import Any, Final, Generic, TypeAlias, TypeVar

import databases
from databases.core import Connection as HeldConnection
from sqlalchemy.sql import ClauseElement

from app.config import Config, Limits
from app.errors import Busy, OutcomeUnknown, StartRefused, TransactionFailed, Unavailable

log = logging.getLogger("chargly.store")

T = TypeVar("T")
Row: TypeAlias = Sequence[Any]
Statement: TypeAlias = tuple[str, Sequence[Any]]
Script: TypeAlias = Generator[Statement, list[Any], T]
"""A transaction: yields `(sql, parameters)`, is sent the rows, returns its result."""

_STATEMENTS_CACHED: Final = 512
_ROWS_REFUSED: Final = (sqlite3.IntegrityError, sqlite3.DataError)
_PASSING: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT)
"""Errors that say nothing against a connection."""


def sqlite_path(database_url: str) -> Path:
    """The file that a `sqlite:///…` address names.

    Raises:
        StartRefused: the address names no file.

    """
    if not database_url.startswith("sqlite:"):
        raise StartRefused(
            "DATABASE_URL names a PostgreSQL database, and this version keeps its ledger in SQLite: "
            "use sqlite:///chargly.db."
        )
    return Path(databases.DatabaseURL(database_url).database)


class Database:
    """One process's connections. `open` before use, `close` at the end."""

    def __init__(self, config: Config) -> None:
        limits = config.limits
        self._pool = databases.Database(
            config.database_url, factory=_connection_class(limits), cached_statements=_STATEMENTS_CACHED
        )
        self._wait_seconds = limits.write_wait_seconds_max
        self._readers: asyncio.Queue[HeldConnection] = asyncio.Queue(limits.read_connections)
        self._reader_count = limits.read_connections
        self._writer: HeldConnection | None = None
        self._held: set[HeldConnection] = set()
        self._opening = asyncio.Lock()
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._waiting_max = limits.transactions_waiting_max
        self._under_way: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Opens every connection it will hold."""
        await self._pool.connect()
        self._writer = await self._hold()
        for _ in range(self._reader_count):
            self._readers.put_nowait(await self._hold())

    async def close(self) -> None:
        """Closes them; what is under way ends first. Where it hangs, each thread is told to end when it comes back."""
        while self._under_way:
            ended, hanging = await asyncio.wait(self._under_way, timeout=self._wait_seconds)
            if hanging and not ended:
                log.error("the database did not answer for %s seconds", self._wait_seconds)
                for held in self._held:
                    _raw(held).stop()
                return
        for held in self._held:
            await held.__aexit__()
        await self._pool.disconnect()

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
        # A task of its own: a read whose caller has left keeps its connection until its thread has let go of it.
        task = self._start(self._read(reader, query, values))
        try:
            done, _ = await asyncio.wait((task,), timeout=self._wait_seconds)
        except asyncio.CancelledError:
            await _raw(reader).interrupt()
            raise
        if not done:
            await _raw(reader).interrupt()
            raise Unavailable
        return task.result()

    async def _read(
        self, reader: HeldConnection, query: ClauseElement | str, values: dict[str, Any] | None
    ) -> list[Any]:
        try:
            return list(await reader.fetch_all(query, values))
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _PASSING:
                log.exception("a read failed")
                reader = await self._replacement(reader)
            raise Unavailable from error
        finally:
            self._readers.put_nowait(reader)

    async def _replacement(self, broken: HeldConnection) -> HeldConnection:
        try:
            fresh = await self._hold()
        except (sqlite3.Error, OSError) as error:
            log.warning("a new connection could not be opened: %s", error)
            return broken
        await self._let_go(broken)
        return fresh

    async def fetch_one(self, query: ClauseElement | str, values: dict[str, Any] | None = None) -> Any | None:
        """The first row of a query, or None. Fails as `fetch_all` does."""
        rows = await self.fetch_all(query, values)
        return rows[0] if rows else None

    async def transact(self, script: Callable[[], Script[T]]) -> T:
        """Runs a script as one transaction when its turn comes: of these one at a time, so that metering goes on.

        Raises:
            Busy: too many wait, or the turn did not come in time.
            As `hand_over` does.

        """
        if self._waiting >= self._waiting_max:
            raise Busy
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._turn.acquire()
        except TimeoutError as error:
            raise Busy from error
        finally:
            self._waiting -= 1
        try:
            return await self.hand_over(script)
        finally:
            self._turn.release()

    async def hand_over(
        self, script: Callable[[], Script[T]], on_commit: Callable[[T], None] = lambda _result: None
    ) -> T:
        """Runs a script as one transaction, whole or not at all. A caller that leaves does not disturb it.

        Several may be handed over at once; they run one after the other, in order.

        Args:
            script: called when the transaction begins, in the thread where it runs.
            on_commit: told the result once it is committed, though its caller may have left or been told
                `OutcomeUnknown`. What it raises would hide that commit, so it must not.

        Raises:
            Busy: it did not come to its COMMIT in time, or another process holds the write lock; nothing was written.
            OutcomeUnknown: its COMMIT was sent and not answered in time.
            TransactionFailed: the database failed.
            Anything the script raises: it was rolled back.

        """
        attempt = _Attempt(script)
        task = self._start(self._run(attempt, on_commit))
        done, _ = await asyncio.wait((task,), timeout=self._wait_seconds)
        if done:
            return task.result()
        attempt.give_up()
        if attempt.committing:
            raise OutcomeUnknown
        if attempt.begun and attempt.held:
            await _raw(attempt.held).interrupt()
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

    async def _run(self, attempt: "_Attempt[T]", on_commit: Callable[[T], None]) -> T:
        held = self._writer or await self._reopened()
        attempt.held = held
        raw = _raw(held)
        try:
            result: T = await raw._execute(run_transaction, raw._conn, attempt)
        except _WriteLockTaken as error:
            raise Busy from error
        except sqlite3.Error as error:
            self._discard(held)
            raise TransactionFailed(str(error), rows_refused=isinstance(error, _ROWS_REFUSED)) from error
        on_commit(result)
        return result

    async def _reopened(self) -> HeldConnection:
        async with self._opening:
            if self._writer is None:
                try:
                    self._writer = await self._hold()
                except (sqlite3.Error, OSError) as error:
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

    async def _let_go(self, broken: HeldConnection) -> None:
        self._held.discard(broken)
        try:
            await broken.__aexit__()
        except sqlite3.Error as error:
            log.warning("a broken connection could not be closed: %s", error)

    async def _acquire(self) -> HeldConnection:
        return await self._pool.connection().__aenter__()


def _raw(held: HeldConnection) -> Any:
    """Aiosqlite's connection: its thread, and `interrupt`."""
    return held.raw_connection


class _Attempt(Generic[T]):
    """A transaction and how far it came. Its thread moves it on and the loop may give it up, each under its lock."""

    def __init__(self, script: Callable[[], Script[T]]) -> None:
        self._script = script
        self._lock = threading.Lock()
        self._given_up = False
        self.held: HeldConnection | None = None
        self.begun = False
        self.committing = False

    def begin(self) -> Script[T]:
        with self._lock:
            self._check()
            self.begun = True
            return self._script()

    def commit_comes_next(self) -> None:
        with self._lock:
            self._check()
            self.committing = True

    def give_up(self) -> None:
        """After this it does not commit, unless it is `committing` already."""
        with self._lock:
            self._given_up = True

    def _check(self) -> None:
        if self._given_up:
            raise Busy


class _WriteLockTaken(Exception):
    """BEGIN IMMEDIATE waited its time and another process still writes."""


def run_transaction(connection: sqlite3.Connection, attempt: _Attempt[T]) -> T:
    """Drives a script on a connection of the calling thread: BEGIN IMMEDIATE, its statements, COMMIT."""
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            raise _WriteLockTaken(str(error)) from error
        raise
    try:
        result = _drive(connection, attempt.begin())
        attempt.commit_comes_next()
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result


def _drive(connection: sqlite3.Connection, script: Script[T]) -> T:
    rows: Any = None  # what a generator is sent to make it begin
    try:
        while True:
            sql, parameters = script.send(rows)
            rows = connection.execute(sql, parameters).fetchall()
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    finally:
        script.close()


def _connection_class(limits: Limits) -> type[sqlite3.Connection]:
    class LedgerConnection(sqlite3.Connection):
        """A connection that has its settings from birth, whoever opens it."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            for pragma in sqlite_pragmas(limits):
                self.execute(pragma)

    return LedgerConnection


def sqlite_pragmas(limits: Limits) -> tuple[str, ...]:
    """What every SQLite connection is told before anything else. FULL: what was committed is on disk."""
    return (
        f"PRAGMA busy_timeout = {limits.sqlite_busy_wait_ms}",
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = FULL",
        "PRAGMA foreign_keys = ON",
        f"PRAGMA wal_autocheckpoint = {limits.sqlite_wal_pages_checkpoint}",
    )
