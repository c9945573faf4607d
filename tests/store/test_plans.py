"""How each query finds its rows: by an index, on both engines, however long a ledger gets."""

import re
import sqlite3
from typing import Any

import pytest
from msgspec.structs import replace
from postgres import PostgresServer
from store.test_postgres import new_checkout
from store.test_verify import a_bit_of_everything
from store.writing import Ledger, open_ledger

from app.config import Config, Limits
from app.store import checkouts, deliveries, keys, reads, webhooks
from app.store import sqlite as store_sqlite
from app.store.catalogue import PriceDraft
from app.store.dialect import place
from app.store.expiring import tell_of_expiring
from app.store.usage import UsageStore
from app.webhooks.retries import Answer, result_of

GROWING = (
    "wallets",
    "members",
    "grants",
    "holds",
    "entries",
    "checkouts",
    "api_keys",
    "webhook_deliveries",
    "usage_pending",
    "usage_hours",
    "usage_days",
    "usage_of_wallets",
    "usage_of_customers",
)
"""Tables that grow with customers and time. The others have a named limit."""
THOSE_THAT_ARE_LOW = "SCAN wallets USING INDEX wallets_with_threshold"
"""The index has these wallets alone."""
POSTPONES = "UPDATE webhook_deliveries SET next_at = CAST"
"""What a wallet says next waits for what it said before; others that wait for the same endpoint are not looked at."""
THOSE_THAT_WAIT = "SCAN webhook_deliveries USING INDEX webhook_deliveries_next"
"""The index has these deliveries alone, and they are counted up to a limit."""


async def everything_that_is_asked(ledger: Ledger) -> None:
    """Each read of a customer, an operator, a job or a page, and a transaction of each kind."""
    await a_bit_of_everything(ledger)
    db = ledger.db
    await checkouts.create(db, new_checkout(1, idempotency_key="k2"))
    await checkouts.find(db, "co_1")
    await checkouts.find_by_key(db, "u", "k2", "h")
    await keys.find_key(db, "hash")
    await reads.wallet(db, "u")
    await reads.versions(db, ["u", "a"])
    await reads.state(db, "u", member="alice")
    await reads.due_wallets(db, 10)
    await reads.wallets(db, query=None, state=None, limit=10, after=None)
    await reads.wallets(db, query=None, state=None, limit=10, after="a")
    for after in (None, "a"):
        await reads.wallets(db, query=None, state="low", limit=10, after=after)
    for after in (None, "alice"):
        await reads.members(db, "u", limit=10, after=after)
    for status in (None, "open"):
        for before in (None, "hold_9"):
            await reads.holds(db, "u", status=status, limit=10, before=before)
    await reads.hold(db, "hold_left")
    for wanted in (
        reads.EntryFilter(),
        reads.EntryFilter(quiet=True),
        reads.EntryFilter(kind="hold"),
        reads.EntryFilter(event="chat.reply", since=1, until=2**52),
    ):
        for before in (None, 5):
            await reads.entries(db, "u", wanted, limit=10, before=before)
    await reads.moves_since(db, "u", 3, 20)
    await reads.entry(db, "evt_0")
    await ledger.catalogue.fresh()
    await everything_of_usage(ledger)
    await everything_of_webhooks(ledger)


async def everything_of_usage(ledger: Ledger) -> None:
    """What goes on by itself; reports add up as many rows as lie in their time, and sort their groups."""
    assert await UsageStore(ledger.db, ledger.config.limits).catch_up()


async def everything_of_webhooks(ledger: Ledger) -> None:
    db = ledger.db
    made = await webhooks.create_endpoint(
        db, url="https://h/", events=("*",), description=None, secret="whsec_", most=9
    )
    await ledger.catalogue.put_price(PriceDraft(event="chat.reply", credits=9, label="Reply"))
    sent = await deliveries.write_test(db, made.id)
    await deliveries.due_deliveries(db, {made: 16, replace(made, id="whe_0"): 2}, 2**45)
    for answer in (Answer(status=500), Answer(status=204), Answer(status=410)):
        wallets_own = replace(sent, customer_id="u")
        results = [result_of(one, answer, sent.created_at + 1, ledger.config.limits) for one in (sent, wallets_own)]
        await deliveries.record(db, results, failing_ms_max=0, swept_at_once=10)
        await webhooks.change_endpoint(db, made.id, webhooks.EndpointChange(disabled=None), swept_at_once=10)
    for status in (None, "pending", "delivered", "failed"):
        for before in (None, (2**45, "del_1")):
            await deliveries.list_deliveries(db, made.id, status=status, limit=10, before=before)
    await deliveries.retry(db, made.id, sent.id)
    await deliveries.count_pending(db, 10)
    await tell_of_expiring(db, now=0, window_ms=2**45, most=10)
    await deliveries.sweep(db, ended_before=2**45, most=10)
    await webhooks.delete_endpoint(db, made.id)
    await deliveries.sweep(db, ended_before=2**45, most=10)


@pytest.mark.sqlite
async def test_sqlite_walks_through_no_table_that_grows(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    made = store_sqlite._connection_class

    def traced(limits: Limits) -> type[sqlite3.Connection]:
        class Traced(made(limits)):  # type: ignore[misc]
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                self.set_trace_callback(seen.append)

        return Traced

    monkeypatch.setattr(store_sqlite, "_connection_class", traced)
    async with open_ledger(config) as ledger:
        await everything_that_is_asked(ledger)
    monkeypatch.undo()
    planner = made(config.limits)(place(config.database_url))
    queries = sorted({sql for sql in seen if re.match(r"SELECT|INSERT|UPDATE|DELETE|WITH", sql)})
    assert len(queries) > 60
    planned = [(sql, step) for sql in queries for step in steps(planner, sql)]
    planner.close()
    walked = [(sql, step) for sql, step in planned if walks(step)]
    # The first page of all wallets is read in the order of their key, and ends at its limit.
    assert [sql for sql, _ in walked if not re.search(r"FROM wallets ORDER BY wallets.customer_id\s+LIMIT", sql)] == []
    assert {step for _, step in walked} == {"SCAN wallets"}
    postponed = [step for sql, step in planned if sql.startswith(POSTPONES) and "webhook_deliveries" in step]
    assert all("webhook_deliveries_pending (endpoint_id=? AND customer_id=?" in step for step in postponed)
    assert postponed


def steps(planner: sqlite3.Connection, sql: str) -> list[str]:
    return [row[3] for row in planner.execute(f"EXPLAIN QUERY PLAN {sql}")]


def walks(step: str) -> bool:
    """Whether it goes through all of a table that grows, or sorts what it found."""
    words = step.split()
    few = (THOSE_THAT_ARE_LOW, THOSE_THAT_WAIT)
    through_all = words[0] == "SCAN" and words[1] in GROWING and step not in few
    return through_all or "TEMP B-TREE" in step


@pytest.mark.postgresql
async def test_postgresql_walks_through_no_table_that_grows(config: Config, postgres: PostgresServer) -> None:
    """Small tables are walked through for good reason, so the planner is told to do so only where there is no index."""
    url = config.database_url
    postgres.execute(f"ALTER DATABASE {url.partition('@/')[2].partition('?')[0]} SET enable_seqscan = off")
    before = walks_counted(postgres, url)
    async with open_ledger(config) as ledger:
        await everything_that_is_asked(ledger)
    after = walks_counted(postgres, url)
    assert {name: after[name] - before[name] for name in GROWING} == dict.fromkeys(GROWING, 0)


def walks_counted(postgres: PostgresServer, url: str) -> dict[str, int]:
    rows = postgres.execute("SELECT relname, seq_scan FROM pg_stat_user_tables", url)
    return {row["relname"]: row["seq_scan"] for row in rows}
