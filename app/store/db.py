"""The database behind one door: held connections for reading, whole transactions for writing.

`databases` opens a SQLite connection for every call unless one is held, its `transaction()` sends a plain BEGIN (which
fails at once when another connection commits between a read and a write), and a failed COMMIT never gives its
connection back. So reads use connections held here, and a transaction is a *script*: a generator that yields statements
and is given their rows. On SQLite the whole script runs in one hop to the connection's own thread, between BEGIN
IMMEDIATE and COMMIT; after any failure that connection is replaced.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import databases
from databases.core import Connection as HeldConnection
from sqlalchemy.sql import ClauseElement

from app.config import Config, Limits
from app.errors import Busy, StartRefused

T = TypeVar("T")
Row: TypeAlias = Sequence[Any]
Statement: TypeAlias = tuple[str, Sequence[Any]]
Script: TypeAlias = Generator[Statement, list[Any], T]
"""A transaction: yields `(sql, parameters)`, is sent the rows, returns its result."""

_STATEMENTS_CACHED: Final = 512
_ROWS_REFUSED: Final = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.InterfaceError)


class TransactionFailed(Exception):
    """A transaction did not succeed; whether its COMMIT reached the disk is not known.

    `rows_refused` says that this transaction's own rows were refused, rather than the database failing for everyone.
    """

    def __init__(self, message: str, *, rows_refused: bool) -> None:
        super().__init__(message)
        self.rows_refused = rows_refused


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
        self._readers: asyncio.LifoQueue[HeldConnection] = asyncio.LifoQueue(limits.read_connections)
        self._reader_count = limits.read_connections
        self._writer: HeldConnection | None = None
        self._writing = asyncio.Lock()

    async def open(self) -> None:
        """Opens every connection it will hold."""
        await self._pool.connect()
        self._writer = await self._hold()
        for _ in range(self._reader_count):
            self._readers.put_nowait(await self._hold())

    async def close(self) -> None:
        """Closes them; a transaction under way ends first."""
        async with self._writing:
            held, self._writer = self._writer, None
            if held is not None:
                await held.__aexit__()
        while not self._readers.empty():
            await self._readers.get_nowait().__aexit__()
        await self._pool.disconnect()

    async def fetch_all(self, query: ClauseElement | str, values: dict[str, Any] | None = None) -> list[Any]:
        """All rows of a query, each with its columns as attributes.

        Raises:
            Busy: no connection came free in time, or the database did not answer.

        """
        try:
            async with asyncio.timeout(self._wait_seconds):
                reader = await self._readers.get()
                try:
                    return list(await reader.fetch_all(query, values))
                finally:
                    self._readers.put_nowait(reader)
        except (TimeoutError, sqlite3.OperationalError) as error:
            raise Busy from error

    async def fetch_one(self, query: ClauseElement | str, values: dict[str, Any] | None = None) -> Any | None:
        """The first row of a query, or None. Fails as `fetch_all` does."""
        rows = await self.fetch_all(query, values)
        return rows[0] if rows else None

    async def transact(self, script: Callable[[], Script[T]]) -> T:
        """Runs a script as one transaction, whole or not at all. A caller that leaves does not disturb it.

        Raises:
            Busy: another process holds the write lock for too long; nothing was written.
            TransactionFailed: the database failed; if it was at COMMIT, the outcome is unknown.
            Anything the script raises: it was rolled back.

        """
        return await asyncio.shield(asyncio.ensure_future(self._transact(script)))

    async def _transact(self, script: Callable[[], Script[T]]) -> T:
        async with self._writing:
            if self._writer is None:
                self._writer = await self._hold()
            raw: Any = self._writer.raw_connection
            try:
                return await raw._execute(run_transaction, raw._conn, script)  # type: ignore[no-any-return]
            except _WriteLockTaken as error:
                raise Busy from error
            except sqlite3.Error as error:
                await self._replace_writer()
                raise TransactionFailed(str(error), rows_refused=isinstance(error, _ROWS_REFUSED)) from error

    async def _replace_writer(self) -> None:
        broken, self._writer = self._writer, None
        if broken is not None:
            try:
                await broken.__aexit__()
            finally:
                self._writer = await self._hold()

    async def _hold(self) -> HeldConnection:
        # `databases` keeps one connection for each task: a task of its own gives a connection of its own.
        return await asyncio.create_task(self._acquire())

    async def _acquire(self) -> HeldConnection:
        return await self._pool.connection().__aenter__()


class _WriteLockTaken(Exception):
    """BEGIN IMMEDIATE waited its time and another process still writes."""


def run_transaction(connection: sqlite3.Connection, script: Callable[[], Script[T]]) -> T:
    """Drives a script on a connection of the calling thread: BEGIN IMMEDIATE, its statements, COMMIT."""
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            raise _WriteLockTaken(str(error)) from error
        raise
    try:
        result = _drive(connection, script())
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
