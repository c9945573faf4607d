"""Holds: credits set apart, then captured or released, or left to run out."""

from typing import Any

import msgspec
import pytest
from rules.ledgers import (
    CATALOGUE,
    HOUR,
    NEW,
    NOW,
    SECOND,
    adjust,
    after,
    capture,
    change,
    done,
    event,
    grant,
    hold,
    left,
    release,
    settle,
    told,
    void,
)

from app.config import CREDITS_MAX, HOLDS_OPEN_MAX
from app.errors import (
    HoldNotOpen,
    InsufficientCredits,
    InvalidRequest,
    NotFound,
    TooManyHolds,
    UnknownEvent,
    WalletFrozen,
)
from app.rules.ledger import replay
from app.rules.pricing import Catalogue, Price, Rate, Tier
from app.rules.wallet import Hold, State, Wallet

FUNDED = after(grant(100))
DEARER = Catalogue(2, {"chat.reply": Price("chat.reply", 3, 50, "Reply, new", {}), "other": CATALOGUE.prices["ping"]})


def refused(state: State, operation: Any, error: type[Exception], now: int = NOW, **more: Any) -> dict[str, Any]:
    with pytest.raises(error) as caught:
        done(state, operation, now, **more)
    return caught.value.facts  # type: ignore[attr-defined, no-any-return]


# Making one


def test_a_hold_sets_credits_apart_and_moves_none() -> None:
    applied = done(FUNDED, hold(30, member="alice", metadata={"run": 7}))
    [entry] = applied.entries
    assert (entry.kind, entry.description, entry.credits) == ("hold", "Held: Credits set apart", 0)
    assert (entry.balance, entry.held, entry.available, entry.version) == (100, 30, 70, 2)
    [made] = applied.holds
    assert (made.status, made.credits, made.expires_at, made.version) == ("open", 30, NOW + 900 * SECOND, 2)
    assert made.metadata == {"run": 7}
    assert entry.detail == {"hold": msgspec.to_builtins(made)}
    assert applied.state.wallet.open_holds == 1


def test_a_hold_over_an_event_takes_its_price_times_the_quantity_and_pins_it() -> None:
    [made] = done(FUNDED, hold(event="chat.reply", model="large", quantity=3)).holds
    assert (made.credits, made.unit_credits, made.price_version, made.label) == (60, 20, 2, "Chat reply")


PAGES = Rate(5, (Tier(10, 5), Tier(None, 2)), minimum=8)
TIERED = Catalogue(1, {"doc.scan": Price("doc.scan", 4, 5, "Scan", {}, PAGES.tiers, PAGES.minimum)})
DEARER_PAGES = Catalogue(2, {"doc.scan": Price("doc.scan", 5, 50, "Scan", {})})


def test_a_hold_pins_the_tiers_of_a_price_and_its_minimum() -> None:
    applied = done(FUNDED, hold(event="doc.scan", quantity=11), catalogue=TIERED)
    [made] = applied.holds
    assert (made.credits, made.unit_credits, made.price_version, made.rate) == (52, None, 4, PAGES)
    for quantity, credits, unit in ((None, 52, None), (20, 70, None), (2, 10, 5), (1, 8, None)):
        [entry] = done(applied.state, capture(quantity=quantity), catalogue=DEARER_PAGES).entries
        assert (entry.credits, entry.unit_credits, entry.price_version) == (-credits, unit, 4)


def test_a_hold_of_so_many_credits_over_a_tiered_price_is_captured_as_it_is_or_by_the_price() -> None:
    held = done(FUNDED, hold(60, event="doc.scan", quantity=11), catalogue=TIERED).state
    [entry] = done(held, capture(), catalogue=DEARER_PAGES).entries
    assert (entry.credits, entry.unit_credits, entry.price_version) == (-60, None, None)
    [entry] = done(held, capture(quantity=11), catalogue=DEARER_PAGES).entries
    assert (entry.credits, entry.price_version) == (-52, 4)


def test_a_hold_of_so_many_credits_is_captured_though_its_price_would_pass_the_limit() -> None:
    held = done(FUNDED, hold(50, event="chat.reply", quantity=CREDITS_MAX)).state
    [entry] = done(held, capture()).entries
    assert entry.credits == -50


def test_a_hold_over_an_event_may_be_for_more_than_its_price() -> None:
    [made] = done(FUNDED, hold(50, event="chat.reply")).holds
    assert (made.credits, made.unit_credits, made.price_version) == (50, 8, 2)


def test_a_hold_with_credits_needs_no_price_for_its_event_and_one_without_does() -> None:
    [made] = done(FUNDED, hold(5, event="agent.run")).holds
    assert (made.event, made.label, made.unit_credits) == ("agent.run", "agent.run", None)
    refused(FUNDED, hold(event="agent.run"), UnknownEvent)


def test_a_hold_of_nothing_is_refused() -> None:
    assert refused(FUNDED, hold(event="ping"), InvalidRequest)["field"] == "credits"


def test_all_that_is_available_may_be_held_and_no_more() -> None:
    state = after(hold(70), state=FUNDED)
    assert done(state, hold(30, "hold_2")).state.wallet.available == 0
    facts = refused(state, hold(31, "hold_2"), InsufficientCredits)
    assert facts == {"required": 31, "available": 30, "balance": 100}


def test_what_is_held_cannot_be_spent_adjusted_or_held_again() -> None:
    state = after(hold(95), state=FUNDED)
    for operation in (event(), adjust(-6), hold(6, "hold_2")):
        refused(state, operation, InsufficientCredits)
    assert done(state, event(credits=5)).state.wallet.available == 0


def test_an_overdraft_may_be_held_as_well() -> None:
    state = after(change(overdraft_limit=20), state=FUNDED)
    assert done(state, hold(120)).state.wallet.available == 0
    refused(state, hold(121), InsufficientCredits)


def test_a_frozen_wallet_takes_no_new_hold() -> None:
    refused(after(change(frozen=True), state=FUNDED), hold(1), WalletFrozen)


def test_a_hold_may_be_the_first_use_of_a_wallet() -> None:
    assert told(done(NEW, hold(5), welcome=5)) == [("grant", 5), ("hold", 0)]
    refused(NEW, hold(6), InsufficientCredits, welcome=5)


def test_a_wallet_has_so_many_open_holds_and_one_more_when_one_closes() -> None:
    last = State(Wallet(customer_id="u", balance=10, version=1, open_holds=HOLDS_OPEN_MAX - 1), FUNDED.grants)
    full = done(last, hold(1)).state
    assert refused(full, hold(1, "hold_2"), TooManyHolds) == {"limit": HOLDS_OPEN_MAX}
    assert done(after(release(), state=full), hold(1, "hold_2")).entries


# Capturing


def test_an_empty_capture_takes_all_that_was_held_by_an_entry_that_is_an_event() -> None:
    state = after(hold(30, event="chat.reply", member="alice", metadata={"run": 7}), state=FUNDED)
    applied = done(state, capture(member="alice", cost_nanos=9))
    [entry] = applied.entries
    assert (entry.kind, entry.credits, entry.balance, entry.held, entry.available) == ("event", -30, 70, 0, 70)
    assert (entry.event, entry.description, entry.member, entry.cost_nanos) == ("chat.reply", "Chat reply", "alice", 9)
    assert entry.metadata == {"run": 7}
    assert entry.draws == (("grant_1", 30),)
    assert entry.detail == {"hold_id": "hold_1", "held": 30}
    assert [(one.status, one.closed_at) for one in applied.holds] == [("captured", NOW)]
    assert applied.state.wallet.open_holds == 0


def test_a_capture_of_less_frees_the_rest() -> None:
    applied = done(after(hold(30), state=FUNDED), capture(credits=10, metadata={"a": 1}))
    assert (applied.entries[0].credits, applied.entries[0].held, applied.state.wallet.available) == (-10, 0, 90)
    assert applied.entries[0].metadata == {"a": 1}


def test_a_capture_of_more_takes_the_difference_from_what_is_available() -> None:
    state = after(hold(30), hold(50, "hold_2"), state=FUNDED)
    assert done(state, capture(credits=50)).state.wallet.available == 0
    facts = refused(state, capture(credits=51), InsufficientCredits)
    assert facts == {"required": 21, "available": 20, "balance": 100}
    assert done(state, capture()).state.wallet.balance == 70  # it is still open


def test_a_capture_of_more_may_use_the_overdraft() -> None:
    state = after(change(overdraft_limit=10), hold(100), state=FUNDED)
    applied = done(state, capture(credits=110))
    assert (applied.state.wallet.balance, applied.state.wallet.debt) == (-10, 10)


def test_a_capture_up_to_what_was_held_passes_in_a_frozen_wallet_and_no_further() -> None:
    state = after(hold(30), change(frozen=True), state=FUNDED)
    assert done(state, capture(credits=30)).state.wallet.balance == 70
    refused(state, capture(credits=31), WalletFrozen)


def test_a_capture_up_to_what_was_held_passes_where_a_lowered_overdraft_left_nothing() -> None:
    state = after(change(overdraft_limit=50), hold(120), change(overdraft_limit=0), state=FUNDED)
    assert state.wallet.available == -20
    assert done(state, capture()).state.wallet.balance == -20
    refused(state, capture(credits=121), InsufficientCredits)


def test_a_capture_is_priced_by_what_the_hold_pinned_whatever_the_price_is_now() -> None:
    state = after(hold(event="chat.reply", quantity=2), state=FUNDED)
    [entry] = done(state, capture(quantity=3), catalogue=DEARER).entries
    assert (entry.credits, entry.unit_credits, entry.price_version, entry.quantity) == (-24, 8, 2, 3)
    assert entry.description == "Chat reply"
    [empty] = done(state, capture(), catalogue=DEARER).entries
    assert (empty.credits, empty.unit_credits, empty.price_version, empty.quantity) == (-16, 8, 2, 2)


def test_a_capture_by_quantity_takes_the_pinned_price_where_the_hold_was_for_more() -> None:
    state = after(hold(60, event="chat.reply"), state=FUNDED)
    assert done(state, capture(quantity=4)).entries[0].credits == -32
    [empty] = done(state, capture()).entries
    assert (empty.credits, empty.unit_credits, empty.price_version) == (-60, None, None)


def test_a_capture_with_credits_has_no_price_of_a_unit() -> None:
    [entry] = done(after(hold(event="chat.reply", quantity=2), state=FUNDED), capture(credits=5)).entries
    assert (entry.credits, entry.unit_credits, entry.price_version, entry.quantity) == (-5, None, None, 2)


def test_a_hold_without_an_event_is_captured_under_the_captures_or_as_a_capture() -> None:
    state = after(hold(30), state=FUNDED)
    named = done(state, capture(event="chat.reply")).entries[0]
    assert (named.event, named.description, named.credits) == ("chat.reply", "Chat reply", -30)
    plain = done(state, capture()).entries[0]
    assert (plain.event, plain.description, plain.credits) == ("hold.capture", "hold.capture", -30)


def test_a_hold_without_an_event_is_captured_by_quantity_at_the_price_of_the_captures() -> None:
    state = after(hold(30, model="large"), state=FUNDED)
    [entry] = done(state, capture(event="chat.reply", quantity=2)).entries
    assert (entry.credits, entry.unit_credits, entry.quantity) == (-40, 20, 2)
    assert refused(state, capture(quantity=2), InvalidRequest)["field"] == "quantity"
    refused(state, capture(event="no.such", quantity=2), UnknownEvent)


def test_a_hold_for_one_event_is_not_captured_as_another() -> None:
    state = after(hold(event="chat.reply"), state=FUNDED)
    assert refused(state, capture(event="ping"), InvalidRequest)["field"] == "event"
    assert done(state, capture(event="chat.reply")).entries


def test_a_quantity_that_passes_the_limit_of_an_amount_is_refused() -> None:
    state = after(hold(event="chat.reply"), state=FUNDED)
    assert refused(state, capture(quantity=CREDITS_MAX), InvalidRequest)["field"] == "quantity"


# What is not open


@pytest.mark.parametrize("operation", [capture(), release()])
def test_a_hold_that_is_not_of_this_wallet_is_not_found(operation: Any) -> None:
    refused(FUNDED, operation, NotFound)


@pytest.mark.parametrize(
    ("closing", "status"), [(capture(), "captured"), (release(), "released"), (settle(), "expired")]
)
def test_a_closed_hold_is_neither_captured_nor_released_and_its_status_is_told(closing: Any, status: str) -> None:
    later = NOW + 900 * SECOND if status == "expired" else NOW
    state = after(closing, state=after(hold(30), state=FUNDED), now=later)
    for operation in (capture(), release()):
        assert refused(state, operation, HoldNotOpen, later) == {"status": status}


def test_a_hold_lasts_to_the_millisecond_before_its_end() -> None:
    state = after(hold(30), state=FUNDED)
    end = NOW + 900 * SECOND
    assert done(state, capture(), end - 1).entries
    assert refused(state, capture(), HoldNotOpen, end) == {"status": "expired"}


def test_another_capture_of_a_hold_is_told_that_it_is_captured_and_the_same_one_gets_its_answer() -> None:
    state = after(hold(30), state=FUNDED)
    first = done(state, capture(key="k", request_hash="h")).own
    assert first is not None
    assert replay(first, capture(key="k", request_hash="h")) is first
    with pytest.raises(HoldNotOpen) as caught:
        replay(first, capture(key="other", request_hash="g"))
    assert caught.value.facts == {"status": "captured"}


# Releasing, and running out


def test_a_release_frees_what_was_held_and_moves_nothing() -> None:
    applied = done(after(hold(30, event="chat.reply"), state=FUNDED), release(reason="failed"))
    [entry] = applied.entries
    assert (entry.kind, entry.description, entry.credits, entry.reason) == (
        "release",
        "Released: Chat reply",
        0,
        "failed",
    )
    assert (entry.held, entry.available, applied.state.wallet.open_holds) == (0, 100, 0)
    assert entry.detail == {"hold": msgspec.to_builtins(applied.holds[0])}
    assert applied.holds[0].status == "released"


def test_a_release_goes_on_in_a_frozen_wallet() -> None:
    assert done(after(hold(30), change(frozen=True), state=FUNDED), release()).state.wallet.held == 0


def test_a_hold_that_runs_out_is_released_by_itself_before_what_comes_next() -> None:
    state = after(hold(95, actor="key:backend"), state=FUNDED)
    applied = done(state, event(actor="key:other"), NOW + 900 * SECOND)
    assert told(applied) == [("hold_expiry", 0), ("event", -8)]
    ran_out = applied.entries[0]
    assert (ran_out.description, ran_out.held, ran_out.available) == ("Ran out: Credits set apart", 0, 100)
    assert (ran_out.actor, ran_out.id, ran_out.idempotency_key) == (None, "exp_1", None)
    assert applied.holds[0].status == "expired"


def test_a_refusal_brings_nothing_of_what_was_due() -> None:
    state = after(hold(95), state=FUNDED)
    refused(state, event(credits=101), InsufficientCredits, NOW + 900 * SECOND)
    assert (state.wallet.held, state.holds["hold_1"].status) == (95, "open")


# What lapsed while it was held


def held_over_its_end(**fields: Any) -> State:
    """10 of 15 credits are held, and the 15 expire an hour from now, before the hold does."""
    return after(grant(15, expires_at=NOW + HOUR), hold(10, expires_in=7200, **fields))


def test_a_grant_that_expires_loses_what_is_available_and_keeps_the_rest_for_the_holds() -> None:
    applied = done(held_over_its_end(), settle(), NOW + HOUR)
    assert told(applied) == [("expiry", -5)]
    assert (applied.state.wallet.balance, applied.state.wallet.available) == (10, 0)
    assert [(one.state, one.remaining) for one in applied.grants] == [("expired", 10)]


def test_what_was_kept_is_captured_first_and_the_rest_of_it_goes_with_the_hold() -> None:
    state = after(settle(), grant(20, "grant_2"), state=held_over_its_end(), now=NOW + HOUR)
    all_of_it = done(state, capture(), NOW + HOUR)
    assert all_of_it.entries[0].draws == (("grant_1", 10),)
    less = done(state, capture(credits=4), NOW + HOUR)
    assert told(less) == [("event", -4), ("expiry", -6)]
    assert (less.entries[0].draws, less.entries[1].draws) == ((("grant_1", 4),), (("grant_1", 6),))
    more = done(state, capture(credits=12), NOW + HOUR)
    assert more.entries[0].draws == (("grant_1", 10), ("grant_2", 2))
    assert left(less.state) == {"grant_2": 20}


def test_what_was_kept_goes_when_the_hold_is_released_or_runs_out() -> None:
    state = after(settle(), grant(20, "grant_2"), state=held_over_its_end(), now=NOW + HOUR)
    assert told(done(state, release(), NOW + HOUR)) == [("release", 0), ("expiry", -10)]
    ran_out = done(state, settle(), NOW + 2 * HOUR)
    assert told(ran_out) == [("hold_expiry", 0), ("expiry", -10)]
    assert ran_out.state.wallet.balance == 20


def test_an_event_and_a_correction_never_draw_on_what_was_kept() -> None:
    state = after(settle(), grant(5, "grant_2"), state=held_over_its_end(), now=NOW + HOUR)
    assert done(state, event(credits=5), NOW + HOUR).entries[0].draws == (("grant_2", 5),)
    assert done(state, adjust(-5), NOW + HOUR).entries[0].draws == (("grant_2", 5),)
    refused(state, event(credits=6), InsufficientCredits, NOW + HOUR)


def test_what_two_holds_need_is_kept_until_the_second_of_them_closes() -> None:
    state = after(grant(15, expires_at=NOW + HOUR), hold(10, expires_in=7200), hold(5, "hold_2", expires_in=7200))
    state = after(settle(), state=state, now=NOW + HOUR)
    assert state.wallet.balance == 15
    one = done(state, release("hold_2"), NOW + HOUR)
    assert told(one) == [("release", 0), ("expiry", -5)]
    assert told(done(one.state, capture(), NOW + HOUR)) == [("event", -10)]


def test_a_grant_that_is_voided_keeps_what_is_held_and_the_rest_is_withdrawn_with_the_hold() -> None:
    voided = done(held_over_its_end(), void())
    assert told(voided) == [("void", -5)]
    assert told(done(voided.state, release())) == [("release", 0), ("void", -10)]
    assert told(done(voided.state, capture(credits=7))) == [("event", -7), ("void", -3)]


def test_of_several_lapsed_grants_the_oldest_gives_up_first_what_was_kept() -> None:
    state = after(
        grant(10, "grant_a", expires_at=NOW + HOUR),
        grant(10, "grant_b", expires_at=NOW + HOUR),
        hold(20, expires_in=7200),
        hold(5, "hold_2", expires_in=7200),
        state=after(change(overdraft_limit=5), state=after(grant(1, "grant_0"), void("grant_0"))),
    )
    state = after(settle(), state=state, now=NOW + HOUR)
    applied = done(state, release("hold_2"), NOW + HOUR)
    assert [entry.draws for entry in applied.entries[1:]] == [(("grant_a", 5),)]


def test_a_hold_knows_its_wallets_end_of_time_alone() -> None:
    state = after(hold(5), hold(5, "hold_2", expires_in=60), state=FUNDED)
    assert state.wallet.due_at == NOW + 60 * SECOND
    assert done(state, settle(), NOW + 60 * SECOND).state.wallet.due_at == NOW + 900 * SECOND
    assert isinstance(state.holds["hold_2"], Hold)
