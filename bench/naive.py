"""What a careful user of `databases` writes first: one transaction for each event, durable before it is answered.

One connection is held, since SQLite lets one write at a time and `databases` opens a connection for every task
otherwise, and a lock keeps the transactions apart.
"""

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator
from typing import Final

import databases
from databases.core import Connection
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.bare import PRICE_CREDITS, event_request, event_response, ready
from bench.programs import customer

CREDITS_EACH: Final = 10**12
_MAKE_ENTRIES: Final = (
    "CREATE TABLE entries (id TEXT PRIMARY KEY, customer_id TEXT NOT NULL, version INTEGER NOT NULL,"
    " event TEXT NOT NULL, quantity INTEGER NOT NULL, credits INTEGER NOT NULL, balance INTEGER NOT NULL,"
    " created_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)"
)
_SETUP: Final = (
    "PRAGMA busy_timeout = 5000",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "CREATE TABLE wallets (customer_id TEXT PRIMARY KEY, balance INTEGER NOT NULL, version INTEGER NOT NULL)",
    _MAKE_ENTRIES,
    "CREATE UNIQUE INDEX entries_by_wallet ON entries (customer_id, version)",
)
_READ: Final = "SELECT balance, version FROM wallets WHERE customer_id = :customer_id"
_DEDUCT: Final = (
    "UPDATE wallets SET balance = balance - :credits, version = version + 1"
    " WHERE customer_id = :customer_id AND version = :version AND balance >= :credits RETURNING balance, version"
)
_RECORD: Final = (
    "INSERT INTO entries (id, customer_id, version, event, quantity, credits, balance)"
    " VALUES (:id, :customer_id, :version, :event, :quantity, :credits, :balance)"
)


class Ledger:
    """Wallets and their events in a file, through one held connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._writing = asyncio.Lock()

    async def set_up(self, wallets: int) -> None:
        """Makes the tables, and wallets with `CREDITS_EACH` credits."""
        for statement in _SETUP:
            await self._connection.execute(statement)
        rows = [{"customer_id": customer(number), "credits": CREDITS_EACH} for number in range(1, wallets + 1)]
        async with self._connection.transaction():
            await self._connection.execute_many("INSERT INTO wallets VALUES (:customer_id, :credits, 1)", rows)

    async def create_event(self, request: Request) -> Response:
        """Deducts an event and answers after its commit: 404 without a wallet, 402 without the credits."""
        asked = await event_request(request)
        event_id = f"evt_{uuid.uuid4().hex}"
        wallet = {"customer_id": asked.customer_id}
        price = {"credits": PRICE_CREDITS}
        async with self._writing, self._connection.transaction():
            before = await self._connection.fetch_one(_READ, wallet)
            if before is None:
                return Response(status_code=404)
            after = await self._connection.fetch_one(_DEDUCT, wallet | price | {"version": before["version"]})
            if after is None:
                return Response(status_code=402)
            balance, version = after["balance"], after["version"]
            what = {"id": event_id, "event": asked.event, "quantity": asked.quantity}
            await self._connection.execute(_RECORD, wallet | price | what | {"version": version, "balance": balance})
        return event_response(asked, event_id, balance, version)


@contextlib.asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    async with databases.Database(os.environ["DATABASE_URL"]) as database, database.connection() as connection:
        ledger = Ledger(connection)
        await ledger.set_up(int(os.environ["WALLETS"]))
        app.router.routes.append(Route("/v1/events", ledger.create_event, methods=["POST"]))
        yield


app = Starlette(routes=[Route("/", ready)], lifespan=_lifespan)
