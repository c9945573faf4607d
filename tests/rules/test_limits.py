"""What a wallet, or a member inside of one, may spend in a day, a week or a month."""

import pytest
from rules.ledgers import (
    CATALOGUE,
    DAY,
    HOUR,
    NEW,
    NOW,
    SECOND,
    after,
    at,
    capture,
    change,
    done,
    event,
    grant,
    hold,
    limit,
    limit_member,
    release,
    reverse,
    settle,
)

from app.errors import SpendLimitReached
from app.rules.ledger import apply
from app.rules.limits import given_back, left_of_limit, spent_in
from app.rules.wallet import Member, State, Wallet

FUNDED = after(grant(1000))


def refusal(state: State, operation: object, now: int = NOW) -> dict[str, object]:
    with pytest.raises(SpendLimitReached) as refused:
        apply(state, operation, CATALOGUE, now)  # type: ignore[arg-type]
    return refused.value.facts


def test_a_limit_is_spent_to_its_last_credit_and_no_further() -> None:
    state = after(limit(20), event(credits=12), event(credits=8), state=FUNDED)
    assert refusal(state, event(credits=1)) == {
        "scope": "wallet",
        "limit": 20,
        "per": "day",
        "spent": 20,
        "held": 0,
        "required": 1,
        "resets_at": "2026-02-01T00:00:00.000Z",
    }


def test_open_holds_count_and_so_does_the_new_one() -> None:
    state = after(limit(20), event(credits=5), hold(10), state=FUNDED)
    assert done(state, event(credits=5)).state.wallet.balance == 990
    assert refusal(state, event(credits=6))["held"] == 10
    assert done(state, hold(5, "hold_2")).state.wallet.held == 15
    assert refusal(state, hold(6, "hold_2"))["spent"] == 5


def test_a_hold_that_is_released_or_runs_out_makes_room_again() -> None:
    state = after(limit(20), hold(20), state=FUNDED)
    refusal(state, event(credits=1))
    assert done(after(release(), state=state), event(credits=20)).entries
    refusal(state, event(credits=1), NOW + 899 * SECOND)
    assert done(state, event(credits=20), NOW + 900 * SECOND).entries


def test_a_capture_counts_once_and_not_as_a_hold_any_more() -> None:
    state = after(limit(20), hold(15), capture(), state=FUNDED)
    assert done(state, event(credits=5)).entries
    refusal(state, event(credits=6))


def test_a_capture_beyond_what_was_held_is_held_to_the_limit_with_its_own_hold_taken_out() -> None:
    state = after(limit(20), event(credits=5), hold(10), state=FUNDED)
    assert done(state, capture(credits=15)).entries
    facts = refusal(state, capture(credits=16))
    assert (facts["spent"], facts["held"], facts["required"]) == (5, 10, 6)


def test_a_capture_up_to_what_was_held_passes_over_a_limit_that_was_set_since() -> None:
    state = after(hold(10), event(credits=5), limit(1), state=FUNDED)
    assert done(state, capture()).state.wallet.balance == 985


def test_what_is_free_passes_a_limit_that_is_reached_and_a_limit_of_zero_lets_nothing_else_pass() -> None:
    state = after(limit(0), state=FUNDED)
    assert done(state, event(event="ping")).entries
    refusal(state, event(credits=1))


def test_a_limit_that_is_taken_away_limits_nothing() -> None:
    assert done(after(limit(0), limit(None), state=FUNDED), event(credits=1000)).entries


@pytest.mark.parametrize(
    ("per", "last", "next_window"),
    [
        ("day", "2026-01-31T23:59", "2026-02-01"),
        ("week", "2026-02-01T23:59", "2026-02-02"),  # a Sunday, and the Monday after it
        ("month", "2026-01-31T23:59", "2026-02-01"),
    ],
)
def test_a_new_window_begins_at_zero(per: str, last: str, next_window: str) -> None:
    state = after(limit(10, per), event(credits=10), state=FUNDED)
    refusal(state, event(credits=1), at(last) + 59_999)
    assert done(state, event(credits=10), at(next_window)).entries


def test_the_windows_are_counted_whether_or_not_there_is_a_limit_on_them() -> None:
    state = after(event(credits=10), state=FUNDED)
    state = after(event(credits=5), state=state, now=at("2026-02-01"))  # the same week, another day and month
    now = at("2026-02-01T12:00")
    assert refusal(after(limit(14, "week"), state=state, now=now), event(credits=1), now)["spent"] == 15
    assert refusal(after(limit(4, "month"), state=state, now=now), event(credits=1), now)["spent"] == 5


def test_a_clock_that_goes_back_does_not_open_the_window_before() -> None:
    midnight = at("2026-02-01")
    state = after(limit(10), state=FUNDED)
    state = after(event(credits=10), state=state, now=midnight)
    refusal(state, event(credits=1), midnight - HOUR)


def test_a_reversal_in_the_same_window_makes_room_and_a_later_one_does_not() -> None:
    charged = done(after(limit(10), state=FUNDED), event(credits=10))
    assert done(after(reverse(charged.own), state=charged.state), event(credits=10, id="evt_2")).entries

    tomorrow = at("2026-02-01T10:00")
    state = after(event(credits=10, id="evt_2"), state=charged.state, now=tomorrow)
    late = after(reverse(charged.own), state=state, now=tomorrow)
    refusal(late, event(credits=1), tomorrow)
    assert spent_in(late.wallet, tomorrow) == (10, 10, 10)  # the day's, the week's without it, the new month's


def test_a_member_is_limited_apart_from_the_others_and_the_wallet_counts_all_of_them() -> None:
    state = after(
        limit(30), limit_member("alice", 10), event(credits=10, member="alice"), event(credits=15), state=FUNDED
    )
    assert refusal(state, event(credits=1, member="alice")) == {
        "scope": "member",
        "limit": 10,
        "per": "day",
        "spent": 10,
        "held": 0,
        "required": 1,
        "resets_at": "2026-02-01T00:00:00.000Z",
    }
    assert done(state, event(credits=5, member="bob")).entries
    assert refusal(state, event(credits=6, member="bob"))["scope"] == "wallet"


def test_a_members_holds_count_for_the_member_until_they_close() -> None:
    state = after(limit_member("alice", 10), hold(6, member="alice"), hold(50, "hold_2"), state=FUNDED)
    assert state.members["alice"].held == 6
    assert refusal(state, event(credits=5, member="alice"))["held"] == 6
    assert done(state, event(credits=4, member="alice")).entries
    for closed in (
        after(release(member="alice"), state=state),
        after(settle(), state=state, now=NOW + 900 * SECOND),
    ):
        assert closed.members["alice"].held == 0
        assert done(closed, event(credits=10, member="alice")).entries
    captured = after(capture(member="alice", credits=1), state=state)
    assert (captured.members["alice"].held, captured.members["alice"].spent_day) == (0, 1)


def test_a_members_capture_beyond_what_was_held_is_held_to_the_members_limit() -> None:
    state = after(limit_member("alice", 10), hold(6, member="alice"), state=FUNDED)
    assert done(state, capture(member="alice", credits=10)).entries
    assert refusal(state, capture(member="alice", credits=11))["scope"] == "member"


def test_a_reversal_gives_the_member_room_again() -> None:
    charged = done(after(limit_member("alice", 10), state=FUNDED), event(credits=10, member="alice"))
    back = after(reverse(charged.own), state=charged.state)
    assert (back.members["alice"].spent_day, back.wallet.spent_day) == (0, 0)
    assert done(back, event(credits=10, member="alice", id="evt_2")).entries


def test_what_a_member_without_a_limit_spends_is_counted_for_the_day_that_one_is_set() -> None:
    state = after(event(credits=7, member="alice"), limit_member("alice", 8), state=FUNDED)
    assert refusal(state, event(credits=2, member="alice"))["spent"] == 7


def test_a_members_limit_opens_a_wallet_and_said_again_changes_nothing() -> None:
    applied = done(NEW, limit_member("alice", 10), welcome=5)
    assert [entry.kind for entry in applied.entries] == ["grant", "settings"]
    assert applied.own is not None
    assert applied.own.detail == {"member": "alice", "spend_limit": {"credits": 10, "per": "day"}}
    assert done(applied.state, limit_member("alice", 10)).entries == ()
    taken_away = done(applied.state, limit_member("alice", None))
    assert taken_away.entries[0].detail == {"member": "alice", "spend_limit": None}


def test_setting_a_members_limit_leaves_what_was_spent_and_held() -> None:
    state = after(event(credits=3, member="alice"), hold(4, member="alice"), limit_member("alice", 9), state=FUNDED)
    alice = state.members["alice"]
    assert (alice.spent_day, alice.held, alice.limit_credits, alice.limit_per) == (3, 4, 9, "day")


def test_a_refusal_for_want_of_credits_and_one_by_a_limit_are_told_apart() -> None:
    state = after(limit(10), change(overdraft_limit=0), state=after(grant(5)))
    assert refusal(state, event(credits=11))["required"] == 11


def test_what_was_spent_is_nothing_in_windows_that_ended() -> None:
    spender = Wallet(customer_id="u", spent_day=1, spent_week=2, spent_month=3, spent_at=at("2026-02-01T10:00"))
    assert spent_in(spender, at("2026-02-01T23:59")) == (1, 2, 3)
    assert spent_in(spender, at("2026-02-02")) == (0, 0, 3)  # a Monday
    assert spent_in(spender, at("2026-03-01")) == (0, 0, 0)
    assert spent_in(spender, at("2027-02-01T10:00")) == (0, 0, 0)


def test_credits_go_back_into_the_windows_that_both_times_lie_in_and_never_below_zero() -> None:
    now = at("2026-02-04")
    assert given_back((5, 6, 7), 4, now - 1, now) == (5, 2, 3)
    assert given_back((5, 6, 7), 4, at("2026-02-01"), now) == (5, 6, 3)
    assert given_back((5, 6, 7), 4, at("2026-01-31"), now) == (5, 6, 7)
    assert given_back((1, 1, 1), 4, now, now) == (0, 0, 0)


def test_what_a_limit_leaves_is_none_where_there_is_none_and_never_below_zero() -> None:
    assert left_of_limit(Member(member="alice"), NOW, held=3) is None
    limited = Member(member="alice", limit_credits=10, limit_per="day", spent_day=4, spent_at=NOW)
    assert left_of_limit(limited, NOW, held=3) == 3
    assert left_of_limit(limited, NOW, held=9) == 0
    assert left_of_limit(limited, NOW + DAY, held=3) == 7
