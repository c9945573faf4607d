"""The writer on a real database: groups, refusals, races."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace
from store.writing import Ledger, event, settled

from app.config import Config
from app.errors import (
    Busy,
    IdempotencyConflict,
    InsufficientCredits,
    Internal,
    NotFound,
    ShuttingDown,
)
from app.rules.operations import AddGrant, Operation, TopUp, VoidGrant, derived_id
from app.store import reads
from app.store.batch import Outcome
from app.store.catalogue import CatalogueStore, PriceDraft
from app.store.db import Database, Script
from app.store.transaction import Attempt
from app.store.writer import Writer


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
    begin, seen = Attempt.begin, []

    def counted(attempt: Attempt[Any]) -> Script[Any]:
        seen.append(1)
        return begin(attempt)

    monkeypatch.setattr(Attempt, "begin", counted)
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


async def test_an_id_of_another_wallet_is_not_found(ledger: Ledger) -> None:
    given = await ledger.give("u", 5)
    await ledger.give("v", 5)
    assert given.entry is not None
    id = given.entry.id
    for customer_id in ("v", "nobody", "u", "v", "nobody"):
        void = VoidGrant(customer_id=customer_id, id=derived_id("void", id), grant_id=id)
        if customer_id == "u":
            await ledger.writer.submit(void)
            continue
        with pytest.raises(NotFound):
            await ledger.writer.submit(void)
    assert (await ledger.balance("u"), await ledger.balance("v")) == (0, 5)


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


async def test_a_full_queue_refuses_at_once_and_writes_nothing_of_it(ledger: Ledger) -> None:
    await ledger.give("u", 10_000)
    results = await settled(*[ledger.meter("u") for _ in range(150)])
    refused = [result for result in results if isinstance(result, Busy)]
    assert len(refused) == 50
    assert await ledger.balance("u") == 10_000 - 100 * 8


async def test_a_reader_in_between_and_another_writer_never_meet_a_stale_snapshot(
    ledger: Ledger, config: Config
) -> None:
    """Read, then write, while another connection commits in between: BEGIN IMMEDIATE waits instead of failing."""
    await ledger.give("u", 10_000)
    command = Database(config)
    await command.open()
    prices = CatalogueStore(command, config.limits)
    meters = [ledger.meter("u") for _ in range(60)]
    changes = [prices.put_price(PriceDraft(event=f"other.{i}", credits=i, label="Other")) for i in range(10)]
    results = await settled(*meters, *changes)
    await command.close()
    assert [result for result in results if isinstance(result, BaseException)] == []


async def test_a_fault_in_a_rule_is_an_answer_and_not_the_end_of_the_writer(ledger: Ledger) -> None:
    await ledger.give("u", 100)
    results = await settled(ledger.writer.submit(Operation(customer_id="u", id="bad_1")), ledger.meter("u"))
    assert isinstance(results[0], Internal)
    assert isinstance(results[1], Outcome)


async def test_a_price_changed_beside_the_server_counts_from_the_next_event(ledger: Ledger, config: Config) -> None:
    await ledger.give("u", 100)
    command = Database(config)
    await command.open()
    await CatalogueStore(command, config.limits).put_price(
        PriceDraft(event="chat.reply", credits=5, label="Chat reply")
    )
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
