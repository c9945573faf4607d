"""Reading more than fits in memory, as of one moment."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from store.writing import Ledger, open_ledger

from app.config import Config
from app.errors import Unavailable
from app.store.db import Database, Script

VERSIONS = "SELECT customer_id, version FROM entries WHERE version >= ? ORDER BY customer_id, version"
SERIES = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) SELECT i, 'x' FROM n"


async def read(stream: Any) -> list[tuple[Any, ...]]:
    return [row async for chunk in stream for row in chunk]


async def test_what_is_written_meanwhile_is_not_in_it(ledger: Ledger) -> None:
    await ledger.give("u", 100)
    async with ledger.db.snapshot() as snapshot:
        await ledger.meter("u")
        await ledger.give("v", 5)
        assert await read(snapshot.stream(VERSIONS, (1,), 10)) == [("u", 1)]
        assert await read(snapshot.stream("SELECT balance FROM wallets", (), 10)) == [(100,)]
    async with ledger.db.snapshot() as snapshot:
        assert await read(snapshot.stream(VERSIONS, (1,), 10)) == [("u", 1), ("u", 2), ("v", 1)]
        assert await read(snapshot.stream(VERSIONS, (2,), 10)) == [("u", 2)]


async def test_rows_come_in_chunks_and_two_queries_side_by_side(ledger: Ledger) -> None:
    async with ledger.db.snapshot() as snapshot:
        chunks = [len(chunk) async for chunk in snapshot.stream(SERIES, (), 3000)]
        assert chunks == [3000, 3000, 3000, 1000]
        first, second = snapshot.stream(SERIES, (), 10), snapshot.stream(SERIES, (), 4)
        assert [len(await anext(one)) for one in (first, second, first)] == [10, 4, 10]
        assert (await anext(second))[0] == (5, "x")
        wholes = await asyncio.gather(*[read(snapshot.stream(SERIES, (), 500)) for _ in range(4)])
        assert all(len(whole) == 10_000 for whole in wholes)


async def test_as_many_as_may_be_are_open_and_the_next_comes_when_one_ends(config: Config) -> None:
    limits = replace(config.limits, write_wait_seconds_max=1.0, snapshots_max=1)
    async with open_ledger(replace(config, limits=limits)) as ledger:
        async with ledger.db.snapshot():
            with pytest.raises(Unavailable):
                async with ledger.db.snapshot():
                    pass
            await ledger.give("u", 5)  # nobody else waits for it
        async with ledger.db.snapshot() as snapshot:
            assert len(await read(snapshot.stream(VERSIONS, (1,), 10))) == 1


async def test_a_query_that_is_wrong_is_unavailable_and_what_the_reader_raises_is_its_own(ledger: Ledger) -> None:
    with pytest.raises(Unavailable):
        async with ledger.db.snapshot() as snapshot:
            await read(snapshot.stream("SELECT no_such_column FROM wallets", (), 10))
    with pytest.raises(LookupError):
        async with ledger.db.snapshot():
            raise LookupError


async def test_one_that_is_left_in_the_middle_disturbs_nobody(ledger: Ledger) -> None:
    async def leave() -> None:
        async with ledger.db.snapshot() as snapshot:
            async for _ in snapshot.stream(SERIES, (), 10):
                await asyncio.sleep(60)

    reading = asyncio.create_task(leave())
    await asyncio.sleep(0.05)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading

    def touch() -> Script[None]:
        yield "UPDATE instance SET generation = generation", ()

    await ledger.db.transact(touch)
    async with ledger.db.snapshot() as snapshot:
        assert len(await read(snapshot.stream(SERIES, (), 5000))) == 10_000


@pytest.mark.sqlite
async def test_a_file_that_cannot_be_opened_is_unavailable(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "ledger.db").rename(tmp_path / "moved.db")
    (tmp_path / "ledger.db").mkdir()
    with pytest.raises(Unavailable):
        async with ledger.db.snapshot():
            pass


@pytest.mark.postgresql
async def test_a_server_that_lets_nobody_in_is_unavailable(config: Config) -> None:
    nowhere = Database(replace(config, database_url="postgresql:///x?host=/no/such/folder"))
    with pytest.raises(Unavailable):
        async with nowhere.snapshot():
            pass
