"""A database that fails, hangs, is full or is held by another: what callers and listeners are told."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable

import pytest
from msgspec.structs import replace
from store.writing import LIMITS, Ledger, event, fail_once, open_ledger, settled

from app.config import Config
from app.errors import (
    Busy,
    ChargeError,
    OutcomeUnknown,
    TransactionFailed,
    Unavailable,
)
from app.live.hub import Hub
from app.rules.wallet import Wallet
from app.store import sqlite as store_sqlite
from app.store.batch import Outcome, WalletChange
from app.store.db import Database, Script


async def test_a_caller_that_leaves_does_not_disturb_the_batch_and_its_key_replays(ledger: Ledger) -> None:
    await ledger.give("u", 1000)
    leaving = [asyncio.create_task(ledger.meter("u", key=f"k{i}", request_hash="h")) for i in range(20)]
    staying = [asyncio.create_task(ledger.meter("u")) for _ in range(20)]
    await asyncio.sleep(0)  # each has been put into the queue
    for task in leaving:
        task.cancel()
    await settled(*leaving)
    assert all(outcome.entry for outcome in await asyncio.gather(*staying))
    for i in range(20):
        await ledger.meter("u", key=f"k{i}", request_hash="h")
    assert await ledger.balance("u") == 1000 - 40 * 8


async def test_a_commit_whose_outcome_is_unknown_is_looked_up(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk took it, and the answer was an error: nothing is written twice, and every caller is answered."""
    await ledger.give("u", 1000)
    fail_once(monkeypatch, after_commit=True)
    outcomes = await asyncio.gather(*[ledger.meter("u") for _ in range(5)])
    assert [outcome.replayed for outcome in outcomes] == [False] * 5
    assert await ledger.balance("u") == 1000 - 5 * 8
    assert max(change.wallet.version for change in ledger.told) == 6


async def test_a_commit_that_fails_is_tried_again_on_a_new_connection(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.give("u", 1000)
    fail_once(monkeypatch, after_commit=False)
    assert all(outcome.entry for outcome in await asyncio.gather(*[ledger.meter("u") for _ in range(5)]))
    assert await ledger.balance("u") == 1000 - 5 * 8
    assert not ledger.writer.failing


async def test_a_commit_that_is_not_answered_in_time_is_called_unknown_and_told_when_it_ends(
    impatient: Ledger, slow: Callable[[str], tuple[threading.Event, threading.Event]]
) -> None:
    await impatient.give("u", 100)
    impatient.told.clear()
    reached, go = slow("COMMIT")
    with pytest.raises(OutcomeUnknown, match="may still have been written"):
        await impatient.meter("u", key="k", request_hash="h")
    assert reached.is_set()
    assert impatient.writer.failing
    go.set()
    assert (await impatient.meter("u", key="k", request_hash="h")).replayed
    assert await impatient.balance("u") == 92
    assert [change.wallet.version for change in impatient.told] == [2]


async def test_what_did_not_come_to_its_commit_in_time_is_never_written(
    impatient: Ledger, slow: Callable[[str], tuple[threading.Event, threading.Event]]
) -> None:
    """A caller was told that nothing was written, so nothing may be, however late the disk wakes up."""
    await impatient.give("u", 100)
    _, go = slow("INSERT INTO entries")
    refused = await settled(*[impatient.meter("u") for _ in range(5)])
    assert [type(error) for error in refused] == [Busy] * 5
    behind = await settled(impatient.meter("u"))  # it waits in the queue of the same hanging connection
    assert [type(error) for error in behind] == [Busy]
    go.set()
    await impatient.meter("u")
    assert await impatient.balance("u") == 92
    assert len(await impatient.entries("u")) == 2


async def test_a_server_without_traffic_finds_out_that_its_database_is_well_again(
    impatient: Ledger, slow: Callable[[str], tuple[threading.Event, threading.Event]]
) -> None:
    await impatient.give("u", 100)
    _, go = slow("INSERT INTO entries")
    with pytest.raises(Busy):
        await impatient.meter("u")
    assert impatient.writer.failing
    go.set()
    async with asyncio.timeout(5):
        while impatient.writer.failing:
            await asyncio.sleep(0.01)


async def test_a_batch_behind_an_unanswered_commit_is_told_after_it(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first batch reaches the disk and its answer is an error; the second commits before the first is replayed."""
    hub = Hub(config.limits)
    seen: list[int] = []

    def show(changes: list[WalletChange], generation: int) -> None:
        hub.publish(changes, generation)
        if (push := subscription.take()) is not None:
            seen.extend(entry.version for entry in push.message.entries)
            assert not push.message.gap

    async with open_ledger(config) as ledger:
        await ledger.give("u", 100)
        subscription = hub.subscribe(None, "u", bool)
        assert subscription is not None
        subscription.begin(hub.message(Wallet(customer_id="u", balance=100, version=1), [], at=0))
        ledger.writer._on_commit = show
        begun = fail_once(monkeypatch, after_commit=True)
        first = asyncio.create_task(ledger.meter("u"))
        await asyncio.to_thread(begun.wait, 10)  # its transaction is under way, so the next is a batch of its own
        second = asyncio.create_task(ledger.meter("u"))
        await asyncio.gather(first, second)
        assert await ledger.balance("u") == 84
    assert seen == [2, 3]


async def test_a_replay_whose_commit_is_answered_late_is_told_then(
    impatient: Ledger, monkeypatch: pytest.MonkeyPatch, slow: Callable[[str], tuple[threading.Event, threading.Event]]
) -> None:
    await impatient.give("u", 100)
    impatient.told.clear()
    reached, go = slow("COMMIT")
    fail_once(monkeypatch, after_commit=False)
    with pytest.raises(OutcomeUnknown):
        await impatient.meter("u")
    assert reached.is_set()
    assert impatient.told == []
    go.set()
    await impatient.writer.close()
    await impatient.db.close()
    assert [entry.version for change in impatient.told for entry in change.entries] == [2]


async def test_a_listener_that_fails_costs_no_caller_its_answer(ledger: Ledger) -> None:
    def broken(_changes: list[WalletChange], _generation: int) -> None:
        raise RuntimeError("a fault of the listener")

    ledger.writer._on_commit = broken
    await ledger.give("u", 100)
    async with asyncio.timeout(10):
        assert (await ledger.meter("u")).entry is not None
    assert await ledger.balance("u") == 92


async def test_a_read_that_takes_too_long_is_ended_and_its_connection_serves_the_next(impatient: Ledger) -> None:
    endless = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000) SELECT max(i) FROM n"
    )
    async with asyncio.timeout(10):
        for _ in range(2):
            results = await settled(*[impatient.db.fetch_all(endless) for _ in range(LIMITS.read_connections)])
            assert [type(result) for result in results] == [Unavailable] * LIMITS.read_connections
        assert await impatient.balance("u") == 0


async def test_a_read_that_is_wrong_is_an_error_and_not_a_busy_database(ledger: Ledger) -> None:
    with pytest.raises(Unavailable):
        await ledger.db.fetch_all("SELECT no_such_column FROM wallets")
    assert await ledger.balance("u") == 0


async def test_what_waits_beside_metering_has_a_limit(
    ledger: Ledger, slow: Callable[[str], tuple[threading.Event, threading.Event]]
) -> None:
    def touch() -> Script[None]:
        yield "UPDATE instance SET generation = generation", ()

    _, go = slow("COMMIT")
    most = LIMITS.transactions_waiting_max
    calls = [asyncio.create_task(ledger.db.transact(touch)) for _ in range(most + 11)]
    metered = asyncio.create_task(ledger.give("u", 5))  # behind the one that is under way, before all that wait
    await asyncio.sleep(0)
    go.set()
    await metered
    assert sum(not call.done() for call in calls) > most // 2
    results = await settled(*calls)
    assert sum(isinstance(result, Busy) for result in results) == 10


@pytest.mark.sqlite
async def test_a_database_that_hangs_is_closed_without_it_and_its_thread_ends_when_it_comes_back(
    config: Config, slow: Callable[[str], tuple[threading.Event, threading.Event]]
) -> None:
    threads = set(threading.enumerate())
    db = Database(replace(config, limits=replace(config.limits, write_wait_seconds_max=0.2)))
    await db.open()
    mine = set(threading.enumerate()) - threads
    _, go = slow("COMMIT")

    def touch() -> Script[None]:
        yield "UPDATE instance SET generation = generation", ()

    with pytest.raises(OutcomeUnknown):
        await db.transact(touch)
    await db.close()
    go.set()
    for thread in mine:
        await asyncio.to_thread(thread.join, 10)
    assert not any(thread.is_alive() for thread in mine)


async def test_what_an_unanswered_commit_wrote_is_told_whole(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay finds several entries of one wallet: listeners get all of them with its last state, in one change."""
    await ledger.give("u", 1000)
    ledger.told.clear()
    fail_once(monkeypatch, after_commit=True)
    await asyncio.gather(*[ledger.meter("u") for _ in range(5)])
    first = ledger.told[0]
    assert [entry.version for change in ledger.told for entry in change.entries] == [2, 3, 4, 5, 6]
    assert first.wallet.version == first.entries[-1].version


@pytest.mark.sqlite
async def test_a_full_disk_answers_busy_and_says_so_until_there_is_room(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.give("u", 10**6)

    def pages() -> Script[int]:
        [[count]] = yield "PRAGMA page_count", ()
        yield f"PRAGMA max_page_count = {count}", ()
        return int(count)

    full = await ledger.db.transact(pages)
    pragmas = store_sqlite.sqlite_pragmas
    with monkeypatch.context() as disk:  # the connections that replace the first have no more room
        disk.setattr(
            store_sqlite, "sqlite_pragmas", lambda limits: (*pragmas(limits), f"PRAGMA max_page_count = {full}")
        )
        results = await settled(*[ledger.meter("u", metadata={"pad": "p" * 4000}) for _ in range(50)])
        assert [type(result) for result in results] == [TransactionFailed] * 50
        assert ledger.writer.failing
    assert (await ledger.meter("u", metadata={"pad": "p" * 4000})).entry is not None
    assert not ledger.writer.failing
    assert await ledger.balance("u") == 10**6 - 8


@pytest.mark.sqlite
async def test_another_process_that_writes_for_too_long_is_answered_busy(ledger: Ledger, config: Config) -> None:
    await ledger.give("u", 100)
    other = sqlite3.connect(config.database_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Busy):
        await ledger.meter("u", key="k", request_hash="h")
    assert ledger.writer.failing
    other.execute("ROLLBACK")
    other.close()
    assert not (await ledger.meter("u", key="k", request_hash="h")).replayed
    assert not ledger.writer.failing
    assert await ledger.balance("u") == 92


async def test_an_operation_that_cannot_be_written_hurts_only_itself(ledger: Ledger) -> None:
    await ledger.give("u", 1000)
    taken = (await ledger.meter("u")).entry
    assert taken is not None
    await ledger.give("v", 100)
    poisoned = event("v", id=taken.id)  # an id that is in the ledger: the unique index refuses the row
    results = await settled(ledger.meter("u"), ledger.writer.submit(poisoned), ledger.meter("u"))
    assert [type(result) for result in (results[0], results[2])] == [Outcome, Outcome]
    assert await ledger.balance("u") == 1000 - 3 * 8
    assert await ledger.balance("v") == 100


@pytest.mark.sqlite
async def test_a_failing_commit_gives_its_connection_back(ledger: Ledger) -> None:
    """A deferred foreign key fails at COMMIT itself; the next transaction finds the file unlocked."""

    def dangling() -> Script[None]:
        yield "PRAGMA defer_foreign_keys = ON", ()
        columns = "customer_id, id, version, category, credits, remaining, priority, source, created_at, effective_at"
        yield f"INSERT INTO grants ({columns}) VALUES ('nobody', 'g', 1, 'paid', 1, 1, 1, 's', 0, 0)", ()

    for _ in range(3):
        with pytest.raises(TransactionFailed):
            await ledger.db.transact(dangling)
    await ledger.give("u", 5)
    assert await ledger.balance("u") == 5


async def test_the_limits_of_the_schema_hold_beneath_the_rules(ledger: Ledger) -> None:
    await ledger.give("u", 5)
    for statement in (
        *(("UPDATE wallets SET balance = 14.9",) if ledger.db.dialect.is_sqlite else ()),  # PostgreSQL rounds it
        "UPDATE wallets SET balance = 9223372036854775807",
        "UPDATE grants SET remaining = -1",
        "UPDATE wallets SET held = -1",
    ):

        def script(sql: str = statement) -> Script[None]:
            yield sql, ()

        with pytest.raises((TransactionFailed, ChargeError)):
            await ledger.db.transact(script)
    assert await ledger.balance("u") == 5
