"""Usage is added up once, by whoever does it and however much has been left."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace
from store.writing import Ledger, open_ledger

from app.config import Config
from app.rules.usage import Flow, Key, Used
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

    for hour, cost in ((0, huge - 5), (0, 4), (0, 7), (3_600_000, 2 * huge), (7_200_000, 123)):
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
    assert (await store.total(0, 2**45))[""].cost_nanos == 2 * huge + 123
    assert (await store.flows(0, 2**45))["event"].credits_in == 2 * huge + 123


async def test_a_refusal_and_what_moves_no_credits_leave_no_note(ledger: Ledger) -> None:
    before = await ledger.db.fetch_all("SELECT * FROM usage_pending")
    with pytest.raises(Exception, match="credits"):
        await ledger.meter("nobody")
    assert await ledger.db.fetch_all("SELECT * FROM usage_pending") == before == []
