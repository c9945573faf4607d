"""Actions that failed: their credits go back where they came from."""

from typing import Any

import pytest
from msgspec.structs import replace
from rules.ledgers import (
    DAY,
    HOUR,
    NEW,
    NOW,
    after,
    capture,
    change,
    done,
    event,
    grant,
    grant_of,
    hold,
    left,
    reverse,
    settle,
    told,
    top_up,
    void,
)

from app.config import BALANCE_MAX
from app.errors import InvalidRequest, NotFound
from app.rules.ledger import replay
from app.rules.operations import Operation
from app.rules.wallet import Applied, Entry, State


def charged(
    credits: int, *before: Operation, id: str = "evt_1", state: State = NEW, **fields: Any
) -> tuple[State, Entry]:
    """A wallet after an event, and its entry."""
    applied = done(after(*before, state=state), event(credits=credits, id=id, **fields))
    assert applied.own is not None
    return applied.state, applied.own


def reversed_(state: State, entry: Entry, now: int = NOW) -> Applied:
    return done(state, reverse(entry), now)


def test_a_reversal_gives_back_all_of_an_event_by_an_entry_that_names_it() -> None:
    state, entry = charged(30, grant(50), member="alice", model="m")
    applied = done(state, replace(reverse(entry), reason="model failed"))
    [back] = applied.entries
    assert (back.kind, back.description, back.credits, back.balance) == ("reversal", "Returned: Chat reply", 30, 50)
    assert (back.event, back.model, back.member, back.reason) == ("chat.reply", "m", "alice", "model failed")
    assert (back.detail or {})["event_id"] == "evt_1"
    assert back.draws == (("grant_1", -30),)
    assert left(applied.state) == {"grant_1": 50}


def test_credits_go_back_to_each_grant_they_came_from() -> None:
    state, entry = charged(12, grant(10, "grant_a"), grant(10, "grant_b"))
    applied = reversed_(state, entry)
    assert applied.entries[0].draws == (("grant_b", -2), ("grant_a", -10))
    assert left(applied.state) == {"grant_a": 10, "grant_b": 10}


def test_a_grant_that_was_used_up_is_spent_in_its_old_place_again() -> None:
    state, entry = charged(10, grant(10, "grant_a", priority=1), grant(10, "grant_b"))
    assert left(state) == {"grant_b": 10}
    assert left(reversed_(state, entry).state) == {"grant_a": 10, "grant_b": 10}


def test_a_capture_is_reversed_like_an_event_and_all_of_it_goes_back() -> None:
    state = after(grant(50), hold(30))
    applied = done(state, capture(credits=40))
    assert applied.own is not None
    back = reversed_(applied.state, applied.own)
    assert (told(back), back.state.wallet.available) == ([("reversal", 40)], 50)


def test_a_free_event_may_be_reversed_too() -> None:
    state, entry = charged(0, grant(5))
    assert told(reversed_(state, entry)) == [("reversal", 0)]


def test_a_reversal_goes_on_in_a_frozen_wallet() -> None:
    state, entry = charged(5, grant(5))
    assert told(reversed_(after(change(frozen=True), state=state), entry)) == [("reversal", 5)]


def test_a_second_reversal_of_an_event_finds_the_first() -> None:
    state, entry = charged(5, grant(5))
    first = reversed_(state, entry).own
    assert first is not None
    assert replay(first, replace(reverse(entry), reason="again")) is first
    assert reverse(entry).id == first.id


def test_nothing_is_reversed_in_a_wallet_that_is_not_there() -> None:
    _, entry = charged(5, grant(5))
    with pytest.raises(NotFound):
        done(NEW, reverse(entry))


def test_a_reversal_that_a_wallet_cannot_hold_is_refused() -> None:
    state, entry = charged(5, grant(5))
    full = State(replace(state.wallet, balance=BALANCE_MAX - 4), state.grants, state.others)
    with pytest.raises(InvalidRequest):
        reversed_(full, entry)
    assert reversed_(State(replace(full.wallet, balance=BALANCE_MAX - 5), state.grants, state.others), entry).entries


# Grants that ended since


def test_what_came_from_a_grant_that_expired_since_comes_back_for_a_day() -> None:
    state, entry = charged(30, grant(50, expires_at=NOW + HOUR, category="paid"))
    applied = reversed_(after(settle(), state=state, now=NOW + HOUR), entry, NOW + 2 * HOUR)
    assert (told(applied), applied.entries[0].draws) == ([("reversal", 30)], ())
    [given] = applied.state.grants
    assert (given.id, given.category, given.remaining, given.source) == ("grant_1d", "promotional", 30, "rev_1")
    assert (given.expires_at, applied.state.wallet.due_at) == (NOW + 2 * HOUR + DAY, NOW + 2 * HOUR + DAY)
    assert given.version == applied.entries[0].version


def test_what_came_from_a_grant_that_was_used_up_before_its_time_comes_back_for_a_day_as_well() -> None:
    state, entry = charged(50, grant(50, expires_at=NOW + HOUR))
    assert left(reversed_(state, entry, NOW + HOUR - 1).state) == {"grant_1": 50}
    applied = reversed_(state, entry, NOW + HOUR)
    assert left(applied.state) == {"grant_1d": 50}
    assert done(applied.state, settle(), NOW + HOUR + DAY - 1).entries == ()


def test_what_came_from_a_grant_that_was_voided_comes_back_for_a_day() -> None:
    state, entry = charged(30, grant(50))
    assert left(reversed_(after(void(), state=state), entry).state) == {"grant_1d": 30}


def test_of_several_grants_only_the_part_of_those_that_ended_comes_back_for_a_day() -> None:
    state, entry = charged(15, grant(10, "grant_a", expires_at=NOW + HOUR), grant(10, "grant_b"))
    applied = reversed_(state, entry, NOW + HOUR)
    assert left(applied.state) == {"grant_1d": 10, "grant_b": 10}
    assert applied.entries[0].draws == (("grant_b", -5),)


def test_what_was_kept_for_a_hold_and_captured_comes_back_for_a_day() -> None:
    state = after(grant(10, expires_at=NOW + HOUR), hold(10, expires_in=7200))
    applied = done(after(settle(), state=state, now=NOW + HOUR), capture(), NOW + HOUR)
    assert applied.own is not None
    assert left(reversed_(applied.state, applied.own, NOW + HOUR).state) == {"grant_1d": 10}


# Debts


OVERDRAWN = after(change(overdraft_limit=30), state=after(grant(10, "grant_o")))


def test_what_an_event_overdrew_is_taken_off_the_debt_again() -> None:
    state, entry = charged(25, state=OVERDRAWN)
    assert (state.wallet.debt, entry.draws) == (15, (("grant_o", 10),))
    applied = reversed_(state, entry)
    assert (applied.state.wallet.debt, applied.state.wallet.balance) == (0, 10)
    assert (applied.entries[0].draws, left(applied.state)) == ((("grant_o", -10),), {"grant_o": 10})


def test_a_debt_is_paid_before_any_grant_is_restored_and_the_grant_first_drawn_lacks_it() -> None:
    state = after(change(overdraft_limit=30), state=after(grant(10, "grant_a"), grant(10, "grant_b")))
    state, entry = charged(20, state=state)
    state, _ = charged(15, state=state, id="evt_2")
    applied = reversed_(state, entry)
    assert (applied.state.wallet.debt, left(applied.state)) == (0, {"grant_b": 5})
    assert (grant_of(applied.state, "grant_a").debt_paid, grant_of(applied.state, "grant_b").debt_paid) == (10, 5)


def test_what_was_overdrawn_and_paid_since_goes_back_to_the_grants_that_paid_it() -> None:
    state, entry = charged(25, state=OVERDRAWN)
    state = after(top_up(100, "top_2"), state=state)
    assert (left(state), grant_of(state, "grant_2").debt_paid) == ({"grant_2": 85}, 15)
    applied = reversed_(state, entry)
    assert applied.entries[0].draws == (("grant_o", -10), ("grant_2", -15))
    assert left(applied.state) == {"grant_o": 10, "grant_2": 100}
    assert grant_of(applied.state, "grant_2").debt_paid == 0


def test_the_grants_that_came_after_the_event_are_restored_before_those_that_paid_earlier_debts() -> None:
    state = after(change(overdraft_limit=30), state=after(grant(1, "grant_o")))
    state, first = charged(11, state=state)
    state = after(grant(10, "grant_a"), state=state)
    state, second = charged(5, state=state, id="evt_2")
    state = after(grant(10, "grant_b"), state=state)
    assert left(state) == {"grant_b": 5}
    assert reversed_(state, second).entries[0].draws == (("grant_b", -5),)
    assert reversed_(state, first).entries[0].draws == (("grant_o", -1), ("grant_a", -10))


def test_what_paid_a_debt_by_a_reversal_goes_back_where_the_debts_event_is_reversed_too() -> None:
    state, first = charged(10, state=OVERDRAWN)
    state, second = charged(7, state=state, id="evt_2")
    back = reversed_(state, first)
    assert (left(back.state), back.entries[0].draws) == ({"grant_o": 3}, (("grant_o", -3),))
    both = reversed_(back.state, second)
    assert (left(both.state), both.entries[0].draws) == ({"grant_o": 10}, (("grant_o", -7),))


def test_what_a_lapsed_grant_paid_of_a_debt_comes_back_for_a_day() -> None:
    state, entry = charged(15, state=OVERDRAWN)
    state = after(grant(5, "grant_2", expires_at=NOW + HOUR), state=state)
    state = after(settle(), state=state, now=NOW + HOUR)
    applied = reversed_(state, entry, NOW + HOUR)
    assert applied.entries[0].draws == (("grant_o", -10),)
    assert left(applied.state) == {"grant_o": 10, "grant_1d": 5}
    given = grant_of(applied.state, "grant_1d")
    assert (given.category, given.expires_at, given.source) == ("promotional", NOW + HOUR + DAY, "rev_1")


def test_what_no_grant_is_known_to_have_paid_comes_as_a_promotional_grant_that_stays() -> None:
    state, entry = charged(15, state=OVERDRAWN)
    state = after(grant(5, "grant_2"), state=state)
    unknown = {id: replace(one, debt_paid=0) for id, one in state.others.items()}
    applied = reversed_(State(state.wallet, state.grants, unknown), entry)
    assert applied.entries[0].draws == (("grant_o", -10),)
    given = grant_of(applied.state)
    assert (given.credits, given.category, given.expires_at) == (5, "promotional", None)


def test_the_balance_is_what_the_grants_have_after_every_reversal() -> None:
    state, first = charged(25, state=OVERDRAWN)
    state, second = charged(10, state=state, id="evt_2")
    state = after(grant(30, "grant_2"), state=state)
    for entry in (second, first):
        state = reversed_(state, entry).state
        assert state.wallet.balance == sum(left(state).values()) - state.wallet.debt
    assert (state.wallet.balance, state.wallet.debt) == (40, 0)
