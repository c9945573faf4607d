"""The writer on a real SQLite file: groups, refusals, races, and a database that fails."""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from app.config import Config, Limits
from app.errors import (
    Busy,
    ChargeError,
    IdempotencyConflict,
    InsufficientCredits,
    Internal,
    OutcomeUnknown,
    ShuttingDown,
    TransactionFailed,
    Unavailable,
)
from app.live.hub import Hub
from app.rules.ledger import AddGrant, Event, Operation, TopUp, Wallet
from app.store import db as store_db
from app.store import reads
from app.store.batch import Change, Outcome
from app.store.catalogue import CatalogueStore
from app.store.db import Database, Script
from app.store.ids import new_id
from app.store.migrate import migrate
from app.store.writer import Writer

LIMITS = Limits(sqlite_busy_wait_ms=50, write_queue_max=100, write_batch_max=32)


class Ledger:
    """A writer, its database, and what it told its listeners."""

    def __init__(self, db: Database, writer: Writer, catalogue: CatalogueStore, config: Config) -> None:
        self.db, self.writer, self.catalogue, self.config = db, writer, catalogue, config
        self.told: list[Change] = []

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


@pytest.fixture
def config(tmp_path: Path) -> Config:
    made = Config(database_url=f"sqlite:///{tmp_path}/ledger.db", limits=LIMITS)
    migrate(made)
    return made


@contextlib.asynccontextmanager
async def open_ledger(config: Config) -> AsyncIterator[Ledger]:
    db = Database(config)
    await db.open()
    catalogue = CatalogueStore(db, config.limits)
    await catalogue.fresh()
    told: list[Change] = []
    writer = Writer(db, catalogue, config, lambda changes, _generation: told.extend(changes))
    made = Ledger(db, writer, catalogue, config)
    made.told = told
    yield made
    await writer.close()
    await db.close()


@pytest.fixture
async def ledger(config: Config) -> AsyncIterator[Ledger]:
    async with open_ledger(config) as made:
        yield made


async def settled(*calls: Any) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


async def test_what_waits_together_is_written_in_one_transaction(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.give("u", 1000)
    transactions = count_transactions(monkeypatch)
    outcomes = await asyncio.gather(*[ledger.meter("u") for _ in range(30)])
    assert len(transactions) <= 2
    assert sorted(outcome.entry.version for outcome in outcomes if outcome.entry) == list(range(2, 32))
    assert await ledger.balance("u") == 1000 - 30 * 8


def count_transactions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    run, seen = store_db.run_transaction, []

    def counted(connection: sqlite3.Connection, attempt: Any) -> Any:
        seen.append(1)
        return run(connection, attempt)

    monkeypatch.setattr(store_db, "run_transaction", counted)
    return seen


async def test_a_race_in_one_batch_has_as_many_winners_as_the_credits_cover(ledger: Ledger) -> None:
    await ledger.give("u", 20)
    results = await settled(*[ledger.meter("u") for _ in range(10)])
    assert sum(isinstance(result, Outcome) for result in results) == 2
    assert sum(isinstance(result, InsufficientCredits) for result in results) == 8
    assert await ledger.balance("u") == 4


async def test_one_key_a_hundred_times_at_once_is_one_entry(ledger: Ledger) -> None:
    await ledger.give("u", 1000)
    outcomes = await asyncio.gather(*[ledger.meter("u", key="k", request_hash="h") for _ in range(100)])
    assert len({outcome.entry.id for outcome in outcomes if outcome.entry}) == 1
    assert sum(not outcome.replayed for outcome in outcomes) == 1
    assert await ledger.balance("u") == 992


async def test_a_key_with_another_request_is_a_conflict_in_the_same_batch_too(ledger: Ledger) -> None:
    await ledger.give("u", 100)
    results = await settled(
        ledger.meter("u", key="k", request_hash="h"), ledger.meter("u", key="k", request_hash="other", quantity=2)
    )
    assert isinstance(results[0], Outcome)
    assert isinstance(results[1], IdempotencyConflict)


async def test_a_key_belongs_to_one_wallet(ledger: Ledger) -> None:
    await ledger.give("u", 100)
    await ledger.give("v", 100)
    first = await ledger.meter("u", key="k", request_hash="h")
    second = await ledger.meter("v", key="k", request_hash="h")
    assert not first.replayed
    assert not second.replayed


async def test_a_refusal_leaves_nothing_not_even_the_wallet(ledger: Ledger) -> None:
    with pytest.raises(InsufficientCredits):
        await ledger.meter("nobody", key="k", request_hash="h")
    assert await reads.wallet(ledger.db, "nobody") is None
    await ledger.give("nobody", 10)
    assert (await ledger.meter("nobody", key="k", request_hash="h")).entry is not None


async def test_a_top_up_reported_many_times_lands_once(ledger: Ledger) -> None:
    def top_up() -> Operation:
        return TopUp(
            customer_id="u",
            id="top_same",
            credits=500,
            checkout_id="co_same",
            description="Top-up",
            amount=1000,
            currency="usd",
        )

    await asyncio.gather(*[ledger.writer.submit(top_up()) for _ in range(20)])
    await ledger.writer.submit(top_up())
    assert await ledger.balance("u") == 500


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


async def test_a_full_queue_refuses_at_once_and_writes_nothing_of_it(ledger: Ledger) -> None:
    await ledger.give("u", 10_000)
    results = await settled(*[ledger.meter("u") for _ in range(150)])
    refused = [result for result in results if isinstance(result, Busy)]
    assert len(refused) == 50
    assert await ledger.balance("u") == 10_000 - 100 * 8


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


def fail_once(monkeypatch: pytest.MonkeyPatch, *, after_commit: bool) -> threading.Event:
    """Makes the next transaction fail; the event says that it is under way, and it waits a moment for what follows."""
    run, failed, begun = store_db.run_transaction, [], threading.Event()

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

    monkeypatch.setattr(store_db, "run_transaction", failing)
    return begun


class Slow:
    """A connection whose statements of one kind wait until they are let go."""

    def __init__(
        self, connection: sqlite3.Connection, verb: str, reached: threading.Event, go: threading.Event
    ) -> None:
        self._connection, self._verb, self._reached, self._go = connection, verb, reached, go

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        if sql.startswith(self._verb):
            self._reached.set()
            assert self._go.wait(30)
        return self._connection.execute(sql, parameters)

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[threading.Event, threading.Event]]:
    """Makes the next statement of a kind hang in its thread; gives (reached, go)."""

    def begin(verb: str) -> tuple[threading.Event, threading.Event]:
        run, reached, go = store_db.run_transaction, threading.Event(), threading.Event()

        def slowed(connection: Any, attempt: Any) -> Any:
            return run(Slow(connection, verb, reached, go), attempt)  # type: ignore[arg-type]

        monkeypatch.setattr(store_db, "run_transaction", slowed)
        return reached, go

    return begin


@pytest.fixture
async def impatient(config: Config) -> AsyncIterator[Ledger]:
    limits = replace(config.limits, write_wait_seconds_max=0.2, write_recovery_seconds=0.05)
    async with open_ledger(replace(config, limits=limits)) as made:
        yield made


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

    def show(changes: list[Change], generation: int) -> None:
        hub.publish(changes, generation)
        if (push := subscription.take()) is not None:
            seen.extend(entry.version for entry in push.message.entries)
            assert not push.message.gap

    async with open_ledger(config) as ledger:
        await ledger.give("u", 100)
        subscription = hub.subscribe("u", lambda: None)
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
    def broken(_changes: list[Change], _generation: int) -> None:
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
        for _ in range(2 * LIMITS.read_connections):
            with pytest.raises(Unavailable):
                await impatient.db.fetch_all(endless)
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


async def test_a_full_disk_answers_busy_and_says_so_until_there_is_room(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.give("u", 10**6)

    def pages() -> Script[int]:
        [[count]] = yield "PRAGMA page_count", ()
        yield f"PRAGMA max_page_count = {count}", ()
        return int(count)

    full = await ledger.db.transact(pages)
    pragmas = store_db.sqlite_pragmas
    with monkeypatch.context() as disk:  # the connections that replace the first have no more room
        disk.setattr(store_db, "sqlite_pragmas", lambda limits: (*pragmas(limits), f"PRAGMA max_page_count = {full}"))
        results = await settled(*[ledger.meter("u", metadata={"pad": "p" * 4000}) for _ in range(50)])
        assert [type(result) for result in results] == [TransactionFailed] * 50
        assert ledger.writer.failing
    assert (await ledger.meter("u", metadata={"pad": "p" * 4000})).entry is not None
    assert not ledger.writer.failing
    assert await ledger.balance("u") == 10**6 - 8


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


async def test_a_reader_in_between_and_another_writer_never_meet_a_stale_snapshot(
    ledger: Ledger, config: Config
) -> None:
    """Read, then write, while another connection commits in between: BEGIN IMMEDIATE waits instead of failing."""
    await ledger.give("u", 10_000)
    command = Database(config)
    await command.open()
    prices = CatalogueStore(command, config.limits)
    meters = [ledger.meter("u") for _ in range(60)]
    changes = [prices.put_price(f"other.{i}", i, "Other", {}) for i in range(10)]
    results = await settled(*meters, *changes)
    await command.close()
    assert [result for result in results if isinstance(result, BaseException)] == []


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


async def test_a_fault_in_a_rule_is_an_answer_and_not_the_end_of_the_writer(ledger: Ledger) -> None:
    await ledger.give("u", 100)
    results = await settled(ledger.writer.submit(Operation(customer_id="u", id="bad_1")), ledger.meter("u"))
    assert isinstance(results[0], Internal)
    assert isinstance(results[1], Outcome)


async def test_a_price_changed_beside_the_server_counts_from_the_next_event(ledger: Ledger, config: Config) -> None:
    await ledger.give("u", 100)
    command = Database(config)
    await command.open()
    await CatalogueStore(command, config.limits).put_price("chat.reply", 5, "Chat reply", {})
    await command.close()
    outcome = await ledger.meter("u")
    assert outcome.entry is not None
    assert (outcome.entry.credits, outcome.entry.price_version) == (-5, 2)


async def test_a_closed_writer_has_written_what_waited_and_takes_no_more(ledger: Ledger) -> None:
    await ledger.give("u", 1000)
    waiting = [asyncio.create_task(ledger.meter("u")) for _ in range(40)]
    await asyncio.sleep(0)
    await ledger.writer.close()
    assert all(outcome.entry for outcome in await asyncio.gather(*waiting))
    with pytest.raises(ShuttingDown):
        await ledger.meter("u")


async def test_listeners_hear_of_a_commit_before_its_callers_do(config: Config) -> None:
    db = Database(config)
    await db.open()
    catalogue = CatalogueStore(db, config.limits)
    order: list[str] = []
    writer = Writer(db, catalogue, config, lambda _changes, _generation: order.append("told"))
    await writer.submit(AddGrant(customer_id="u", id="grant_1", credits=5, category="paid"))
    order.append("answered")
    await writer.close()
    await db.close()
    assert order == ["told", "answered"]


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
        "UPDATE wallets SET balance = 14.9",
        "UPDATE wallets SET balance = 9223372036854775807",
        "UPDATE grants SET remaining = -1",
        "UPDATE wallets SET held = -1",
    ):

        def script(sql: str = statement) -> Script[None]:
            yield sql, ()

        with pytest.raises((TransactionFailed, ChargeError)):
            await ledger.db.transact(script)
    assert await ledger.balance("u") == 5


async def test_welcome_credits_reach_a_new_wallet_in_the_commit_of_its_first_event(config: Config) -> None:
    generous = replace(config, welcome_credits=20)
    db = Database(generous)
    await db.open()
    catalogue = CatalogueStore(db, generous.limits)
    writer = Writer(db, catalogue, generous, lambda _changes, _generation: None)
    outcomes = await settled(*[writer.submit(event("u")) for _ in range(3)])
    await writer.close()
    wallet = await reads.wallet(db, "u")
    await db.close()
    assert [type(outcome) for outcome in outcomes] == [Outcome, Outcome, InsufficientCredits]
    assert wallet is not None
    assert (wallet.balance, wallet.version) == (4, 3)
