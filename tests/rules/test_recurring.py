"""Grants that come again every day, week or month."""

import pytest
from msgspec.structs import replace
from rules.ledgers import (
    DAY,
    HOUR,
    NEW,
    NOW,
    after,
    at,
    change,
    done,
    event,
    grant,
    grant_of,
    left,
    reverse,
    settle,
    told,
    void,
)

from app.config import BALANCE_MAX
from app.errors import InvalidRequest
from app.rules.times import rfc3339
from app.rules.wallet import State

DAILY = after(grant(10, every="day"))
KEPT = after(grant(10, every="day", rollover="all"))


def test_a_recurring_grant_ends_with_its_period_when_the_next_begins() -> None:
    [first] = done(NEW, grant(10, every="day")).grants
    assert (first.every, first.rollover, first.expires_at, first.next_at) == ("day", "none", NOW + DAY, NOW + DAY)
    applied = done(after(event(credits=4), state=DAILY), settle(), NOW + DAY)
    assert told(applied) == [("expiry", -6), ("grant", 10)]
    second = grant_of(applied.state, "grant_1_1")
    assert (second.remaining, second.expires_at, second.next_at) == (10, NOW + 2 * DAY, NOW + 2 * DAY)
    assert (second.source, second.period, second.effective_at) == ("grant_1", 1, NOW + DAY)
    assert grant_of(applied.state).next_at is None
    assert applied.entries[1].id == "grant_1_1"


def test_what_rolls_over_stays_beside_what_comes() -> None:
    applied = done(after(event(credits=4), state=KEPT), settle(), NOW + DAY)
    assert told(applied) == [("grant", 10)]
    assert left(applied.state) == {"grant_1": 6, "grant_1_1": 10}
    assert [one.expires_at for one in applied.state.grants] == [None, None]


def test_what_lapsed_of_a_period_has_not_lapsed_of_the_next() -> None:
    first, second = done(DAILY, settle(), NOW + DAY).grants
    assert (first.lapsed, second.lapsed) == (10, 0)


def test_what_comes_again_is_worth_as_much() -> None:
    state = after(grant(10, every="day", category="paid", usd_nanos=30))
    [came] = [one for one in done(state, settle(), NOW + DAY).grants if one.period]
    assert (came.worth_nanos, came.worth_currency) == (3, "usd")


def test_a_grant_of_the_31st_comes_on_the_last_day_of_a_shorter_month_and_on_the_31st_again() -> None:
    state = after(grant(10, every="month"), now=at("2026-01-31T10:00"))
    came = []
    for day in range(1, 130):
        applied = done(state, settle(), at("2026-01-31T10:00") + day * DAY)
        state = applied.state
        came += [entry for entry in applied.entries if entry.kind == "grant"]
    assert [rfc3339(entry.created_at)[:16] for entry in came] == [
        "2026-02-28T10:00",
        "2026-03-31T10:00",
        "2026-04-30T10:00",
        "2026-05-31T10:00",
    ]
    assert [entry.id for entry in came] == [f"grant_1_{period}" for period in range(1, 5)]


def test_a_weekly_grant_comes_on_its_own_weekday() -> None:
    state = after(grant(10, every="week"))
    assert done(state, settle(), NOW + 7 * DAY - 1).entries == ()
    assert told(done(state, settle(), NOW + 7 * DAY)) == [("expiry", -10), ("grant", 10)]


def test_one_that_is_used_up_comes_again_all_the_same() -> None:
    state = after(event(credits=10), state=DAILY)
    assert (state.grants, state.wallet.due_at) == ((), NOW + DAY)
    assert told(done(state, settle(), NOW + DAY)) == [("grant", 10)]


def test_of_periods_that_passed_unseen_only_the_one_that_still_lasts_is_given() -> None:
    applied = done(DAILY, settle(), NOW + 100 * DAY + HOUR)
    assert told(applied) == [("expiry", -10), ("grant", 10)]
    current = grant_of(applied.state, "grant_1_100")
    assert (current.effective_at, current.expires_at) == (NOW + 100 * DAY, NOW + 101 * DAY)
    assert applied.state.wallet.due_at == NOW + 101 * DAY


def test_periods_that_passed_unseen_are_all_given_where_their_credits_roll_over() -> None:
    applied = done(KEPT, settle(), NOW + 3 * DAY + HOUR)
    assert told(applied) == [("grant", 10)] * 3
    assert left(applied.state) == {"grant_1": 10, "grant_1_1": 10, "grant_1_2": 10, "grant_1_3": 10}
    assert [one.effective_at for one in applied.state.grants] == [NOW + day * DAY for day in range(4)]
    assert applied.state.wallet.due_at == NOW + 4 * DAY


def test_the_periods_end_with_expires_at_and_the_last_of_them_is_cut_short() -> None:
    state = after(grant(10, every="day", expires_at=NOW + DAY + HOUR))
    state = after(settle(), state=state, now=NOW + DAY)
    last = grant_of(state, "grant_1_1")
    assert (last.expires_at, last.next_at) == (NOW + DAY + HOUR, None)
    ended = done(state, settle(), NOW + DAY + HOUR)
    assert (told(ended), ended.state.wallet.due_at) == ([("expiry", -10)], None)


def test_no_period_begins_at_expires_at_itself() -> None:
    [only] = done(NEW, grant(10, every="day", expires_at=NOW + DAY)).grants
    assert (only.expires_at, only.next_at) == (NOW + DAY, None)


def test_one_whose_end_passed_unseen_gives_nothing_any_more() -> None:
    state = after(grant(10, every="day", expires_at=NOW + 2 * DAY + HOUR))
    applied = done(state, settle(), NOW + 10 * DAY)
    assert (told(applied), applied.state.wallet.due_at) == ([("expiry", -10)], None)


def test_what_rolls_over_expires_at_the_end_of_all_periods() -> None:
    state = after(grant(10, every="day", rollover="all", expires_at=NOW + 2 * DAY + HOUR))
    applied = done(state, settle(), NOW + 10 * DAY)
    assert told(applied) == [("grant", 10), ("grant", 10), ("expiry", -10), ("expiry", -10), ("expiry", -10)]


def test_a_recurring_grant_may_begin_later_and_its_periods_are_counted_from_then() -> None:
    state = after(grant(10, every="day", effective_at=NOW + HOUR))
    assert grant_of(state).state == "pending"
    state = after(settle(), state=state, now=NOW + HOUR)
    assert (left(state), state.wallet.due_at) == ({"grant_1": 10}, NOW + HOUR + DAY)
    late = done(after(grant(10, every="day", effective_at=NOW + HOUR)), settle(), NOW + HOUR + 3 * DAY)
    assert told(late) == [("grant", 10), ("expiry", -10), ("grant", 10)]
    assert left(late.state) == {"grant_1_3": 10}


def test_what_comes_again_pays_a_debt_first() -> None:
    state = after(change(overdraft_limit=7), event(credits=17), state=DAILY)
    [entry] = done(state, settle(), NOW + DAY).entries
    assert (entry.credits, entry.balance, entry.draws) == (10, 3, (("grant_1_1", 7),))


def test_voiding_the_newest_ends_the_rest_with_it() -> None:
    state = after(settle(), state=DAILY, now=NOW + DAY)
    applied = done(state, void("grant_1_1"), NOW + DAY)
    assert told(applied) == [("void", -10)]
    assert done(applied.state, settle(), NOW + 9 * DAY).entries == ()


def test_the_newest_is_voided_even_where_it_is_used_up() -> None:
    state = after(event(credits=10), state=DAILY)
    applied = done(state, void())
    assert (told(applied), applied.entries[0].draws) == ([("void", 0)], None)
    assert done(applied.state, settle(), NOW + 9 * DAY).entries == ()


def test_voiding_an_older_one_takes_that_alone() -> None:
    state = after(settle(), state=KEPT, now=NOW + DAY)
    state = after(void("grant_1"), state=state, now=NOW + DAY)
    assert told(done(state, settle(), NOW + 2 * DAY)) == [("grant", 10)]


def test_one_that_waits_is_voided_for_good() -> None:
    state = after(void(), state=after(grant(10, every="day", effective_at=NOW + HOUR)))
    assert done(state, settle(), NOW + 9 * DAY).entries == ()


def test_what_an_event_took_of_a_period_that_is_over_comes_back_for_a_day() -> None:
    charged = done(DAILY, event(credits=10))
    state = after(settle(), state=charged.state, now=NOW + DAY)
    back = after(reverse(charged.own), state=state, now=NOW + DAY + HOUR)
    assert left(back) == {"grant_1_1": 10, "grant_1d": 10}
    assert grant_of(back, "grant_1d").expires_at == NOW + 2 * DAY + HOUR


def test_a_full_wallet_is_given_what_fits() -> None:
    used_up = {"grant_1": replace(DAILY.grants[0], remaining=0)}
    full = State(replace(DAILY.wallet, balance=BALANCE_MAX - 3), (), used_up)
    applied = done(full, settle(), NOW + DAY)
    assert (told(applied), applied.state.wallet.balance) == ([("grant", 3)], BALANCE_MAX)


@pytest.mark.parametrize("every", ["day", "week", "month"])
def test_one_that_would_come_again_after_the_year_9999_is_refused(every: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        done(NEW, grant(10, every=every, effective_at=at("9999-01-01")))
    assert refused.value.facts == {"field": "effective_at"}
    assert done(NEW, grant(10, every=every, effective_at=at("9999-01-01") - 1)).grants
    assert done(NEW, grant(10, effective_at=at("9999-12-31"))).grants
