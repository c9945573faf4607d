"""A transaction as a script, how far it came, and what each database engine does its own way with it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import databases
from databases.core import Connection as HeldConnection

from app.errors import Busy
from app.store.dialect import Statement

T = TypeVar("T")
Row: TypeAlias = Sequence[Any]
Script: TypeAlias = Generator[Statement, list[Any], T]
"""A transaction: yields `(sql, parameters)`, is sent the rows, returns its result."""


class Attempt(Generic[T]):
    """A transaction and how far it came. Its engine moves it on and its caller may give it up, each under its lock.

    On SQLite the engine is in a thread of its own.
    """

    def __init__(self, script: Callable[[], Script[T]]) -> None:
        self._script = script
        self._lock = threading.Lock()
        self._given_up = False
        self.held: HeldConnection | None = None
        self.begun = False
        self.committing = False
        self.spoilt = False
        """Whether its connection is in the midst of something, and no other transaction may follow on it."""

    def begin(self) -> Script[T]:
        """Its script, from the start; again where it was rolled back and is to be repeated."""
        with self._lock:
            self._check()
            self.begun = True
            self.committing = False
            return self._script()

    def commit_comes_next(self) -> None:
        """From here on it may commit."""
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


class Snapshot(Protocol):
    """The database as of one moment, for reading more than fits in memory."""

    def stream(self, sql: str, parameters: Sequence[Any], rows: int) -> AsyncIterator[list[tuple[Any, ...]]]:
        """The rows of a query, some at a time; several may be read side by side.

        Args:
            sql: its text, with `?` for each parameter.
            parameters: their values.
            rows: in one chunk, at most.

        Raises:
            Unavailable: the database failed.

        """
        ...


class Engine(Protocol):
    """What SQLite and PostgreSQL each do their own way. A connection is one held of `pool`."""

    pool: databases.Database
    turn: AbstractAsyncContextManager[Any]
    """Held while a transaction is run, where the connection itself does not put them in a row."""
    failures: tuple[type[Exception], ...]
    """What the database or the way to it raises when it fails."""

    def is_open(self, held: HeldConnection, /) -> bool:
        """False where the connection is known to be lost."""
        ...

    async def prepare_reader(self, held: HeldConnection, /) -> None:
        """Gives a connection for reading its bounds."""
        ...

    async def prepare_writer(self, held: HeldConnection, /) -> None:
        """Makes a connection ready for transactions."""
        ...

    async def run(self, held: HeldConnection, attempt: Attempt[T], /) -> T:
        """Drives a script between BEGIN and COMMIT. Raises `Busy` where the database says "later", or its failures."""
        ...

    async def end_statement(self, held: HeldConnection, task: asyncio.Task[Any], /) -> None:
        """Ends what a connection does for a task."""
        ...

    async def at_rest(self, held: HeldConnection, /) -> bool:
        """Whether a connection whose statement was ended can serve the next."""
        ...

    async def let_go(self, held: HeldConnection, /) -> None:
        """Closes a connection, in whatever state it is. Raises its failures."""
        ...

    def abandon(self, held: HeldConnection, /) -> None:
        """Closes a connection that hangs, without waiting for it."""
        ...

    def spares_connection(self, error: BaseException) -> bool:
        """Whether an error says nothing against its connection."""
        ...

    def finds_nothing(self, error: Exception, /) -> bool:
        """Whether an error of a read says that no row can have what was asked for."""
        ...

    def refuses_rows(self, error: Exception) -> bool:
        """Whether an error says that a transaction's own rows were refused."""
        ...

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        """A snapshot on a connection of its own. Raises its failures."""
        ...
