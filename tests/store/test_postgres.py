"""PostgreSQL that fails, hangs, is lost, is stopped or is shared: what callers are told, and what is in the ledger."""

import asyncio
import functools
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace
from postgres import PostgresServer, database_of
from store.writing import LIMITS, Ledger, event, open_ledger, settled

from app.config import Config
from app.errors import Busy, ChargeError, InsufficientCredits, OutcomeUnknown, TransactionFailed, Unavailable
from app.rules.operations import AddGrant
from app.store import checkouts, reads
from app.store import postgres as store_postgres
from app.store.batch import Outcome
from app.store.catalogue import PriceDraft
from app.store.checkouts import Checkout
from app.store.db import Database, Script
from app.store.ids import new_id

pytestmark = pytest.mark.postgresql

MANY = 3 * (LIMITS.read_connections + 1)
"""More failures than there are connections."""


class Operator:
    """Whoever runs the server of a test's database."""

    def __init__(self, server: PostgresServer, url: str) -> None:
        self.server, self.url, self.database = server, url, database_of(url)

    async def execute(self, sql: str) -> list[Any]:
        return await asyncio.to_thread(self.server.execute, sql, self.url)

    async def end_connections(self) -> None:
        """As a fail-over does, or an administrator: every connection of ours is closed by the server."""
        await self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'chargly' AND datname = current_database()"
        )

    async def statements(self, like: str) -> list[Any]:
        """What our connections are busy with."""
        return await self.execute(
            "SELECT query FROM pg_stat_activity WHERE application_name = 'chargly' AND state = 'active'"
            f" AND datname = current_database() AND query LIKE '{like}'"
        )

    async def hang_commits(self, *, hang: bool) -> None:
        """A standby that must confirm every commit and is not there."""
        await self.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{'nobody' if hang else ''}'")
        await self.execute("SELECT pg_reload_conf()")
        async with asyncio.timeout(10):
            while await self._a_commit_hangs() is not hang:
                pass

    async def _a_commit_hangs(self) -> bool:
        """Tries one. What a connection shows of the setting is no sign: the checkpointer makes it count, later."""
        connection = await asyncpg.connect(self.url)
        try:
            async with asyncio.timeout(0.3):
                await connection.execute(f"COMMENT ON TABLE instance IS '{secrets.token_hex(4)}'")
        except TimeoutError:
            return True
        finally:
            connection.terminate()
        return False


@pytest.fixture
def operator(postgres: PostgresServer, database_url: str) -> Operator:
    return Operator(postgres, database_url)


@pytest.fixture
async def hanging_commits(operator: Operator) -> AsyncIterator[Operator]:
    yield operator
    await operator.hang_commits(hang=False)


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A server of one test's own, to be stopped."""
    running = PostgresServer(quick=False)
    yield running
    running.end()


@pytest.fixture
async def other(config: Config) -> AsyncIterator[Ledger]:
    """Another process on the same database."""
    async with open_ledger(config) as made:
        yield made


def script_of(*statements: str) -> Script[None]:
    for statement in statements:
        yield statement, ()


def before(monkeypatch: pytest.MonkeyPatch, verb: str, act: Any) -> list[int]:
    """Does something before the next statement of a kind is sent, once."""
    send, done = store_postgres.send, []

    async def interfered(raw: Any, sql: str, parameters: Any) -> Any:
        if re.search(rf"\b{verb}\b", sql) and not done:
            done.append(1)
            await act()
        return await send(raw, sql, parameters)

    monkeypatch.setattr(store_postgres, "send", interfered)
    return done


@pytest.mark.parametrize("verb", ["BEGIN", "INSERT INTO entries", "COMMIT"])
async def test_a_connection_that_is_lost_in_a_transaction_costs_nobody_a_charge(
    ledger: Ledger, operator: Operator, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    await ledger.give("u", 1000)
    lost = before(monkeypatch, verb, operator.end_connections)
    outcomes = await asyncio.gather(*[ledger.meter("u") for _ in range(5)])
    assert lost
    assert all(outcome.entry for outcome in outcomes)
    assert await ledger.balance("u") == 1000 - 5 * 8
    assert not ledger.writer.failing


async def test_a_connection_that_is_lost_at_a_commit_under_way_is_looked_up(
    ledger: Ledger, hanging_commits: Operator
) -> None:
    await ledger.give("u", 1000)
    await hanging_commits.hang_commits(hang=True)
    metered = [asyncio.create_task(ledger.meter("u")) for _ in range(5)]
    async with asyncio.timeout(10):
        while not await hanging_commits.statements("COMMIT"):
            await asyncio.sleep(0.01)
    await hanging_commits.end_connections()  # it is written here, and the answer is lost
    await hanging_commits.hang_commits(hang=False)
    outcomes = await asyncio.gather(*metered)
    assert [outcome.replayed for outcome in outcomes] == [False] * 5
    assert await ledger.balance("u") == 1000 - 5 * 8
    assert len(await ledger.entries("u")) == 6


async def test_a_commit_that_is_never_answered_is_called_unknown_and_left_behind(
    impatient: Ledger, hanging_commits: Operator
) -> None:
    await impatient.give("u", 100)
    await hanging_commits.hang_commits(hang=True)
    with pytest.raises(OutcomeUnknown):
        await impatient.meter("u", key="k", request_hash="h")
    assert await impatient.balance("u") == 100  # reads go on
    await hanging_commits.hang_commits(hang=False)
    async with asyncio.timeout(10):
        while impatient.writer.failing:
            await asyncio.sleep(0.01)
    assert (await impatient.meter("u", key="k", request_hash="h")).replayed
    assert await impatient.balance("u") == 92


async def test_commits_that_fail_leave_no_connection_behind(ledger: Ledger, operator: Operator) -> None:
    await operator.execute("CREATE TABLE deferred (id bigint REFERENCES instance (id) DEFERRABLE INITIALLY DEFERRED)")
    for _ in range(MANY):
        with pytest.raises(TransactionFailed) as failed:
            await ledger.db.transact(functools.partial(script_of, "INSERT INTO deferred VALUES (2)"))
        assert failed.value.rows_refused
    await ledger.give("u", 5)
    assert await ledger.balance("u") == 5


async def test_connections_that_are_lost_again_and_again_are_replaced(ledger: Ledger, operator: Operator) -> None:
    await ledger.give("u", 1000)
    for _ in range(MANY):
        await operator.end_connections()
        results = await settled(ledger.meter("u"), *[ledger.balance("u") for _ in range(LIMITS.read_connections)])
        assert all(isinstance(result, Outcome | int | Unavailable) for result in results), results
    count = (await ledger.meter("u")).wallet.version
    assert await ledger.balance("u") == 1000 - (count - 1) * 8


async def test_connections_that_were_lost_while_nobody_used_them_cost_nobody_an_error(
    ledger: Ledger, operator: Operator
) -> None:
    await ledger.give("u", 100)
    await operator.end_connections()
    await asyncio.sleep(0.1)
    assert [await ledger.balance("u") for _ in range(2 * LIMITS.read_connections)] == [100] * 8
    await ledger.meter("u")
    assert not ledger.writer.failing


async def test_a_statement_that_hangs_is_cancelled_and_the_next_transaction_goes_on(
    impatient: Ledger, operator: Operator
) -> None:
    for _ in range(LIMITS.read_connections + 2):
        with pytest.raises(Busy):
            await impatient.db.transact(functools.partial(script_of, "SELECT pg_sleep(60)"))
        await impatient.give("u", 1)
    assert await impatient.balance("u") == LIMITS.read_connections + 2
    assert await operator.statements("%pg_sleep(60)%") == []


async def test_a_read_whose_caller_leaves_is_cancelled_on_the_server(ledger: Ledger, operator: Operator) -> None:
    for _ in range(2 * LIMITS.read_connections):
        reading = asyncio.create_task(ledger.db.fetch_all("SELECT pg_sleep(60)"))
        await asyncio.sleep(0.05)
        reading.cancel()
        await settled(reading)
    assert await ledger.balance("u") == 0
    async with asyncio.timeout(5):
        while await operator.statements("%pg_sleep(60)%"):
            await asyncio.sleep(0.02)


async def test_a_transaction_whose_caller_leaves_while_it_hangs_does_not_stop_the_others(impatient: Ledger) -> None:
    hanging = asyncio.create_task(impatient.db.transact(functools.partial(script_of, "SELECT pg_sleep(60)")))
    await asyncio.sleep(0.05)
    hanging.cancel()
    await settled(hanging)
    async with asyncio.timeout(10):
        while isinstance((await settled(impatient.give("u", 1)))[0], ChargeError):
            pass
    assert await impatient.balance("u") == 1


async def test_a_read_cannot_write(ledger: Ledger) -> None:
    with pytest.raises(Unavailable):
        await ledger.db.fetch_all("UPDATE instance SET epoch = 'x' RETURNING epoch")
    assert (await ledger.db.fetch_all("SELECT epoch FROM instance"))[0][0] != "x"


async def test_another_process_that_holds_a_wallet_for_too_long_is_answered_busy(
    impatient: Ledger, operator: Operator
) -> None:
    await impatient.give("u", 100)
    other = await asyncpg.connect(operator.url)
    async with other.transaction():
        await other.execute("SELECT 1 FROM wallets FOR UPDATE")
        with pytest.raises(Busy):
            await impatient.meter("u", key="k", request_hash="h")
    await other.close()
    assert not (await impatient.meter("u", key="k", request_hash="h")).replayed
    assert await impatient.balance("u") == 92


async def test_a_deadlock_is_tried_again_and_nobody_hears_of_it(ledger: Ledger, operator: Operator) -> None:
    await operator.execute(f"ALTER DATABASE {operator.database} SET deadlock_timeout = '50ms'")
    await operator.end_connections()  # the new ones have it
    first, second = (f"UPDATE packs SET name = 'ours' WHERE code = 'chargly_{size}'" for size in (500, 1200))
    begun: list[int] = []
    loop, locked = asyncio.get_running_loop(), asyncio.Event()

    def script() -> Script[None]:
        begun.append(1)
        yield first, ()
        loop.call_soon(locked.set)
        yield "SELECT pg_sleep(0.2)", ()
        yield second, ()

    other = await asyncpg.connect(operator.url)
    await other.execute("SET deadlock_timeout = '60s'")  # so that ours is the one that is given up
    ours = asyncio.create_task(ledger.db.transact(script))
    async with other.transaction():
        await locked.wait()
        await other.execute(second.replace("ours", "theirs"))
        await other.execute(first.replace("ours", "theirs"))
    await other.close()
    await ours
    assert len(begun) >= 2
    assert [row[0] for row in await ledger.db.fetch_all("SELECT name FROM packs")] == ["ours", "ours"]


async def test_what_is_rolled_back_for_others_again_and_again_ends_as_busy(ledger: Ledger) -> None:
    begun: list[int] = []

    def script() -> Script[None]:
        begun.append(1)
        yield "DO $$ BEGIN RAISE EXCEPTION 'for others' USING ERRCODE = '40001'; END $$", ()

    with pytest.raises(Busy):
        await ledger.db.transact(script)
    assert len(begun) == 1 + LIMITS.transaction_retries_max


async def test_a_server_that_is_stopped_and_started_is_found_again(own_postgres: PostgresServer) -> None:
    config = Config(database_url=own_postgres.new_database(), limits=replace(LIMITS, write_recovery_seconds=0.05))
    async with open_ledger(config) as ledger:
        await ledger.give("u", 100)
        await asyncio.to_thread(own_postgres.stop)
        for _ in range(MANY):
            written, read = await settled(ledger.meter("u"), ledger.balance("u"))
            assert isinstance(written, Unavailable), written
            assert isinstance(read, Unavailable), read
        assert ledger.writer.failing
        await asyncio.to_thread(own_postgres.start)
        async with asyncio.timeout(10):
            while ledger.writer.failing:
                await asyncio.sleep(0.02)
        await ledger.meter("u")
        assert await ledger.balance("u") == 92


async def test_a_process_that_is_closed_while_its_database_hangs_is_closed_in_bounded_time(
    config: Config, hanging_commits: Operator
) -> None:
    async with asyncio.timeout(10):
        limits = replace(config.limits, write_wait_seconds_max=0.5)
        async with open_ledger(replace(config, limits=limits)) as ledger:
            await hanging_commits.hang_commits(hang=True)
            with pytest.raises(OutcomeUnknown):
                await ledger.db.transact(functools.partial(script_of, "UPDATE instance SET generation = generation"))


async def test_two_processes_take_one_key_once(ledger: Ledger, other: Ledger) -> None:
    await ledger.give("u", 1000)
    outcomes = await asyncio.gather(
        *[one.meter("u", key="k", request_hash="h") for _ in range(50) for one in (ledger, other)]
    )
    assert len({outcome.entry.id for outcome in outcomes if outcome.entry}) == 1
    assert sum(not outcome.replayed for outcome in outcomes) == 1
    assert await ledger.balance("u") == 992


async def test_two_processes_have_as_many_winners_as_the_credits_cover(ledger: Ledger, other: Ledger) -> None:
    await ledger.give("u", 40 * 8)
    results = await settled(*[one.meter("u") for _ in range(40) for one in (ledger, other)])
    assert sum(isinstance(result, Outcome) for result in results) == 40
    assert sum(isinstance(result, InsufficientCredits) for result in results) == 40
    assert await ledger.balance("u") == 0
    assert sorted(entry.version for entry in await ledger.entries("u")) == list(range(1, 42))


async def test_two_processes_on_many_wallets_at_once_lose_and_double_nothing(ledger: Ledger, other: Ledger) -> None:
    customers = [f"user_{number}" for number in range(30)]
    await asyncio.gather(*[ledger.give(customer, 1000) for customer in customers])
    for _ in range(5):
        await asyncio.gather(*[ledger.meter(one) for one in customers], *[other.meter(one) for one in customers[::-1]])
    assert {await ledger.balance(customer) for customer in customers} == {1000 - 10 * 8}


async def test_two_processes_see_a_customer_first_at_the_same_time(ledger: Ledger, other: Ledger) -> None:
    for number in range(10):
        await asyncio.gather(ledger.give(f"new_{number}", 5), other.give(f"new_{number}", 5))
        assert await ledger.balance(f"new_{number}") == 10


async def test_two_processes_make_two_versions_of_a_price(ledger: Ledger, other: Ledger) -> None:
    put = [
        one.catalogue.put_price(PriceDraft(event="x.y", credits=credits, label="X"))
        for credits in range(10)
        for one in (ledger, other)
    ]
    made = await asyncio.gather(*put)
    assert sorted(version.version for version in made) == list(range(1, 21))


def new_checkout(number: int, **fields: Any) -> Checkout:
    base = {
        "id": f"co_{number}",
        "customer_id": "u",
        "pack": "chargly_500",
        "description": "Starter",
        "credits": 500,
        "amount": 1000,
        "currency": "usd",
        "status": "open",
        "created_at": 1,
        "expires_at": 2,
        "idempotency_key": "k",
        "request_hash": "h",
    }
    return Checkout(**base | fields)


async def test_two_processes_make_one_checkout_of_one_key(ledger: Ledger, other: Ledger) -> None:
    made = await asyncio.gather(
        *[checkouts.create(one.db, new_checkout(2 * n + i)) for n in range(10) for i, one in enumerate((ledger, other))]
    )
    assert len({checkout.id for checkout in made}) == 1


async def test_a_checkout_and_an_event_of_two_processes_do_not_both_take_a_key(ledger: Ledger, other: Ledger) -> None:
    await ledger.give("u", 1000)
    for number in range(20):
        key = f"key_{number}"
        results = await settled(
            ledger.writer.submit(event("u", key=key, request_hash="event")),
            checkouts.create(other.db, new_checkout(number, idempotency_key=key)),
        )
        assert sum(isinstance(result, ChargeError) for result in results) == 1, results


async def test_a_customers_first_checkout_and_first_event_do_not_both_take_a_key(ledger: Ledger, other: Ledger) -> None:
    for number in range(40):
        customer_id, key = f"new_{number}", "key"
        opens = AddGrant(
            customer_id=customer_id,
            id=new_id("grant", customer_id),
            credits=5,
            category="paid",
            key=key,
            request_hash="grant",
        )
        buys = checkouts.create(other.db, new_checkout(number, customer_id=customer_id, idempotency_key=key))
        results = await settled(buys, ledger.writer.submit(opens))
        assert sum(isinstance(result, ChargeError) for result in results) == 1, results
        wallet = await reads.wallet(ledger.db, customer_id)
        assert (wallet is None) == isinstance(results[1], ChargeError), "a wallet made to be locked is not left behind"


async def test_nothing_is_found_by_a_text_that_no_row_can_have(ledger: Ledger) -> None:
    await ledger.give("u", 5)
    assert await reads.wallet(ledger.db, "u\x00") is None
    assert await ledger.balance("u") == 5


async def test_a_value_beyond_its_column_is_the_rows_own_fault(ledger: Ledger) -> None:
    def beyond(value: Any) -> Script[None]:
        yield "UPDATE instance SET generation = ?", (value,)

    for value in (2**63, "\x00", "text"):
        with pytest.raises(TransactionFailed) as failed:
            await ledger.db.transact(functools.partial(beyond, value))
        assert failed.value.rows_refused
    assert await reads.wallet(ledger.db, "u") is None


async def test_a_database_that_is_not_there_is_unavailable(config: Config) -> None:
    nowhere = Database(replace(config, database_url="postgresql:///x?host=/no/such/folder"))
    with pytest.raises(Unavailable):
        await nowhere.open()
    await nowhere.close()
