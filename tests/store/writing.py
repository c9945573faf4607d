"""A ledger without HTTP: a writer, its database, and what it told its listeners."""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from app.config import Config, Limits
from app.rules.operations import AddGrant, Event
from app.store import postgres as store_postgres
from app.store import reads
from app.store import sqlite as store_sqlite
from app.store.batch import Outcome, WalletChange
from app.store.catalogue import CatalogueStore
from app.store.db import Database
from app.store.ids import new_id
from app.store.writer import Writer

LIMITS = Limits(sqlite_busy_wait_ms=50, write_queue_max=100, write_batch_max=32)


class Ledger:
    """A writer, its database, and what it told its listeners."""

    def __init__(self, db: Database, writer: Writer, catalogue: CatalogueStore, config: Config) -> None:
        self.db, self.writer, self.catalogue, self.config = db, writer, catalogue, config
        self.told: list[WalletChange] = []

    async def give(self, customer_id: str, credits: int) -> Outcome:
        grant_id = new_id("grant", customer_id)
        return await self.writer.submit(
            AddGrant(customer_id=customer_id, id=grant_id, credits=credits, category="promotional")
        )

    async def meter(self, customer_id: str, **fields: Any) -> Outcome:
        return await self.writer.submit(event(customer_id, **fields))

    async def balance(self, customer_id: str) -> int:
        wallet = await reads.wallet(self.db, customer_id)
        return wallet.balance if wallet else 0

    async def entries(self, customer_id: str) -> list[Any]:
        found, _ = await reads.entries(self.db, customer_id, reads.EntryFilter(), limit=100, before=None)
        return found


def event(customer_id: str, **fields: Any) -> Event:
    base = {"customer_id": customer_id, "id": new_id("evt", customer_id), "event": "chat.reply", "metadata": {}}
    return Event(**base | fields)


@contextlib.asynccontextmanager
async def open_ledger(config: Config) -> AsyncIterator[Ledger]:
    db = Database(config)
    await db.open()
    catalogue = CatalogueStore(db, config.limits)
    await catalogue.fresh()
    told: list[WalletChange] = []
    writer = Writer(db, catalogue, config, lambda changes, _generation: told.extend(changes))
    made = Ledger(db, writer, catalogue, config)
    made.told = told
    try:
        yield made
    finally:
        await writer.close()
        await db.close()


async def settled(*calls: Any) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


def fail_once(monkeypatch: pytest.MonkeyPatch, *, after_commit: bool) -> threading.Event:
    """Makes the next transaction fail, whichever database it goes to; the event says that it is committed, if it is."""
    run, send, failed, begun = store_sqlite.run_transaction, store_postgres.send, [], threading.Event()

    def failing(connection: sqlite3.Connection, attempt: Any) -> Any:
        if failed:
            return run(connection, attempt)
        failed.append(1)
        if after_commit:
            run(connection, attempt)
            begun.set()
        else:
            connection.execute("BEGIN IMMEDIATE")  # left open, as a COMMIT that failed leaves it
        raise sqlite3.OperationalError("disk I/O error")

    async def losing_the_answer(raw: Any, sql: str, parameters: Any) -> Any:
        if failed or sql != "COMMIT":
            return await send(raw, sql, parameters)
        failed.append(1)
        if after_commit:
            await send(raw, sql, parameters)
            begun.set()
        raw.terminate()
        raise asyncpg.ConnectionDoesNotExistError("the connection was lost at COMMIT")

    monkeypatch.setattr(store_sqlite, "run_transaction", failing)
    monkeypatch.setattr(store_postgres, "send", losing_the_answer)
    return begun
