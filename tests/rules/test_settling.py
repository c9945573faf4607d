"""What time brings: in which order, how much at once, and when it is looked for."""

import copy

import pytest
from rules.ledgers import (
    DAY,
    HOUR,
    NEW,
    NOW,
    SECOND,
    after,
    capture,
    change,
    done,
    event,
    grant,
    grant_of,
    hold,
    left,
    limit_member,
    release,
    settle,
    told,
)

from app.config import GRANTS_MAX, HOLDS_OPEN_MAX
from app.errors import Busy, InsufficientCredits, NotFound
from app.rules import settling


def test_a_wallet_that_waits_for_nothing_is_never_due() -> None:
    assert after(grant(10)).wallet.due_at is None
    assert after(limit_member("alice", 5)).wallet.due_at is None


def test_a_wallet_is_due_with_the_first_of_what_it_waits_for() -> None:
    state = after(grant(10, expires_at=NOW + 3 * HOUR), grant(10, "grant_2", effective_at=NOW + 2 * HOUR))
    assert state.wallet.due_at == NOW + 2 * HOUR
    assert after(hold(5, expires_in=60), state=state).wallet.due_at == NOW + 60 * SECOND
    assert after(grant(1, "grant_3", every="day"), state=state).wallet.due_at == NOW + 2 * HOUR


def test_settling_a_wallet_that_is_not_due_changes_nothing() -> None:
    state = after(grant(10, expires_at=NOW + 1))
    applied = done(state, settle())
    assert (applied.state, applied.entries, applied.own) == (state, (), None)


def test_settling_a_wallet_that_turns_out_to_wait_for_nothing_only_moves_its_due_time() -> None:
    state = after(grant(10, expires_at=NOW + DAY), hold(10), release())
    assert state.wallet.due_at == NOW + 900 * SECOND
    applied = done(state, settle(), NOW + 900 * SECOND)
    assert (applied.entries, applied.state.wallet.due_at, applied.state.wallet.version) == ((), NOW + DAY, 3)


def test_what_is_due_comes_before_the_operation_in_the_order_of_its_times() -> None:
    state = after(
        grant(10, expires_at=NOW + 3 * HOUR),
        grant(20, "grant_2", effective_at=NOW + HOUR),
        hold(10, expires_in=7200),
    )
    applied = done(state, event(credits=20), NOW + DAY)
    assert told(applied) == [("grant", 20), ("hold_expiry", 0), ("expiry", -10), ("event", -20)]
    assert [entry.created_at for entry in applied.entries] == [NOW + DAY] * 4
    assert [entry.version for entry in applied.entries] == [4, 5, 6, 7]
    assert applied.own is applied.entries[-1]


def test_at_one_time_holds_run_out_first_then_grants_expire_then_others_start_and_come_again() -> None:
    end = NOW + DAY
    state = after(
        grant(10, "grant_a", every="day"),
        grant(7, "grant_b", effective_at=end),
        grant(5, "grant_c", expires_at=end),
        hold(15, expires_in=86_400),
    )
    applied = done(state, settle(), end)
    assert [(entry.kind, entry.credits) for entry in applied.entries] == [
        ("hold_expiry", 0),
        ("expiry", -10),
        ("expiry", -5),
        ("grant", 7),
        ("grant", 10),
    ]
    assert left(applied.state) == {"grant_a_1": 10, "grant_b": 7}


def test_a_grant_that_expires_as_its_hold_runs_out_expires_whole() -> None:
    state = after(grant(10, expires_at=NOW + HOUR), hold(4, expires_in=3600))
    assert told(done(state, settle(), NOW + HOUR)) == [("hold_expiry", 0), ("expiry", -10)]


def test_a_hold_that_ran_out_before_a_grant_expired_needs_nothing_of_it() -> None:
    state = after(grant(10, expires_at=NOW + HOUR), hold(10, expires_in=3599))
    assert told(done(state, settle(), NOW + DAY)) == [("hold_expiry", 0), ("expiry", -10)]


def test_a_grant_that_expired_before_its_hold_ran_out_goes_with_the_hold() -> None:
    state = after(grant(10, expires_at=NOW + HOUR), hold(4, expires_in=3601))
    assert told(done(state, settle(), NOW + DAY)) == [("expiry", -6), ("hold_expiry", 0), ("expiry", -4)]


def test_grants_that_end_together_lose_what_is_available_in_the_order_of_their_ids() -> None:
    state = after(
        grant(10, "grant_a", expires_at=NOW + HOUR),
        grant(10, "grant_b", expires_at=NOW + HOUR),
        hold(5, expires_in=7200),
    )
    applied = done(state, settle(), NOW + HOUR)
    assert [(entry.credits, entry.draws) for entry in applied.entries] == [
        (-10, (("grant_a", 10),)),
        (-5, (("grant_b", 5),)),
    ]


def test_a_clock_that_goes_back_brings_what_was_due_by_the_last_entry() -> None:
    state = after(grant(10), hold(5, expires_in=60))
    later = done(state, event(credits=1), NOW + HOUR)
    assert told(later) == [("hold_expiry", 0), ("event", -1)]
    again = done(after(hold(5, "hold_2", expires_in=60), state=later.state, now=NOW), settle(), NOW)
    assert again.entries == ()
    assert again.state.wallet.due_at == NOW + HOUR + 60 * SECOND


def test_so_many_things_are_settled_at_once_and_nothing_is_done_until_all_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "SETTLE_STEPS_MAX", 2)
    state = after(grant(10, every="day", rollover="all"), hold(5), grant(9, "grant_2", expires_at=NOW + 3 * DAY))
    later = NOW + 5 * DAY
    for number in (2, 4, 6):
        with pytest.raises(Busy):
            done(state, event(credits=55), later)  # five of them are still in a grant that has expired
        state = done(state, settle(), later).state
        assert state.wallet.version == 3 + number
    assert state.wallet.due_at == NOW + 5 * DAY
    assert told(done(state, event(credits=55), later)) == [("grant", 10), ("event", -55)]


def test_all_that_a_wallet_may_have_set_apart_and_been_given_by_hand_is_settled_at_once() -> None:
    state = after(*(grant(2, f"grant_{number}", expires_at=NOW + HOUR) for number in range(GRANTS_MAX)))
    state = after(*(hold(1, f"hold_{number}") for number in range(HOLDS_OPEN_MAX)), state=state)
    assert left(after(grant(1, "grant_new"), state=state, now=NOW + DAY)) == {"grant_new": 1}


def test_a_wallet_that_was_left_alone_for_a_year_is_brought_up_to_date_at_once() -> None:
    state = after(grant(1, every="day", rollover="all"))
    applied = done(state, settle(), NOW + 365 * DAY)
    assert (len(applied.entries), applied.state.wallet.balance) == (365, 366)


def test_a_refused_operation_brings_nothing_and_settling_brings_it_then() -> None:
    state = after(grant(10, expires_at=NOW + HOUR))
    before = copy.deepcopy(state)
    with pytest.raises(InsufficientCredits):
        done(state, event(credits=1), NOW + HOUR)
    assert state == before
    assert told(done(state, settle(), NOW + HOUR)) == [("expiry", -10)]


def test_the_member_of_a_hold_that_runs_out_keeps_a_limit_and_what_was_spent() -> None:
    state = after(grant(100), limit_member("alice", 50), event(credits=8, member="alice"), hold(30, member="alice"))
    [alice] = done(state, settle(), NOW + 900 * SECOND).members
    assert (alice.limit_credits, alice.spent_day, alice.held) == (50, 8, 0)


def test_many_holds_run_out_at_once() -> None:
    state = after(grant(100), *(hold(1, f"hold_{number}") for number in range(50)))
    applied = done(state, capture("hold_7"), NOW + 899 * SECOND)
    applied = done(applied.state, settle(), NOW + 900 * SECOND)
    assert told(applied) == [("hold_expiry", 0)] * 49
    assert (applied.state.wallet.held, applied.state.wallet.open_holds) == (0, 0)


def test_a_wallet_that_nobody_opened_is_not_settled() -> None:
    with pytest.raises(NotFound):
        done(NEW, settle(), NOW + DAY)


def test_what_a_lapsed_grant_keeps_and_no_hold_needs_goes_once_there_are_credits() -> None:
    """The hold was released while a debt left nothing available: kept any longer, it would pass for money."""
    later = NOW + HOUR
    state = after(grant(10, expires_at=later), change(overdraft_limit=10), hold(20, expires_in=7200))
    state = done(state, settle(), later).state
    assert grant_of(state).remaining == 10
    state = after(change(overdraft_limit=20), event(credits=10), change(overdraft_limit=0), release(), state=state)
    assert (state.wallet.balance, state.wallet.debt, grant_of(state).remaining) == (0, 10, 10)
    applied = done(state, grant(50, "grant_2"))
    assert told(applied) == [("grant", 50), ("expiry", -10)]
    assert (applied.state.wallet.balance, applied.state.wallet.debt) == (40, 0)
    with pytest.raises(InsufficientCredits):
        done(applied.state, event(credits=41))


def test_when_a_hold_closes_all_that_was_kept_and_is_available_goes_though_another_hold_is_open() -> None:
    later = NOW + HOUR
    held = (hold(60, expires_in=7200), hold(40, "hold_2", expires_in=7200))
    state = done(after(grant(100, expires_at=later), *held), settle(), later).state
    state = after(grant(50, "grant_2"), state=state)
    applied = done(state, capture(credits=10))
    assert told(applied) == [("event", -10), ("expiry", -90)]
    assert (applied.state.wallet.balance, applied.state.wallet.held) == (50, 40)
