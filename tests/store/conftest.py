"""Ledgers on a real database of either kind, and one that hangs when told to."""

import asyncio
import re
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from msgspec.structs import replace
from store.writing import LIMITS, Ledger, open_ledger

from app.config import Config
from app.store import postgres as store_postgres
from app.store import sqlite as store_sqlite
from app.store.migrate import migrate

Hang = Callable[[str], tuple[threading.Event, threading.Event]]


class Slow:
    """A connection whose statements of one kind wait until they are let go."""

    def __init__(
        self, connection: sqlite3.Connection, verb: str, reached: threading.Event, go: threading.Event
    ) -> None:
        self._connection, self._verb, self._reached, self._go = connection, verb, reached, go

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        if re.search(rf"\b{self._verb}\b", sql):
            self._reached.set()
            assert self._go.wait(30)
        return self._connection.execute(sql, parameters)

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Hang:
    """Makes the next statement of a kind hang, whichever database it goes to; gives (reached, go)."""

    def begin(verb: str) -> tuple[threading.Event, threading.Event]:
        run, send, reached, go = (
            store_sqlite.run_transaction,
            store_postgres.send,
            threading.Event(),
            threading.Event(),
        )

        def slowed(connection: Any, attempt: Any) -> Any:
            return run(Slow(connection, verb, reached, go), attempt)  # type: ignore[arg-type]

        async def sent_slowly(raw: Any, sql: str, parameters: Any) -> Any:
            if re.search(rf"\b{verb}\b", sql):
                reached.set()
                async with asyncio.timeout(30):
                    while not go.is_set():
                        await asyncio.sleep(0.005)
            return await send(raw, sql, parameters)

        monkeypatch.setattr(store_sqlite, "run_transaction", slowed)
        monkeypatch.setattr(store_postgres, "send", sent_slowly)
        return reached, go

    return begin


@pytest.fixture
def config(engine: str, database_url: str) -> Config:
    made = Config(database_url=database_url, limits=LIMITS)
    if engine == "sqlite":  # PostgreSQL's is a copy of one that was migrated
        migrate(made)
    return made


@pytest.fixture
async def impatient(config: Config) -> AsyncIterator[Ledger]:
    limits = replace(config.limits, write_wait_seconds_max=0.5, write_recovery_seconds=0.05)
    async with open_ledger(replace(config, limits=limits)) as made:
        yield made


@pytest.fixture
async def ledger(config: Config) -> AsyncIterator[Ledger]:
    async with open_ledger(config) as made:
        yield made
