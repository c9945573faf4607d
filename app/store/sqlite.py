"""SQLite: a whole transaction in one hop to its connection's thread, between BEGIN IMMEDIATE and COMMIT.

`databases` opens a connection for every call unless one is held, and its `transaction()` sends a plain BEGIN, which
fails at once when another connection commits between a read and a write.
"""

import asyncio
import contextlib
import itertools
import sqlite3
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import databases
from databases.core import Connection as HeldConnection

from app.config import Config, Limits
from app.errors import Busy, Unavailable
from app.store.transaction import Attempt, Script

T = TypeVar("T")

_ROWS_REFUSED: Final = (sqlite3.IntegrityError, sqlite3.DataError)
_connection_numbers: Final = itertools.count(1)
_PASSING: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT)
"""Errors that say nothing against a connection."""


def sqlite_path(database_url: str) -> Path:
    """The file that a `sqlite:///…` address names."""
    return Path(databases.DatabaseURL(database_url).database)


class SqliteEngine:
    """SQLite's way of an `Engine`: its connection's thread is what puts transactions in a row."""

    failures: tuple[type[Exception], ...] = (sqlite3.Error, OSError)

    def __init__(self, config: Config) -> None:
        self._limits = config.limits
        self._path = sqlite_path(config.database_url)
        self.turn: contextlib.AbstractAsyncContextManager[Any] = contextlib.nullcontext()
        self.pool = databases.Database(
            config.database_url,
            factory=_connection_class(config.limits),
            cached_statements=config.limits.statements_cached_max,
        )

    def is_open(self, _held: HeldConnection) -> bool:
        """A file is not lost as a network is."""
        return True

    async def prepare_reader(self, _held: HeldConnection) -> None:
        """It was born with its bounds."""

    async def prepare_writer(self, _held: HeldConnection) -> None:
        """It too."""

    async def run(self, held: HeldConnection, attempt: Attempt[T]) -> T:
        """Drives a script in the connection's thread."""
        raw = held.raw_connection
        try:
            # aiosqlite's own way into its thread; public calls go there for one statement each. Pinned to 0.22 for it.
            result: T = await raw._execute(run_transaction, raw._conn, attempt)
        except WriteLockTaken as error:
            raise Busy from error
        except sqlite3.Error:
            attempt.spoilt = True
            raise
        return result

    async def end_statement(self, held: HeldConnection, _task: asyncio.Task[Any]) -> None:
        """Interrupts what runs in the connection's thread."""
        await held.raw_connection.interrupt()

    async def at_rest(self, _held: HeldConnection) -> bool:
        """An interrupted thread has come back when it can be asked."""
        return True

    async def let_go(self, held: HeldConnection) -> None:
        """Closes it in its thread."""
        await held.__aexit__()

    def abandon(self, held: HeldConnection) -> None:
        """Tells the connection's thread to end when it comes back."""
        held.raw_connection.stop()

    def spares_connection(self, error: BaseException) -> bool:
        """A lock and an interrupt pass by; after any other error the connection is replaced."""
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in _PASSING

    def finds_nothing(self, _error: Exception) -> bool:
        """SQLite compares with whatever it is given."""
        return False

    def refuses_rows(self, error: Exception) -> bool:
        """Constraints, and values that fit no column."""
        return isinstance(error, _ROWS_REFUSED)

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator["SqliteSnapshot"]:
        """A read transaction on a connection and thread of its own."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="snapshot")
        loop = asyncio.get_running_loop()
        try:
            connection = await loop.run_in_executor(thread, self._begin_reading)
            try:
                yield SqliteSnapshot(connection, thread)
            finally:
                connection.interrupt()
                thread.submit(connection.close)
        finally:
            thread.shutdown(wait=False)

    def _begin_reading(self) -> sqlite3.Connection:
        factory = _connection_class(self._limits)
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, factory=factory)
        try:
            connection.execute("PRAGMA temp_store = FILE")  # what it sorts may be more than fits in memory
            connection.execute("BEGIN")
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()  # the first read is what the snapshot is of
        except sqlite3.Error:
            connection.close()
            raise
        return connection


class SqliteSnapshot:
    """The file as of one moment. While it is open, the write-ahead log grows with what is written meanwhile."""

    def __init__(self, connection: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._connection = connection
        self._thread = thread

    async def stream(self, sql: str, parameters: Sequence[Any], rows: int) -> AsyncIterator[list[tuple[Any, ...]]]:
        """The rows of a query, some at a time."""
        call = asyncio.get_running_loop().run_in_executor
        try:
            cursor = await call(self._thread, self._connection.execute, sql, parameters)
            while chunk := await call(self._thread, cursor.fetchmany, rows):
                yield chunk
        except sqlite3.Error as error:
            raise Unavailable from error


class WriteLockTaken(Exception):
    """BEGIN IMMEDIATE waited its time and another process still writes."""


def run_transaction(connection: sqlite3.Connection, attempt: Attempt[T]) -> T:
    """Drives a script on a connection of the calling thread: BEGIN IMMEDIATE, its statements, COMMIT."""
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            raise WriteLockTaken(str(error)) from error
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
            number = next(_connection_numbers)
            self.create_function("connection_number", 0, lambda: number)

    return LedgerConnection


def sqlite_pragmas(limits: Limits) -> tuple[str, ...]:
    """What every SQLite connection is told before anything else. FULL: what was committed is on disk."""
    return (
        f"PRAGMA busy_timeout = {limits.sqlite_busy_wait_ms}",
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = FULL",
        "PRAGMA foreign_keys = ON",
        # A statement of many rows keeps what it may have to undo aside: in a file, that costs as much as the rows do.
        "PRAGMA temp_store = MEMORY",
        f"PRAGMA wal_autocheckpoint = {limits.sqlite_wal_pages_checkpoint}",
    )
