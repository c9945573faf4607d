"""PostgreSQL: a script is driven statement by statement on the asyncpg connection under `databases`.

Transactions take turns on one connection, so they run one after the other, in order. What hangs is cancelled; a
connection that does not come to rest after that is closed, and another one opened. `databases` never gives a connection
back after a failed COMMIT, so BEGIN and COMMIT are sent here.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final, TypeVar

import asyncpg
import databases
from databases.core import Connection as HeldConnection

from app.config import Config
from app.errors import Busy, Unavailable
from app.store.dialect import numbered
from app.store.transaction import Attempt, Script

log = logging.getLogger("chargly.store")

T = TypeVar("T")

FAILURES: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""What asyncpg raises for a fault of the database, of the way to it, or of a value; time-outs are an OSError."""

_BEGIN: Final = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_ROLLED_BACK_FOR_OTHERS: Final = ("40001", "40P01")
"""A serialization failure and a deadlock: nothing was written, and the same again may well succeed."""
_WAITED: Final = ("55P03", "57014")
"""A lock did not come free in time, a statement was cancelled."""
_ROWS_REFUSED: Final = ("22", "23")
"""Classes of errors: a value that is none of its type, a constraint."""
_NO_TEXT: Final = "22021"
_PASSING_CLASSES: Final = (*_ROWS_REFUSED, "40")


def connect_arguments(config: Config) -> dict[str, Any]:
    """What asyncpg needs to connect. It reads the address as libpq does, with `?host=/folder` and `sslmode`."""
    return {
        "dsn": config.database_url,
        "timeout": config.limits.write_wait_seconds_max,
        "server_settings": {"application_name": "chargly"},
    }


class PostgresEngine:
    """PostgreSQL's way of an `Engine`."""

    failures: tuple[type[Exception], ...] = FAILURES

    def __init__(self, config: Config) -> None:
        limits = config.limits
        self._hang_seconds = 2 * limits.write_wait_seconds_max  # callers give up after half of it
        self._cancel_seconds = limits.postgres_cancel_seconds_max
        self._retries = limits.transaction_retries_max
        self.turn: contextlib.AbstractAsyncContextManager[Any] = asyncio.Lock()
        self._arguments = connect_arguments(config)
        hang_ms = str(_milliseconds(self._hang_seconds))
        # A host that vanishes in a transaction would keep its locks until TCP notices: the server ends it before.
        bounds = {"lock_timeout": hang_ms, "idle_in_transaction_session_timeout": hang_ms}
        elsewhere: dict[str, Any] = dict.fromkeys(("host", "port", "user", "password", "database"))
        self.pool = databases.Database(
            "postgresql:///",  # what `databases` would read of an address, asyncpg reads of `dsn`
            **elsewhere,
            **self._arguments | {"server_settings": self._arguments["server_settings"] | bounds},
            min_size=0,
            max_size=limits.read_connections + 1,
            statement_cache_size=config.limits.statements_cached_max,
        )

    def is_open(self, held: HeldConnection) -> bool:
        """False where the server or the network has closed it, or we have."""
        try:
            return not held.raw_connection.is_closed()
        except asyncpg.InterfaceError:  # given back to the pool when it was closed
            return False

    async def prepare_reader(self, held: HeldConnection) -> None:
        """The server itself ends a read that takes too long, and refuses a write."""
        await held.raw_connection.execute(
            f"SET statement_timeout = {_milliseconds(self._hang_seconds)}; SET default_transaction_read_only = on"
        )

    async def prepare_writer(self, held: HeldConnection) -> None:
        """Gives it a name of its own, by which a batch knows whether it follows on the one before.

        Its statements find rows by their keys: a plan made for empty tables would go on reading full ones whole.
        """
        await held.raw_connection.execute(
            "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;"
            f"SET chargly.connection = '{secrets.token_hex(8)}'"
        )

    async def run(self, held: HeldConnection, attempt: Attempt[T]) -> T:
        """Drives a script, again where it was rolled back for the sake of another transaction."""
        for _ in range(1 + self._retries):
            try:
                return await self._run_once(held.raw_connection, attempt)
            except asyncpg.PostgresError as error:
                if error.sqlstate not in (*_ROLLED_BACK_FOR_OTHERS, *_WAITED):
                    raise
                if attempt.spoilt or error.sqlstate in _WAITED:
                    raise Busy from error
                log.info("a transaction is tried again: %s", error)
        raise Busy

    async def _run_once(self, raw: Any, attempt: Attempt[T]) -> T:
        attempt.spoilt = attempt.begun = True  # even BEGIN may hang, and is cancelled then
        try:
            with self._closed_after(raw, self._hang_seconds):  # it is given up and cancelled before
                await send(raw, _BEGIN, ())
                result = await self._drive(raw, attempt.begin())
                attempt.commit_comes_next()
            with self._closed_after(raw, self._hang_seconds):  # it is never cancelled: it may be done already
                await send(raw, "COMMIT", ())
        except BaseException as error:
            rolled_back = await self._answers(raw, "ROLLBACK")
            attempt.spoilt = not (rolled_back and self.spares_connection(error))
            raise
        attempt.spoilt = False
        return result

    async def _drive(self, raw: Any, script: Script[T]) -> T:
        rows: Any = None  # what a generator is sent to make it begin
        try:
            while True:
                sql, parameters = script.send(rows)
                rows = await send(raw, numbered(sql), parameters)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        finally:
            script.close()

    async def end_statement(self, _held: HeldConnection, task: asyncio.Task[Any]) -> None:
        """Cancels the task; asyncpg asks the server to cancel what it waits for."""
        task.cancel()

    async def at_rest(self, held: HeldConnection) -> bool:
        """Asks it for nothing, after what was cancelled has come to its end."""
        return await self._answers(held.raw_connection, "SELECT 1")

    async def let_go(self, held: HeldConnection) -> None:
        """Closes it at once, and gives its place back to the pool; the server rolls back."""
        self.abandon(held)
        await held.__aexit__()

    def abandon(self, held: HeldConnection) -> None:
        """Closes it at once."""
        _close(held.raw_connection)

    def spares_connection(self, error: BaseException) -> bool:
        """What refuses a statement for its values, its locks or its time; not a server that turns read-only."""
        if not isinstance(error, FAILURES):
            return True
        state = _state(error)
        return state[:2] in _PASSING_CLASSES or state in _WAITED

    def finds_nothing(self, error: Exception) -> bool:
        """A text with a NUL is refused even where it is only compared, and no row has one."""
        return _state(error) == _NO_TEXT

    def refuses_rows(self, error: Exception) -> bool:
        """Constraints, and values that fit no column."""
        return _state(error)[:2] in _ROWS_REFUSED

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator["PostgresSnapshot"]:
        """A repeatable read on a connection of its own, without the bounds of short reads."""
        connection = await self._begin_reading()
        try:
            yield PostgresSnapshot(connection)
        finally:
            connection.terminate()

    async def _begin_reading(self) -> Any:
        connection = await asyncpg.connect(**self._arguments)
        try:
            await connection.execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
            await connection.transaction(isolation="repeatable_read", readonly=True).start()
            await connection.execute("SELECT 1")  # the first statement is what the snapshot is of
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _answers(self, raw: Any, statement: str) -> bool:
        """Sends a statement that must be answered soon; where it is not, or fails, the connection is lost."""
        try:
            with self._closed_after(raw, self._cancel_seconds):
                await raw.execute(statement)
        except FAILURES:
            return False
        return True

    @contextlib.contextmanager
    def _closed_after(self, raw: Any, seconds: float) -> Iterator[None]:
        """Closes a connection that takes longer, so that whoever waits for it fails."""
        deadline = asyncio.get_running_loop().call_later(seconds, _close, raw)
        try:
            yield
        finally:
            deadline.cancel()


class PostgresSnapshot:
    """The database as of one moment; the server keeps what it deletes or changes meanwhile."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._turn = asyncio.Lock()

    async def stream(self, sql: str, parameters: Sequence[Any], rows: int) -> AsyncIterator[list[tuple[Any, ...]]]:
        """The rows of a query, some at a time, by a cursor of the server's."""
        try:
            async with self._turn:
                cursor = await self._connection.cursor(numbered(sql), *parameters)
            while chunk := await self._chunk(cursor, rows):
                yield chunk
        except FAILURES as error:
            raise Unavailable from error

    async def _chunk(self, cursor: Any, rows: int) -> list[tuple[Any, ...]]:
        async with self._turn:
            return [tuple(row) for row in await cursor.fetch(rows)]


async def send(raw: Any, sql: str, parameters: Sequence[Any]) -> list[Any]:
    """One statement of a transaction, and its rows."""
    if not parameters and sql in (_BEGIN, "COMMIT"):
        await raw.execute(sql)
        return []
    rows: list[Any] = await raw.fetch(sql, *parameters)
    return rows


def _close(raw: Any) -> None:
    with contextlib.suppress(asyncpg.InterfaceError):  # closed before, and given back to the pool
        raw.terminate()


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _state(error: BaseException) -> str:
    """The SQLSTATE of an error; of a value that asyncpg itself could not encode, that class; else nothing."""
    if isinstance(error, asyncpg.PostgresError):
        return error.sqlstate or ""
    return "22000" if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError) else ""
