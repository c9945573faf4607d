"""What a writer remembers of wallets: never what somebody else has changed since, or what was not committed."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace
from store.writing import Ledger, event, open_ledger

from app.config import LOCK_WAIT_NOTICED_MS, Config
from app.errors import ChargeError, HoldNotOpen
from app.rules.operations import Capture, MakeHold, OpenWallet, derived_id
from app.rules.wallet import Grant, Hold, Member, State, Wallet
from app.store import postgres as store_postgres
from app.store import sqlite as store_sqlite
from app.store.catalogue import PriceDraft
from app.store.dialect import place
from app.store.ids import new_id
from app.store.transaction import Attempt
from app.store.verify import Audit
from app.store.wallet_cache import Ground, WalletCache

HERE = Ground(connection=1, data_version=1, last_is_there=True)


def state(customer_id: str = "u", **fields: int) -> State:
    return State(Wallet(customer_id=customer_id, version=1, **fields))


def cached(*states: State, most: int = 10) -> WalletCache:
    cache = WalletCache(most)
    cache.begin(HERE)
    cache.leave(states, "evt_1")
    cache.begin(HERE)
    return cache


def test_a_wallet_is_known_as_the_batch_before_left_it() -> None:
    assert cached(state(balance=5)).known(["u", "v"], 0) == {"u": state(balance=5)}


@pytest.mark.parametrize(
    "ground",
    [HERE._replace(data_version=2), HERE._replace(connection=2), HERE._replace(last_is_there=False)],
    ids=["another connection wrote", "it is another connection", "the batch before was not committed"],
)
def test_nothing_is_known_where_it_may_have_changed(ground: Ground) -> None:
    cache = cached(state())
    cache.leave([state("v")], "evt_2")
    cache.begin(ground)
    assert cache.known(["u", "v"], 0) == {}
    cache.leave([state("v")], "evt_3")
    cache.begin(ground._replace(last_is_there=True))
    assert cache.known(["u", "v"], 0) == {"v": state("v")}


def test_what_no_entry_can_prove_is_forgotten() -> None:
    cache = cached(state(), state("v"))
    cache.leave([state(due_at=9)], "")
    cache.begin(HERE)
    assert cache.known(["u", "v"], 0) == {"v": state("v")}


def test_a_wallet_is_known_until_it_is_due() -> None:
    cache = cached(state(due_at=10), state("late", due_at=10, last_entry_at=11))
    assert list(cache.known(["u", "late"], 9)) == ["u"]
    assert cache.known(["u", "late"], 10) == {}


def test_a_wallet_is_known_at_the_version_that_it_has() -> None:
    cache = cached(state(), state("moved"), state("gone"))
    assert list(cache.known(["u", "moved", "gone"], 0, {"u": 1, "moved": 2})) == ["u"]


def test_the_least_recently_used_wallets_leave_first() -> None:
    cache = cached(*(state(id) for id in "abc"), most=3)
    cache.leave([state("a"), state("d")], "evt_2")
    cache.begin(HERE)
    assert set(cache.known("abcd", 0)) == {"c", "a", "d"}


def test_what_an_operation_named_is_not_kept() -> None:
    grant = Grant(
        id="grant_1", version=1, category="paid", credits=5, remaining=0, source="g", created_at=0, effective_at=0
    )
    hold = Hold(
        id="hold_1",
        version=2,
        status="open",
        label="",
        event=None,
        model=None,
        member=None,
        quantity=1,
        credits=1,
        unit_credits=None,
        price_version=None,
        created_at=0,
        expires_at=9,
    )
    kept = replace(grant, id="grant_2", state="expired", remaining=2)
    named = State(state().wallet, (), {"grant_1": grant, "grant_2": kept}, {"hold_1": hold}, {"a": Member(member="a")})
    assert cached(named).known("u", 0)["u"] == State(state().wallet, (), {"grant_2": kept})


@contextlib.contextmanager
def statements(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is run in write transactions from here on."""
    run, seen = store_sqlite.run_transaction, []

    def traced(connection: sqlite3.Connection, attempt: Attempt[object]) -> object:
        connection.set_trace_callback(seen.append)
        try:
            return run(connection, attempt)
        finally:
            connection.set_trace_callback(None)

    monkeypatch.setattr(store_sqlite, "run_transaction", traced)
    yield seen


@pytest.mark.sqlite
async def test_a_wallet_is_read_once_and_again_when_others_have_written(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.give("u", 100)
    with statements(monkeypatch) as seen:
        for _ in range(3):
            await ledger.meter("u", credits=1)
        assert not [sql for sql in seen if "FROM wallets" in sql]
        with contextlib.closing(sqlite3.connect(place(ledger.config.database_url))) as other, other:
            other.execute("UPDATE wallets SET overdraft_limit = 7 WHERE customer_id = 'u'")
        outcome = await ledger.meter("u", credits=1)
        assert outcome.wallet.available == 96 + 7
        assert len([sql for sql in seen if "FROM wallets" in sql]) == 1


@pytest.mark.postgresql
async def test_a_busy_wallet_costs_postgresql_four_statements_and_one_more_when_others_have_written(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, seen = store_postgres.send, []

    async def traced(raw: Any, sql: str, parameters: Any) -> Any:
        seen.append(sql)
        return await send(raw, sql, parameters)

    async with open_ledger(config) as ledger, open_ledger(config) as other:
        await ledger.give("u", 100)
        monkeypatch.setattr(store_postgres, "send", traced)
        await ledger.meter("u", credits=1)
        assert [sql.split()[0] for sql in seen] == ["BEGIN", "SELECT", "WITH", "COMMIT"]
        await other.meter("u", credits=1)
        seen.clear()
        assert (await ledger.meter("u", credits=1)).wallet.balance == 97
        assert [sql.split()[0] for sql in seen] == ["BEGIN", "SELECT", "SELECT", "WITH", "COMMIT"]


@pytest.mark.postgresql
async def test_what_was_rolled_back_on_postgresql_is_not_believed(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction is tried again on the same connection, where the versions of its wallets are what they were."""
    send, failed = store_postgres.send, []

    async def failing_once(raw: Any, sql: str, parameters: Any) -> Any:
        if sql == "COMMIT" and not failed:
            failed.append(1)
            raise asyncpg.SerializationError("could not serialize access")
        return await send(raw, sql, parameters)

    async with open_ledger(config) as ledger:
        await ledger.give("u", 100)
        monkeypatch.setattr(store_postgres, "send", failing_once)
        assert (await ledger.meter("u", credits=30)).wallet.balance == 70
        assert (await ledger.meter("u", credits=30)).wallet.balance == 40
        assert failed
        assert [found.sentence async for found in Audit(ledger.db).mismatches()] == []


@pytest.mark.postgresql
async def test_an_entry_that_another_process_can_write_proves_nothing(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes capture the same hold; the first is rolled back, and finds its entry's id in the other's entry."""
    send, rolled_back = store_postgres.send, []
    async with open_ledger(config) as ledger, open_ledger(config) as other:
        await ledger.give("u", 1000)
        hold = MakeHold(customer_id="u", id=new_id("hold", "u"), credits=100, quantity=1, expires_in=600, metadata={})
        await ledger.writer.submit(hold)

        def capture(credits: int) -> Capture:
            id = derived_id("evt", hold.id)
            return Capture(
                customer_id="u", id=id, hold_id=hold.id, credits=credits, metadata={}, request_hash=str(credits)
            )

        async def failing_once(raw: Any, sql: str, parameters: Any) -> Any:
            if sql == "COMMIT" and not rolled_back:
                rolled_back.append(1)
                await raw.execute("ROLLBACK")
                await other.writer.submit(capture(90))
                raise asyncpg.SerializationError("could not serialize access")
            return await send(raw, sql, parameters)

        monkeypatch.setattr(store_postgres, "send", failing_once)
        with pytest.raises(HoldNotOpen):
            await ledger.writer.submit(capture(10))
        assert rolled_back
        assert (await ledger.meter("u", credits=1)).wallet.balance == 909
        assert [found.sentence async for found in Audit(ledger.db).mismatches()] == []


@pytest.mark.postgresql
async def test_a_batch_has_one_time_however_long_it_reads(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """A known wallet's hold runs out while another wallet of the batch is read."""
    send, held_until, read = store_postgres.send, 0.0, []

    async def reading_slowly(raw: Any, sql: str, parameters: Any) -> Any:
        if "FROM holds" in sql and not read:
            read.append(1)
            await asyncio.sleep(max(0.0, held_until - time.time()))
        return await send(raw, sql, parameters)

    async with open_ledger(config) as ledger:
        await ledger.give("known", 1000)
        held_until = time.time() + 1.1
        await ledger.writer.submit(
            MakeHold(customer_id="known", id=new_id("hold", "u"), credits=100, quantity=1, expires_in=1, metadata={})
        )
        await ledger.meter("known", credits=1)
        monkeypatch.setattr(store_postgres, "send", reading_slowly)
        results = await ledger.writer.submit_all(
            (event("known", credits=1), OpenWallet(customer_id="new", id=new_id("open", "new")))
        )
        assert read
        assert [one for one in results if isinstance(one, ChargeError)] == []
        assert (await ledger.meter("known", credits=1)).wallet.available == 997
        assert [found.sentence async for found in Audit(ledger.db).mismatches()] == []


@pytest.mark.postgresql
async def test_a_batch_that_waited_for_its_wallet_goes_by_the_prices_of_when_it_had_it(config: Config) -> None:
    """What was priced while it waited is what its entry says."""
    async with open_ledger(config) as ledger, open_ledger(config) as other:
        await ledger.give("u", 1000)
        await ledger.catalogue.put_price(PriceDraft(event="chat.reply", credits=5, label="Chat reply"))
        await ledger.meter("u")
        holder = await asyncpg.connect(config.database_url)
        try:
            async with holder.transaction():
                await holder.execute("SELECT 1 FROM wallets WHERE customer_id = 'u' FOR UPDATE")
                metering = asyncio.create_task(ledger.meter("u"))
                await until_someone_waits_for_a_lock(holder)
                await other.catalogue.put_price(PriceDraft(event="chat.reply", credits=50, label="Chat reply"))
                await asyncio.sleep(LOCK_WAIT_NOTICED_MS / 1000)
            entry = (await metering).entry
        finally:
            await holder.close()
        assert entry is not None
        assert (entry.price_version, entry.credits) == (3, -50)  # chat.reply came with a price


async def until_someone_waits_for_a_lock(connection: asyncpg.Connection) -> None:
    """Returns once a statement of another connection waits for a row that this one has locked."""
    async with asyncio.timeout(10):
        while not await connection.fetchval(
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        ):
            await asyncio.sleep(0.005)


async def test_two_writers_never_work_with_what_the_other_has_changed(config: Config) -> None:
    async with open_ledger(config) as one, open_ledger(config) as other:
        await one.give("u", 1000)
        for number in range(30):
            await (one if number % 3 else other).meter("u", credits=10)
        assert await one.balance("u") == 700
        assert [found.sentence async for found in Audit(one.db).mismatches()] == []
