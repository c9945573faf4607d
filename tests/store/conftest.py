"""Ledgers on a real SQLite file, and a database that hangs when told to."""

import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from store.writing import LIMITS, Ledger, open_ledger

from app.config import Config
from app.store import db as store_db
from app.store.migrate import migrate


class Slow:
    """A connection whose statements of one kind wait until they are let go."""

    def __init__(
        self, connection: sqlite3.Connection, verb: str, reached: threading.Event, go: threading.Event
    ) -> None:
        self._connection, self._verb, self._reached, self._go = connection, verb, reached, go

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        if sql.startswith(self._verb):
            self._reached.set()
            assert self._go.wait(30)
        return self._connection.execute(sql, parameters)

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[threading.Event, threading.Event]]:
    """Makes the next statement of a kind hang in its thread; gives (reached, go)."""

    def begin(verb: str) -> tuple[threading.Event, threading.Event]:
        run, reached, go = store_db.run_transaction, threading.Event(), threading.Event()

        def slowed(connection: Any, attempt: Any) -> Any:
            return run(Slow(connection, verb, reached, go), attempt)  # type: ignore[arg-type]

        monkeypatch.setattr(store_db, "run_transaction", slowed)
        return reached, go

    return begin


@pytest.fixture
def config(tmp_path: Path) -> Config:
    made = Config(database_url=f"sqlite:///{tmp_path}/ledger.db", limits=LIMITS)
    migrate(made)
    return made


@pytest.fixture
async def impatient(config: Config) -> AsyncIterator[Ledger]:
    limits = replace(config.limits, write_wait_seconds_max=0.2, write_recovery_seconds=0.05)
    async with open_ledger(replace(config, limits=limits)) as made:
        yield made


@pytest.fixture
async def ledger(config: Config) -> AsyncIterator[Ledger]:
    async with open_ledger(config) as made:
        yield made
