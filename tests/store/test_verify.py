"""The audit: a ledger with a bit of everything is clean, and each kind of tampering is found and named."""

import contextlib
import sqlite3
import time
from collections.abc import Callable
from functools import partial

import pytest
from store.writing import Ledger

from app.rules.audit import Mismatch
from app.rules.operations import (
    AddGrant,
    Adjust,
    Capture,
    ChangeSettings,
    LimitMember,
    MakeHold,
    Operation,
    Release,
    Reverse,
    Settle,
    TakeBack,
    TopUp,
    VoidGrant,
    derived_id,
)
from app.store.batch import Outcome
from app.store.db import Script
from app.store.dialect import place
from app.store.ids import new_id, now_ms
from app.store.verify import Audit

DAY_MS = 86_400_000


async def submit(ledger: Ledger, kind: type[Operation], id: str = "", **fields: object) -> Outcome:
    given = {"customer_id": "u", "id": id or new_id("op", "u")} | fields
    return await ledger.writer.submit(kind(**given))


async def a_bit_of_everything(ledger: Ledger) -> None:
    """Every kind of entry, in one wallet and beside two plain ones."""
    await ledger.give("a", 50)
    await ledger.give("z", 50)
    await ledger.meter("z", key="k", request_hash="h")
    now = now_ms()
    await submit(ledger, AddGrant, "grant_1", credits=100, category="paid", expires_at=now + DAY_MS)
    await submit(ledger, AddGrant, "grant_2", credits=30, category="promotional", effective_at=now + DAY_MS)
    await submit(ledger, AddGrant, "grant_3", credits=20, category="promotional", every="day", rollover="all")
    await submit(ledger, LimitMember, member="alice", limit_credits=1000, limit_per="week")
    charged = await ledger.meter("u", member="alice", key="k", request_hash="h")
    for number, end in enumerate((Capture, Release)):
        held = f"hold_{number}"
        await submit(ledger, MakeHold, held, credits=10, expires_in=60, member="alice", metadata={})
        more = {"credits": 4, "metadata": {}} if end is Capture else {}
        await submit(ledger, end, derived_id("evt", held), hold_id=held, member="alice", **more)
    await submit(ledger, MakeHold, "hold_left", credits=7, expires_in=3600, metadata={})
    await submit(ledger, ChangeSettings, changes={"overdraft_limit": 500})
    await ledger.meter("u", credits=300)
    await submit(ledger, TopUp, credits=500, checkout_id="co_1", description="Pack", amount=1000, currency="usd")
    await submit(ledger, Adjust, credits=-5, reason="counted twice")
    assert charged.entry is not None
    await submit(ledger, Reverse, derived_id("rev", charged.entry.id), event=charged.entry)
    await submit(ledger, VoidGrant, "void_3", grant_id="grant_3")
    bought = {"description": "Pack", "amount": 1000, "currency": "usd", "bonus_credits": 30, "bonus_days": 9}
    await submit(ledger, TopUp, "top_7", credits=200, checkout_id="co_7", **bought)
    seen = 0
    for refunded, disputed in ((400, 0), (1, 1000), (0, 1000), (300, 0)):
        taking = {"checkout_id": "co_7", "description": "Pack", "charged": 1000, "seen": seen}
        moved = await submit(ledger, TakeBack, refunded=refunded, disputed=disputed, **taking)
        seen = moved.wallet.version


async def mismatches(ledger: Ledger, customer_id: str | None = None) -> list[Mismatch]:
    return [one async for one in Audit(ledger.db, customer_id).mismatches()]


async def test_a_ledger_with_everything_in_it_is_clean(ledger: Ledger) -> None:
    await a_bit_of_everything(ledger)
    audit = Audit(ledger.db)
    assert [one.sentence async for one in audit.mismatches()] == []
    assert audit.progress.wallets == 3
    wallet = (await submit(ledger, Settle)).wallet
    assert audit.progress.entries == wallet.version + 3


@pytest.mark.sqlite
async def test_a_ledger_is_clean_after_a_day_and_a_month(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Expiries, grants that start and come again, a hold that runs out. PostgreSQL goes by a clock of its own."""
    await a_bit_of_everything(ledger)
    clock = time.time_ns
    for days in (1, 2, 40):
        monkeypatch.setattr(time, "time_ns", partial(_later, clock, days))
        await submit(ledger, Settle)
        await ledger.meter("u", member="alice")
        assert [one.sentence for one in await mismatches(ledger)] == []


def _later(clock: Callable[[], int], days: int) -> int:
    return clock() + days * DAY_MS * 1_000_000


PAID_AND_NOT_LANDED = (
    "INSERT INTO checkouts (id, customer_id, pack, description, credits, amount, currency, status, created_at,"
    " expires_at) VALUES ('co_3', 'u', 'p', 'P', 5, 1, 'usd', 'paid', 1, 1)"
)
TAMPERED = [
    ("UPDATE wallets SET balance = balance + 1 WHERE customer_id = 'u'", "the balance"),
    ("UPDATE wallets SET debt = debt + 1 WHERE customer_id = 'u'", "the debt"),
    ("UPDATE wallets SET held = held + 1 WHERE customer_id = 'u'", "held"),
    ("UPDATE wallets SET version = version + 1 WHERE customer_id = 'u'", "the version"),
    ("UPDATE wallets SET overdraft_limit = 501 WHERE customer_id = 'u'", "the overdraft limit"),
    ("UPDATE wallets SET due_at = NULL WHERE customer_id = 'u'", "the time when something is due"),
    ("UPDATE wallets SET spent_month = 0 WHERE customer_id = 'u'", "what the wallet has spent"),
    ("UPDATE wallets SET last_entry_at = 1 WHERE customer_id = 'u'", "the time of the last entry"),
    ("UPDATE wallets SET open_holds = 0 WHERE customer_id = 'u'", "the number of open holds"),
    ("UPDATE members SET spent_week = 999 WHERE customer_id = 'u'", "what 'alice' has spent"),
    ("UPDATE members SET held = 1 WHERE customer_id = 'u'", "what is held for 'alice'"),
    ("DELETE FROM members WHERE customer_id = 'u'", "members that are not there"),
    ("UPDATE grants SET remaining = remaining - 1 WHERE id = 'grant_1' OR id = 'grant_2'", "what remains of"),
    ("UPDATE grants SET remaining = remaining - 1 WHERE customer_id = 'u' AND source = 'co_1'", "what remains of"),
    ("DELETE FROM grants WHERE customer_id = 'u' AND id = 'grant_1'", "draws from grants that are not there"),
    ("UPDATE holds SET status = 'released' WHERE id = 'hold_left'", "the open holds"),
    ("UPDATE holds SET credits = 8 WHERE id = 'hold_left'", "the open holds"),
    ("DELETE FROM entries WHERE customer_id = 'u' AND version = 3", "the version"),
    ("UPDATE entries SET credits = credits - 1 WHERE customer_id = 'u' AND kind = 'event'", "the balance"),
    ("UPDATE entries SET held = held + 1 WHERE customer_id = 'u' AND kind = 'hold'", "held"),
    ("UPDATE entries SET available = available + 1 WHERE customer_id = 'u' AND kind = 'top_up'", "available"),
    ("UPDATE entries SET created_at = 1 WHERE customer_id = 'u' AND kind = 'adjustment'", "the time"),
    ("UPDATE entries SET draws = '[[\"grant_9\", 4]]' WHERE id IN ('evt_0')", "what remains of"),
    ("UPDATE grants SET taken = NULL WHERE source = 'co_7'", "what is known of the money of"),
    ("UPDATE grants SET taken = replace(taken, '\"refunded\":300', '\"refunded\":0')", "what is known of the money of"),
    (PAID_AND_NOT_LANDED, "the top-up of checkout co_3"),
    ("UPDATE entries SET draws = 'nonsense' WHERE id IN ('evt_0')", "the entry's detail"),
]


@pytest.mark.parametrize(("sql", "what"), TAMPERED, ids=[f"{number:02}" for number in range(len(TAMPERED))])
async def test_tampering_is_found_in_the_wallet_where_it_was_done(ledger: Ledger, sql: str, what: str) -> None:
    await a_bit_of_everything(ledger)

    def tamper() -> Script[None]:
        yield sql, ()

    await ledger.db.transact(tamper)
    [found] = await mismatches(ledger)
    assert found.customer_id == "u"
    assert found.what.startswith(what), found.sentence
    assert await mismatches(ledger, "u") == [found]
    assert await mismatches(ledger, "z") == []


async def test_a_key_that_took_effect_twice_is_found(ledger: Ledger) -> None:
    await a_bit_of_everything(ledger)

    def tamper() -> Script[None]:
        yield "DROP INDEX entries_by_key", ()
        yield "UPDATE entries SET idempotency_key = 'k' WHERE id = 'evt_0'", ()

    await ledger.db.transact(tamper)
    [found] = await mismatches(ledger)
    assert "key 'k'" in found.sentence


async def tamper_past_foreign_keys(ledger: Ledger, *statements: str) -> None:
    """As an operator's own connection may: SQLite looks at foreign keys only where it was told to."""
    if ledger.db.dialect.is_sqlite:
        with contextlib.closing(sqlite3.connect(place(ledger.config.database_url))) as connection, connection:
            for sql in statements:
                connection.execute(sql)
        return

    def tamper() -> Script[None]:
        for table in ("entries", "grants", "holds", "members"):
            yield f"ALTER TABLE {table} DROP CONSTRAINT fk_{table}_wallets", ()
        for sql in statements:
            yield sql, ()

    await ledger.db.transact(tamper)


async def test_entries_without_a_wallet_are_found(ledger: Ledger) -> None:
    await a_bit_of_everything(ledger)
    await tamper_past_foreign_keys(ledger, "UPDATE entries SET customer_id = 'b' WHERE customer_id = 'a'")
    found = [(one.customer_id, one.what) for one in await mismatches(ledger)]
    assert found == [("a", "the version"), ("b", "the wallet of a row in entries")]


@pytest.mark.parametrize("table", ["grants", "holds", "members"])
async def test_other_rows_without_a_wallet_are_found_and_blamed_on_nobody_else(ledger: Ledger, table: str) -> None:
    await a_bit_of_everything(ledger)
    others = [one for one in ("entries", "grants", "holds", "members") if one != table]
    gone = [f"DELETE FROM {one} WHERE customer_id = 'u'" for one in (*others, "wallets")]
    await tamper_past_foreign_keys(ledger, *gone)
    found = [(one.customer_id, one.what) for one in await mismatches(ledger)]
    assert found == [("u", f"the wallet of a row in {table}")]
