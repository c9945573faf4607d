"""Usage is added up once, by whoever does it and however much has been left."""

import asyncio
import importlib
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace
from store.writing import Ledger, open_ledger

from app.config import Config
from app.rules.periods import DAY_MS, HOUR_MS, periods_between
from app.rules.usage import Flow, Key, Used
from app.store.db import Script
from app.store.usage import UsageStore, _write

ALL_TIME = [(0, 2**45)]


@pytest.fixture
async def ledger(config: Config) -> AsyncIterator[Ledger]:
    async with open_ledger(config) as made:
        yield made


async def counts(ledger: Ledger) -> dict[str, int]:
    """How often each event was used, by the sums of all and by those of wallets."""
    store = UsageStore(ledger.db, ledger.config.limits)
    found = {
        name: used.count for _, name, currency, used in await store.report(ALL_TIME, "event", None) if not currency
    }
    of_wallets = await store.report(ALL_TIME, "customer", None)
    assert sum(used.count for _, _, currency, used in of_wallets if not currency) == sum(found.values())
    return found


async def test_several_that_add_up_at_once_count_each_entry_once(ledger: Ledger) -> None:
    await ledger.give("u", 1_000)
    for _ in range(30):
        await ledger.meter("u")
    stores = [UsageStore(ledger.db, replace(ledger.config.limits, usage_batches_at_once=size)) for size in (1, 2, 3, 5)]
    assert await asyncio.gather(*(store.catch_up() for store in stores)) == [True] * 4
    assert await counts(ledger) == {"chat.reply": 30}


async def test_a_long_way_is_gone_in_parts(ledger: Ledger) -> None:
    await ledger.give("u", 1_000)
    for _ in range(9):
        await ledger.meter("u")
    limits = replace(ledger.config.limits, usage_batches_at_once=2, usage_catch_ups_max=3)
    store = UsageStore(ledger.db, limits)
    assert [await store.catch_up(), await store.catch_up(), await store.catch_up()] == [False, True, True]
    assert (await counts(ledger))["chat.reply"] == 9


async def test_what_many_entries_have_is_added_up_a_batch_at_a_time(ledger: Ledger) -> None:
    await ledger.give("u", 1_000)
    for _ in range(5):
        await ledger.meter("u")
    store = UsageStore(ledger.db, replace(ledger.config.limits, usage_entries_at_once=1, usage_catch_ups_max=2))
    assert await store.catch_up() is False
    assert (await counts(ledger)).get("chat.reply") == 1


async def test_sums_that_a_column_cannot_hold_stop_nobody(ledger: Ledger) -> None:
    huge = 9 * 10**18

    def sums(hour: int, cost: int) -> dict[Key, Used]:
        return {Key("u", hour, "e", "", "", ""): Used(count=1, cost_nanos=cost, revenue_nanos=-cost)}

    for hour, cost in ((0, huge - 5), (0, 4), (0, 7), (DAY_MS, 2 * huge), (2 * DAY_MS, 123)):
        flows = {(hour, "event"): Flow(1, cost, cost)}
        await ledger.db.transact(
            lambda cost=cost, hour=hour, flows=flows: _write(  # type: ignore[misc]
                ledger.db.dialect, [], sums(hour, cost), flows
            )
        )
    store = UsageStore(ledger.db, ledger.config.limits)
    for grouping in ("event", "customer"):
        [(_, _, _, used)] = await store.report(ALL_TIME, grouping, None)
        assert (used.count, used.cost_nanos, used.revenue_nanos) == (5, 2 * huge + 123, -2 * huge - 123)
    [(_, _, _, used)] = await store.report([(0, 2**45)], "event", None)
    assert used.cost_nanos == 2 * huge + 123
    assert (await store.flows_by([(0, 2**45)]))[0]["event"].credits_in == 2 * huge + 123


KINDS = [("a", "", ""), ("a", "m", ""), ("a", "m", "usd"), ("b", "", "eur")]
"""Events, models and currencies."""


async def write_hours(ledger: Ledger, chance: random.Random, sums: list[int]) -> dict[Key, Used]:
    """Sums in some hours of a week, a part of them at a time."""
    written: dict[Key, Used] = {}
    for _ in range(150):
        key = Key("u", chance.randrange(7 * 24) * HOUR_MS, *chance.choice(KINDS)[:2], "", chance.choice(KINDS)[2])
        if key not in written:
            cost = chance.choice(sums)
            written[key] = Used(count=1, cost_nanos=cost, revenue_nanos=-cost, cost_low=cost, cost_high=cost)
    for some in ({**dict(list(written.items())[:70])}, dict(list(written.items())[70:])):
        await ledger.db.transact(lambda some=some: _write(ledger.db.dialect, [], some, {}))  # type: ignore[misc]
    return written


async def test_whole_days_and_the_hours_beside_them_are_each_added_up_once(ledger: Ledger) -> None:
    """A report of any span and interval is what the sums by hour add up to."""
    chance = random.Random(9)
    written = await write_hours(ledger, chance, [1, 10, 100, 1_000, 10_000])
    store = UsageStore(ledger.db, ledger.config.limits)
    spans = [sorted(chance.sample(range(7 * 24 + 1), 2)) for _ in range(60)]
    for first, last in [*spans, [0, 7 * 24], [24, 48], [0, 24], [23, 25], [24, 25], [47, 48], [30, 40]]:
        since, until = first * HOUR_MS, last * HOUR_MS
        inside = {key: used for key, used in written.items() if since <= key.hour < until}
        found = await store.report([(since, until)], "event", None)
        wanted: dict[Any, int] = {}
        for key, used in inside.items():
            wanted[key.event, key.currency] = wanted.get((key.event, key.currency), 0) + used.cost_nanos
        assert {(event, currency): used.cost_nanos for _, event, currency, used in found} == wanted
        for per in ("hour", "day", "week", "month"):
            periods = periods_between(per, since, until, 2_000)  # type: ignore[arg-type]
            rows = await store.report(periods, "event", None)
            wanted = {}
            for key, used in inside.items():
                [begins] = [begins for begins, ends in periods if begins <= key.hour < ends]
                place = begins, key.event, key.currency
                wanted[place] = wanted.get(place, 0) + used.cost_nanos
            assert [row[:3] for row in rows] == sorted(wanted)
            assert {row[:3]: row[3].cost_nanos for row in rows} == wanted


async def test_the_largest_customers_of_any_span_are_found(ledger: Ledger) -> None:
    """By their months and the hours beside these they are those that they are by their hours."""
    chance = random.Random(5)
    days = 100  # from January until April of 1970
    written = {
        Key(f"u{chance.randrange(12):02d}", chance.randrange(days * 24) * HOUR_MS, "a", "", "", ""): Used(
            count=1, credits=chance.choice([1, 10, 100, -5])
        )
        for _ in range(600)
    }
    parts = [dict(list(written.items())[at::2]) for at in range(2)]
    for some in parts:
        await ledger.db.transact(lambda some=some: _write(ledger.db.dialect, [], some, {}))  # type: ignore[misc]
    store = UsageStore(ledger.db, ledger.config.limits)
    january, march = 0, 59 * 24
    spans = [sorted(chance.sample(range(days * 24 + 1), 2)) for _ in range(40)]
    for first, last in [*spans, [january, march], [january, days * 24], [31 * 24, march], [1, march - 1], [5, 6]]:
        charged: dict[str, int] = {}
        for key, used in written.items():
            if first * HOUR_MS <= key.hour < last * HOUR_MS:
                charged[key.customer_id] = charged.get(key.customer_id, 0) + used.credits
        wanted = sorted(charged, key=lambda name: (-charged[name], name))
        assert await store.largest(first * HOUR_MS, last * HOUR_MS, "customer", None, 12) == wanted
        assert await store.largest(first * HOUR_MS, last * HOUR_MS, "customer", None, 3) == wanted[:3]


async def test_an_upgrade_adds_up_the_months_that_there_were(ledger: Ledger) -> None:
    for hour in (0, 30 * 24 + 23, 31 * 24, 400 * 24, 55 * 365 * 24):
        some = {Key("u", hour * HOUR_MS, "a", model, "", ""): Used(count=1, credits=7) for model in ("", "m")}
        await ledger.db.transact(lambda some=some: _write(ledger.db.dialect, [], some, {}))  # type: ignore[misc]
    by_month = "SELECT * FROM usage_of_customers ORDER BY month, customer_id"
    ours = [tuple(row[at] for at in range(3)) for row in await ledger.db.fetch_all(by_month)]
    migration = importlib.import_module("app.store.migrations.versions.0012_customer_months")
    filling = migration.filling("sqlite" if ledger.db.dialect.is_sqlite else "postgresql")

    def script() -> Script[None]:
        yield "DELETE FROM usage_of_customers", ()
        yield filling, ()

    await ledger.db.transact(script)
    assert [tuple(row[at] for at in range(3)) for row in await ledger.db.fetch_all(by_month)] == ours
    assert [row[2] for row in ours] == [28, 14, 14, 14]


@pytest.mark.parametrize("sums", [[1, 10**12], [9 * 10**18, -9 * 10**18, 9 * 10**18 - 1, 5]], ids=["some", "huge"])
async def test_an_upgrade_adds_up_the_days_that_there_were(ledger: Ledger, sums: list[int]) -> None:
    await write_hours(ledger, random.Random(3), sums)
    by_day = "SELECT * FROM usage_days ORDER BY day, event, model, currency"
    ours = [tuple(row[at] for at in range(14)) for row in await ledger.db.fetch_all(by_day)]
    filling = importlib.import_module("app.store.migrations.versions.0009_usage_days").filling()

    def script() -> Script[None]:
        yield "DELETE FROM usage_days", ()
        yield filling, ()

    await ledger.db.transact(script)
    filled = [tuple(row[at] for at in range(14)) for row in await ledger.db.fetch_all(by_day)]
    assert len(ours) > 20
    if max(sums) < 10**18:  # else it depends on the order in which they come
        assert filled == ours
    assert [row[:5] for row in filled] == [row[:5] for row in ours]
    assert max(row[9] for row in filled) <= 9 * 10**18


async def test_a_refusal_and_what_moves_no_credits_leave_no_note(ledger: Ledger) -> None:
    before = await ledger.db.fetch_all("SELECT * FROM usage_pending")
    with pytest.raises(Exception, match="credits"):
        await ledger.meter("nobody")
    assert await ledger.db.fetch_all("SELECT * FROM usage_pending") == before == []
