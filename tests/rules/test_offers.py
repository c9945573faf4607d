"""What an action would cost and what would become of it, without doing it."""

import copy

import pytest
from rules.ledgers import (
    CATALOGUE,
    HOUR,
    NEW,
    NOW,
    SECOND,
    after,
    change,
    event,
    grant,
    hold,
    limit,
    limit_member,
)

from app.errors import UnknownEvent
from app.rules.ledger import Offer, offer
from app.rules.operations import Event
from app.rules.pricing import Catalogue, Price, Tier
from app.rules.wallet import State

FUNDED = after(grant(100))


def offered(state: State, operation: Event | None = None, now: int = NOW, welcome: int = 0) -> Offer:
    return offer(state, operation or event(), CATALOGUE, now, welcome)


def test_an_offer_says_the_price_and_how_many_such_actions_are_covered() -> None:
    assert offered(FUNDED) == Offer(credits=8, refusal=None, balance=100, available=100, covers=12)
    assert offered(FUNDED, event(quantity=3)).covers == 4
    assert offered(FUNDED, event(model="large")).credits == 20


def test_an_offer_of_many_units_covers_as_many_such_actions() -> None:
    tiered = Catalogue(1, {"doc.scan": Price("doc.scan", 1, 5, "Scan", {}, (Tier(10, 5), Tier(None, 2)))})
    found = offer(FUNDED, event(event="doc.scan", quantity=15), tiered, NOW)
    assert (found.credits, found.covers) == (60, 1)


def test_an_offer_changes_nothing() -> None:
    before = copy.deepcopy(FUNDED)
    offered(FUNDED)
    assert before == FUNDED


def test_what_the_wallet_does_not_cover_is_refused_and_covers_none() -> None:
    state = after(grant(7))
    assert offered(state) == Offer(credits=8, refusal="insufficient_credits", balance=7, available=7, covers=0)
    assert offered(after(grant(8))).refusal is None


def test_an_overdraft_covers_actions_and_holds_do_not() -> None:
    state = after(change(overdraft_limit=20), hold(40), state=FUNDED)
    assert offered(state) == Offer(credits=8, refusal=None, balance=100, available=80, covers=10)


def test_a_wallet_below_zero_covers_none() -> None:
    state = after(change(overdraft_limit=20), event(credits=15), change(overdraft_limit=0), state=after(grant(1)))
    found = offered(state)
    assert (found.available, found.refusal, found.covers) == (-14, "insufficient_credits", 0)


def test_a_customer_never_seen_is_offered_what_a_first_event_would_find() -> None:
    assert offered(NEW, welcome=20) == Offer(credits=8, refusal=None, balance=20, available=20, covers=2)
    assert offered(NEW) == Offer(credits=8, refusal="insufficient_credits", balance=0, available=0, covers=0)


def test_a_limit_bounds_what_is_covered_with_what_is_spent_and_held() -> None:
    state = after(limit(40), event(credits=8), hold(8), state=FUNDED)
    assert (offered(state).refusal, offered(state).covers) == (None, 3)
    reached = after(limit(20), state=state)
    assert (offered(reached).refusal, offered(reached).covers) == ("spend_limit_reached", 0)


def test_a_members_limit_bounds_what_that_member_is_covered() -> None:
    state = after(limit_member("alice", 20), event(credits=2, member="alice"), hold(2, member="alice"), state=FUNDED)
    assert offered(state, event(member="alice")).covers == 2
    assert offered(state, event(member="bob")).covers == 12
    assert offered(state, event(member="alice", quantity=3)).refusal == "spend_limit_reached"


def test_a_frozen_wallet_says_so() -> None:
    assert offered(after(change(frozen=True), state=FUNDED)).refusal == "wallet_frozen"


def test_what_is_free_is_covered_any_number_of_times() -> None:
    assert offered(NEW, event(event="ping")) == Offer(credits=0, refusal=None, balance=0, available=0, covers=None)


def test_what_has_no_price_is_not_offered() -> None:
    with pytest.raises(UnknownEvent):
        offered(FUNDED, event(event="no.such"))


def test_what_time_has_brought_counts() -> None:
    state = after(grant(50, expires_at=NOW + HOUR), grant(10, "grant_2", effective_at=NOW + HOUR), hold(30))
    assert offered(state, now=NOW + 899 * SECOND).available == 20
    assert offered(state, now=NOW + 900 * SECOND).available == 50
    assert offered(state, now=NOW + HOUR) == Offer(credits=8, refusal=None, balance=10, available=10, covers=1)


def test_a_window_that_ended_counts_no_more() -> None:
    state = after(limit(16), event(credits=16), state=FUNDED)
    assert offered(state, now=NOW + 13 * HOUR).covers == 0
    assert offered(state, now=NOW + 14 * HOUR).covers == 2  # midnight


def test_a_clock_that_went_back_opens_no_window_again() -> None:
    state = after(limit(16), state=FUNDED)
    state = after(event(credits=16), state=state, now=NOW + 14 * HOUR)
    found = offered(state, now=NOW)
    assert (found.refusal, found.covers) == ("spend_limit_reached", 0)
