"""Events, corrections, settings, and what every operation keeps to."""

import copy

import pytest
from rules.ledgers import NEW, NOW, adjust, after, change, done, event, grant, left, told, top_up

from app.config import CREDITS_MAX
from app.errors import (
    IdempotencyConflict,
    InsufficientCredits,
    InvalidRequest,
    NotFound,
    UnknownEvent,
    WalletFrozen,
)
from app.rules.ledger import replay
from app.rules.operations import OpenWallet, Operation
from app.rules.pricing import Catalogue, Price
from app.rules.wallet import State, Wallet


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


def test_an_adjustment_up_makes_a_promotional_grant_and_down_burns_in_order() -> None:
    up = done(after(grant(1)), adjust(9, "adj_7"))
    assert (up.entries[0].id, up.entries[0].credits, up.grants[0].id) == ("adj_7", 9, "grant_7")
    down = done(up.state, adjust(-10, "adj_8"))
    assert (down.entries[0].balance, down.entries[0].draws) == (0, (("grant_1", 1), ("grant_7", 9)))
    with pytest.raises(InsufficientCredits):
        done(down.state, adjust(-1, "adj_9"))


def test_a_correction_down_may_use_the_overdraft_and_no_more() -> None:
    state = after(change(overdraft_limit=5), state=after(grant(3)))
    applied = done(state, adjust(-8))
    assert (applied.state.wallet.balance, applied.state.wallet.debt) == (-5, 5)
    with pytest.raises(InsufficientCredits):
        done(state, adjust(-9))


def test_nobody_adjusts_or_sets_a_wallet_that_is_not_there() -> None:
    for operation in (adjust(5), change(name="x")):
        with pytest.raises(NotFound):
            done(NEW, operation, welcome=10)


def test_a_top_up_is_a_paid_grant_that_knows_its_money() -> None:
    applied = done(NEW, top_up(500, "top_c"))
    [made] = applied.grants
    assert (made.id, made.category, made.source, made.amount, made.currency) == ("grant_c", "paid", "co_1", 1000, "usd")
    assert (applied.entries[0].kind, applied.entries[0].description) == ("top_up", "Top-up: Starter")


def test_what_comes_in_pays_a_debt_first() -> None:
    owing = State(Wallet(customer_id="u", balance=-30, debt=30, version=4))
    applied = done(owing, grant(50))
    assert (applied.state.wallet.balance, applied.grants[0].credits, applied.grants[0].remaining) == (20, 50, 20)
    assert (applied.grants[0].debt_paid, applied.entries[0].draws) == (30, (("grant_1", 30),))
    for coming in (grant(30), adjust(30), top_up(30)):
        still = done(owing, coming)
        assert (still.state.wallet.balance, still.state.wallet.debt, still.state.grants) == (0, 0, ())
        assert still.grants[0].remaining == 0


def test_welcome_credits_are_given_once() -> None:
    state = done(NEW, event(), welcome=20).state
    assert told(done(state, event(id="evt_2"), welcome=20)) == [("event", -8)]


def test_an_overdraft_lets_the_balance_go_below_zero_and_no_further() -> None:
    state = State(Wallet(customer_id="u", balance=0, version=1, overdraft_limit=10))
    applied = done(state, event())
    assert (applied.entries[0].balance, applied.state.wallet.debt, applied.entries[0].draws) == (-8, 8, ())
    assert done(state, event(credits=10)).state.wallet.available == 0
    with pytest.raises(InsufficientCredits):
        done(state, event(credits=11))


def test_an_overdraft_that_is_lowered_leaves_the_debt_and_stops_spending_until_it_is_paid() -> None:
    state = State(Wallet(customer_id="u", balance=-8, debt=8, version=2, overdraft_limit=10))
    lowered = done(state, change(overdraft_limit=5)).state
    assert (lowered.wallet.available, lowered.wallet.version) == (-3, 3)
    with pytest.raises(InsufficientCredits) as refused:
        done(lowered, event(credits=1))
    assert refused.value.facts == {"required": 1, "available": -3, "balance": -8}
    assert done(lowered, grant(8)).state.wallet.available == 5


def test_nothing_is_spent_from_a_frozen_wallet_and_money_still_comes_in() -> None:
    state = after(grant(20), change(frozen=True))
    for spending in (event(), event(credits=0)):
        with pytest.raises(WalletFrozen):
            done(state, spending)
    assert done(state, grant(5)).state.wallet.balance == 25
    assert done(state, adjust(-5)).state.wallet.balance == 15
    thawed = done(state, change(frozen=False)).state
    assert done(thawed, event()).state.wallet.balance == 12


def test_what_is_free_is_taken_from_an_empty_wallet_and_where_available_is_below_zero() -> None:
    for wallet in (Wallet(customer_id="u", version=1), Wallet(customer_id="u", version=1, balance=-8, debt=8)):
        assert told(done(State(wallet), event(event="ping"))) == [("event", 0)]
    assert told(done(NEW, event(event="ping"))) == [("event", 0)]


def test_opening_a_wallet_twice_leaves_it_as_it_is() -> None:
    state = after(OpenWallet(customer_id="u", id="set_1", name="Acme", low_balance_threshold=5))
    assert (state.wallet.name, state.wallet.low_balance_threshold, state.wallet.version) == ("Acme", 5, 1)
    again = done(state, OpenWallet(customer_id="u", id="set_2", name="Other"))
    assert (again.state, again.entries) == (state, ())


def test_a_setting_that_does_not_change_writes_nothing() -> None:
    state = after(OpenWallet(customer_id="u", id="set_1", name="Acme"))
    assert done(state, change(name="Acme")).entries == ()
    changed = done(state, change(low_balance_threshold=9))
    assert (changed.entries[0].kind, changed.entries[0].credits) == ("settings", 0)
    assert changed.entries[0].detail == {"low_balance_threshold": 9}


def test_a_wallet_is_low_below_its_threshold_and_never_without_one() -> None:
    assert not Wallet(customer_id="u", balance=0).low
    assert not Wallet(customer_id="u", balance=10, low_balance_threshold=10).low
    assert Wallet(customer_id="u", balance=9, low_balance_threshold=10).low


def test_a_clock_that_goes_back_does_not_take_the_ledger_with_it() -> None:
    [entry] = done(after(grant(100)), event(), NOW - 8_000).entries
    assert entry.created_at == NOW


def test_a_replay_is_the_first_entry_and_another_request_a_conflict() -> None:
    [entry] = done(after(grant(100)), event(key="k", request_hash="h")).entries
    assert replay(entry, event(id="evt_2", key="k", request_hash="h")) is entry
    assert replay(entry, event(request_hash="other")) is entry  # the same operation, looked up by its id
    with pytest.raises(IdempotencyConflict):
        replay(entry, event(id="evt_2", key="k", request_hash="other"))


def test_an_event_without_a_price_is_refused_and_makes_no_wallet() -> None:
    with pytest.raises(UnknownEvent):
        done(NEW, event(event="no.such"), welcome=100)


def test_a_quantity_that_passes_the_limit_of_an_amount_is_refused() -> None:
    state = after(change(overdraft_limit=10**12), state=after(grant(5)))
    with pytest.raises(InvalidRequest) as refused:
        done(state, event(quantity=CREDITS_MAX // 8 + 1))
    assert refused.value.facts == {"field": "quantity"}


def test_versions_have_no_gaps_and_each_entry_goes_on_from_the_one_before_it() -> None:
    state, entries = NEW, []
    for operation in (grant(20), event(), adjust(3, "adj_7"), change(overdraft_limit=9), event(id="evt_2", credits=20)):
        applied = done(state, operation, welcome=10)
        state = applied.state
        entries += applied.entries
    assert [entry.version for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert [entry.credits for entry in entries] == [10, 20, -8, 3, 0, -20]
    assert [entry.balance for entry in entries] == [10, 30, 22, 25, 25, 5]
    assert [entry.available for entry in entries] == [10, 30, 22, 25, 34, 14]
    assert (state.wallet.version, state.wallet.last_entry_at) == (6, NOW)
    assert sum(left(state).values()) == 5


def test_a_refusal_leaves_the_state_it_was_given() -> None:
    state = after(grant(5))
    before = copy.deepcopy(state)
    with pytest.raises(InsufficientCredits):
        done(state, event())
    assert state == before


def test_a_price_may_change_between_two_events_and_each_keeps_its_own() -> None:
    state = after(grant(100))
    dearer = Catalogue(2, {"chat.reply": Price("chat.reply", 3, 9, "Chat reply", {})})
    [old] = done(state, event()).entries
    [new] = done(state, event(), catalogue=dearer).entries
    assert ((old.credits, old.price_version), (new.credits, new.price_version)) == ((-8, 2), (-9, 3))


def test_an_operation_without_a_rule_is_a_fault_of_ours() -> None:
    with pytest.raises(KeyError):
        done(after(grant(1)), Operation(customer_id="u", id="x_1"))
