"""Counts of wallets: read once for all who ask, and again once they are too old."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace
from store.writing import Ledger, open_ledger

from app.config import Config
from app.errors import Unavailable
from app.store.ids import now_ms
from app.store.standings import StandingsStore

STEPS = (0, 10, 100)


@pytest.fixture
async def ledger(config: Config) -> AsyncIterator[Ledger]:
    async with open_ledger(config) as made:
        yield made


class Counted:
    """A database whose reads are counted, held back while `free` is not set, and fail on request."""

    def __init__(self, ledger: Ledger) -> None:
        self._db = ledger.db
        self.reads = 0
        self.free = asyncio.Event()
        self.free.set()
        self.is_away = False

    async def fetch_all(self, query: str) -> list[Any]:
        self.reads += 1
        await self.free.wait()
        if self.is_away:
            raise Unavailable
        return await self._db.fetch_all(query)


def standings(ledger: Ledger, seconds_max: float) -> tuple[StandingsStore, Counted]:
    counted = Counted(ledger)
    limits = replace(ledger.config.limits, standings_seconds_max=seconds_max)
    return StandingsStore(counted, STEPS, limits), counted  # type: ignore[arg-type]


async def test_wallets_are_counted_by_their_balances(ledger: Ledger) -> None:
    for customer_id, credits in (("a", 8), ("b", 10), ("c", 11), ("d", 101), ("e", 1_000), ("f", 8)):
        await ledger.give(customer_id, credits)
    await ledger.meter("a", credits=8)
    store, _ = standings(ledger, 60)
    before = now_ms()
    found = await store.recent()
    assert (found.counts, found.low) == ([1, 2, 1, 2], 0)
    assert before <= found.at <= now_ms()


async def test_all_who_ask_at_once_share_one_reading_and_a_moment_later_none_is_made(ledger: Ledger) -> None:
    await ledger.give("a", 8)
    store, counted = standings(ledger, 60)
    first, *rest = await asyncio.gather(*(store.recent() for _ in range(20)))
    assert counted.reads == 1
    assert rest == [first] * 19
    await ledger.give("b", 8)
    assert await store.recent() == first
    assert counted.reads == 1


async def test_what_is_too_old_is_read_again(ledger: Ledger) -> None:
    await ledger.give("a", 8)
    store, counted = standings(ledger, 0)
    first = await store.recent()
    await ledger.give("b", 8)
    second = await store.recent()
    assert (sum(first.counts), sum(second.counts), counted.reads) == (1, 2, 2)


async def test_one_who_leaves_takes_nothing_from_those_who_wait(ledger: Ledger) -> None:
    await ledger.give("a", 8)
    store, counted = standings(ledger, 60)
    counted.free.clear()
    leaving, staying = (asyncio.create_task(store.recent()) for _ in range(2))
    await asyncio.sleep(0.01)
    leaving.cancel()
    await asyncio.sleep(0.01)
    counted.free.set()
    assert sum((await staying).counts) == 1
    assert leaving.cancelled()
    assert counted.reads == 1


async def test_a_failure_is_told_to_all_who_wait_and_not_remembered(ledger: Ledger) -> None:
    await ledger.give("a", 8)
    store, counted = standings(ledger, 60)
    counted.is_away = True
    failed = await asyncio.gather(*(store.recent() for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in failed] == [Unavailable] * 3
    counted.is_away = False
    assert sum((await store.recent()).counts) == 1
    assert counted.reads == 2
