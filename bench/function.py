"""A ledger in PostgreSQL as one would write it there: a function for each event, double entry, one call a request.

An event moves credits from the customer's account to the product's, with a transfer, an entry on each side, and both
accounts locked in the order of their ids. Each process holds a pool of connections.
"""

import contextlib
import os
import uuid
from collections.abc import AsyncIterator
from typing import Final

import asyncpg
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.bare import PRICE_CREDITS, event_request, event_response, ready

_CONNECTIONS: Final = 8
"""For each process. More make it slower: they wait for the same row."""
_PRODUCT: Final = "the product"
_TRANSFER: Final = "SELECT balance, version FROM move_credits($1, $2, $3, $4, $5)"
SCHEMA: Final = f"""
CREATE TABLE accounts (
    id text PRIMARY KEY, balance bigint NOT NULL, version bigint NOT NULL, may_be_negative boolean NOT NULL);
CREATE TABLE transfers (
    id text PRIMARY KEY, from_account text NOT NULL REFERENCES accounts, to_account text NOT NULL REFERENCES accounts,
    credits bigint NOT NULL CHECK (credits > 0), event text NOT NULL, created_at timestamptz NOT NULL);
CREATE TABLE entries (
    account text NOT NULL REFERENCES accounts, version bigint NOT NULL, transfer text NOT NULL REFERENCES transfers,
    credits bigint NOT NULL, balance_before bigint NOT NULL, balance bigint NOT NULL, created_at timestamptz NOT NULL,
    PRIMARY KEY (account, version));
CREATE INDEX entries_by_transfer ON entries (transfer);
INSERT INTO accounts VALUES ('{_PRODUCT}', 0, 0, true);
CREATE FUNCTION move_credits(
    the_id text, the_from text, the_to text, the_credits bigint, the_event text, OUT balance bigint, OUT version bigint)
LANGUAGE plpgsql AS $$
DECLARE
    payer accounts; taker accounts; at timestamptz := clock_timestamp();
BEGIN
    PERFORM 1 FROM accounts WHERE id IN (the_from, the_to) ORDER BY id FOR UPDATE;
    UPDATE accounts SET balance = accounts.balance - the_credits, version = accounts.version + 1
        WHERE id = the_from RETURNING * INTO payer;
    UPDATE accounts SET balance = accounts.balance + the_credits, version = accounts.version + 1
        WHERE id = the_to RETURNING * INTO taker;
    IF payer.balance < 0 AND NOT payer.may_be_negative THEN
        RAISE EXCEPTION 'insufficient credits';
    END IF;
    INSERT INTO transfers VALUES (the_id, the_from, the_to, the_credits, the_event, at);
    INSERT INTO entries VALUES
        (the_from, payer.version, the_id, -the_credits, payer.balance + the_credits, payer.balance, at),
        (the_to, taker.version, the_id, the_credits, taker.balance - the_credits, taker.balance, at);
    balance := payer.balance;
    version := payer.version;
END $$;
"""


async def set_up(url: str, customer_id: str, credits: int) -> None:
    """Makes the tables and the function, and an account with credits."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(SCHEMA)
        await connection.execute("INSERT INTO accounts VALUES ($1, $2, 0, false)", customer_id, credits)
    finally:
        await connection.close()


async def _create_event(request: Request) -> Response:
    asked = await event_request(request)
    event_id = f"evt_{uuid.uuid4().hex}"
    arguments = (event_id, asked.customer_id, _PRODUCT, PRICE_CREDITS, asked.event)
    row = await request.app.state.pool.fetchrow(_TRANSFER, *arguments)
    return event_response(asked, event_id, row["balance"], row["version"])


@contextlib.asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=_CONNECTIONS, max_size=_CONNECTIONS) as pool:
        app.state.pool = pool
        yield


app = Starlette(routes=[Route("/v1/events", _create_event, methods=["POST"]), Route("/", ready)], lifespan=_lifespan)
