"""What each operation does to a wallet, one rule at a time."""

from typing import Any

import pytest

from app.config import BALANCE_MAX
from app.errors import IdempotencyConflict, InsufficientCredits, InvalidRequest, NotFound, UnknownEvent, WalletFrozen
from app.rules.ledger import (
    AddGrant,
    Adjust,
    Applied,
    ChangeSettings,
    Event,
    Grant,
    OpenWallet,
    Operation,
    State,
    TopUp,
    Wallet,
    apply,
    burn_down_order,
    replay,
)
from app.rules.pricing import Catalogue, Price

CATALOGUE = Catalogue(1, {"chat.reply": Price("chat.reply", 2, 8, "Chat reply", {})})
NEW = State(Wallet(customer_id="u"))


def event(**fields: Any) -> Event:
    return Event(**{"customer_id": "u", "id": "evt_1", "event": "chat.reply", "metadata": {}} | fields)


def grant(credits: int, id: str = "grant_1", **fields: Any) -> AddGrant:
    return AddGrant(**{"customer_id": "u", "id": id, "credits": credits, "category": "promotional"} | fields)


def after(*operations: Operation, state: State = NEW, now: int = 1000) -> State:
    for operation in operations:
        state = apply(state, operation, CATALOGUE, now).state
    return state


def done(state: State, operation: Operation, now: int = 1000, welcome: int = 0) -> Applied:
    return apply(state, operation, CATALOGUE, now, welcome)


def test_an_event_takes_its_price_and_its_entry_tells_the_whole_state() -> None:
    applied = done(after(grant(100)), event(quantity=2, model="m", member="alice", metadata={"a": 1}, cost_nanos=5))
    [entry] = applied.entries
    assert (entry.kind, entry.description, entry.credits) == ("event", "Chat reply", -16)
    assert (entry.balance, entry.held, entry.available, entry.version) == (84, 0, 84, 2)
    assert (entry.unit_credits, entry.price_version, entry.quantity) == (8, 2, 2)
    assert entry.draws == (("grant_1", 16),)
    assert (entry.member, entry.model, entry.metadata, entry.cost_nanos) == ("alice", "m", {"a": 1}, 5)


def test_credits_given_with_an_event_are_the_whole_price_and_need_no_catalogue() -> None:
    [entry] = done(after(grant(100)), event(event="never.priced", credits=30, quantity=5)).entries
    assert (entry.credits, entry.description, entry.unit_credits, entry.price_version) == (
        -30,
        "never.priced",
        None,
        None,
    )


def test_a_wallet_is_emptied_to_the_last_credit_and_no_further() -> None:
    state = after(grant(16), event(), event())
    assert (state.wallet.balance, state.grants) == (0, ())
    with pytest.raises(InsufficientCredits) as refused:
        done(state, event())
    assert refused.value.facts == {"required": 8, "available": 0, "balance": 0}


def test_a_customer_never_seen_is_refused_like_an_empty_wallet() -> None:
    with pytest.raises(InsufficientCredits):
        done(NEW, event())


def test_welcome_credits_come_first_by_an_entry_of_their_own() -> None:
    applied = done(NEW, event(), welcome=20)
    assert [(e.kind, e.description, e.credits, e.balance, e.version) for e in applied.entries] == [
        ("grant", "Welcome credits", 20, 20, 1),
        ("event", "Chat reply", -8, 12, 2),
    ]
    assert [(g.source, g.remaining) for g in applied.state.grants] == [("welcome", 12)]


def test_the_key_is_kept_with_the_operations_own_entry_and_not_with_the_welcome() -> None:
    first, own = done(NEW, event(key="k", request_hash="h"), welcome=20).entries
    assert (first.idempotency_key, own.idempotency_key, own.request_hash) == (None, "k", "h")


def test_credits_burn_by_priority_then_expiry_then_promotional_first_then_age() -> None:
    def made(id: str, **fields: Any) -> Grant:
        base = {"id": id, "version": 9, "category": "paid", "credits": 1, "remaining": 1, "source": "x"}
        return Grant(**base | {"created_at": 0, "effective_at": 0} | fields)

    wanted = [
        made("first", priority=1),
        made("early", expires_at=10),
        made("late", expires_at=20),
        made("promotional", category="promotional"),
        made("old", version=3),
        made("young", version=4),
    ]
    shuffled = [wanted[i] for i in (3, 0, 5, 2, 4, 1)]
    assert sorted(shuffled, key=burn_down_order) == wanted


def test_an_event_draws_on_as_many_grants_as_it_needs() -> None:
    state = after(grant(5, "grant_p", category="paid"), grant(10, "grant_m"))
    applied = done(state, event(credits=12))
    assert applied.entries[0].draws == (("grant_m", 10), ("grant_p", 2))
    assert {g.id: g.remaining for g in applied.grants} == {"grant_m": 0, "grant_p": 3}
    assert [g.id for g in applied.state.grants] == ["grant_p"]


def test_an_adjustment_up_makes_a_promotional_grant_and_down_burns_in_order() -> None:
    up = done(after(grant(1)), Adjust(customer_id="u", id="adj_7", credits=9, reason="sorry"))
    assert (up.entries[0].id, up.entries[0].credits, up.grants[0].id) == ("adj_7", 9, "grant_7")
    down = done(up.state, Adjust(customer_id="u", id="adj_8", credits=-10, reason="typo"))
    assert (down.entries[0].balance, down.entries[0].draws) == (0, (("grant_1", 1), ("grant_7", 9)))
    with pytest.raises(InsufficientCredits):
        done(down.state, Adjust(customer_id="u", id="adj_9", credits=-1, reason="typo"))


def test_nobody_adjusts_or_sets_a_wallet_that_is_not_there() -> None:
    for operation in (
        Adjust(customer_id="u", id="adj_1", credits=5, reason="r"),
        ChangeSettings(customer_id="u", id="set_1", changes={"name": "x"}),
    ):
        with pytest.raises(NotFound):
            done(NEW, operation, welcome=10)


def test_a_top_up_is_a_paid_grant_that_knows_its_money() -> None:
    top_up = TopUp(
        customer_id="u",
        id="top_c",
        credits=500,
        checkout_id="co_c",
        description="Top-up: Starter",
        amount=1000,
        currency="usd",
    )
    applied = done(NEW, top_up)
    [made] = applied.grants
    assert (made.id, made.category, made.source, made.amount, made.currency) == ("grant_c", "paid", "co_c", 1000, "usd")
    assert (applied.entries[0].kind, applied.entries[0].description) == ("top_up", "Top-up: Starter")


def test_what_comes_in_pays_a_debt_first() -> None:
    owing = State(Wallet(customer_id="u", balance=-30, version=4))
    applied = done(owing, grant(50))
    assert (applied.state.wallet.balance, applied.grants[0].credits, applied.grants[0].remaining) == (20, 50, 20)
    still = done(owing, grant(30))
    assert (still.state.wallet.balance, still.state.grants, still.grants[0].remaining) == (0, (), 0)


def test_an_overdraft_lets_the_balance_go_below_zero_and_no_further() -> None:
    state = State(Wallet(customer_id="u", balance=0, version=1, overdraft_limit=10))
    assert done(state, event()).entries[0].balance == -8
    with pytest.raises(InsufficientCredits):
        done(state, event(credits=11))


def test_an_overdraft_that_is_lowered_leaves_the_debt_and_stops_spending_until_it_is_paid() -> None:
    state = State(Wallet(customer_id="u", balance=-8, version=2, overdraft_limit=10))
    lowered = done(state, ChangeSettings(customer_id="u", id="set_1", changes={"overdraft_limit": 5})).state
    assert (lowered.wallet.available, lowered.wallet.version) == (-3, 3)
    with pytest.raises(InsufficientCredits) as refused:
        done(lowered, event(credits=1))
    assert refused.value.facts == {"required": 1, "available": -3, "balance": -8}
    assert done(lowered, grant(8)).state.wallet.available == 5


def test_nothing_is_spent_from_a_frozen_wallet_and_money_still_comes_in() -> None:
    state = after(grant(20), ChangeSettings(customer_id="u", id="set_1", changes={"frozen": True}))
    for spending in (event(), event(credits=0)):
        with pytest.raises(WalletFrozen):
            done(state, spending)
    assert done(state, grant(5)).state.wallet.balance == 25
    assert done(state, Adjust(customer_id="u", id="adj_1", credits=-5, reason="r")).state.wallet.balance == 15
    thawed = done(state, ChangeSettings(customer_id="u", id="set_2", changes={"frozen": False})).state
    assert done(thawed, event()).state.wallet.balance == 12


def test_held_credits_cannot_be_spent() -> None:
    made = after(grant(20))
    state = State(Wallet(customer_id="u", balance=20, held=15, version=1), made.grants)
    with pytest.raises(InsufficientCredits) as refused:
        done(state, event())
    assert refused.value.facts == {"required": 8, "available": 5, "balance": 20}


def test_opening_a_wallet_twice_leaves_it_as_it_is() -> None:
    state = after(OpenWallet(customer_id="u", id="set_1", name="Acme", low_balance_threshold=5))
    assert (state.wallet.name, state.wallet.low_balance_threshold, state.wallet.version) == ("Acme", 5, 1)
    again = done(state, OpenWallet(customer_id="u", id="set_2", name="Other"))
    assert (again.state, again.entries) == (state, ())


def test_a_setting_that_does_not_change_writes_nothing() -> None:
    state = after(OpenWallet(customer_id="u", id="set_1", name="Acme"))
    assert done(state, ChangeSettings(customer_id="u", id="set_2", changes={"name": "Acme"})).entries == ()
    changed = done(state, ChangeSettings(customer_id="u", id="set_3", changes={"low_balance_threshold": 9}))
    assert (changed.entries[0].kind, changed.entries[0].credits) == ("settings", 0)
    assert changed.entries[0].detail == {"low_balance_threshold": 9}


def test_a_wallet_is_low_below_its_threshold_and_never_without_one() -> None:
    assert not Wallet(customer_id="u", balance=0).low
    assert not Wallet(customer_id="u", balance=10, low_balance_threshold=10).low
    assert Wallet(customer_id="u", balance=9, low_balance_threshold=10).low


def test_a_balance_that_browsers_could_not_hold_is_refused() -> None:
    full = State(Wallet(customer_id="u", balance=BALANCE_MAX, version=1))
    with pytest.raises(InvalidRequest):
        done(full, grant(1))


def test_a_clock_that_goes_back_does_not_take_the_ledger_with_it() -> None:
    state = after(grant(100), now=10_000)
    [entry] = done(state, event(), now=2_000).entries
    assert entry.created_at == 10_000


def test_a_replay_is_the_first_entry_and_another_request_a_conflict() -> None:
    [entry] = done(after(grant(100)), event(key="k", request_hash="h")).entries
    assert replay(entry, event(id="evt_2", key="k", request_hash="h")) is entry
    assert replay(entry, event(request_hash="other")) is entry  # the same operation, looked up by its id
    with pytest.raises(IdempotencyConflict):
        replay(entry, event(id="evt_2", key="k", request_hash="other"))


def test_an_event_without_a_price_is_refused_and_makes_no_wallet() -> None:
    with pytest.raises(UnknownEvent):
        done(NEW, event(event="no.such"), welcome=100)


def test_an_operation_without_a_rule_is_a_fault_of_ours() -> None:
    with pytest.raises(TypeError):
        done(NEW, Operation(customer_id="u", id="x_1"))
