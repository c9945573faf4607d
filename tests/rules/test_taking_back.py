"""Refunds and disputes: what was bought goes with its money, and comes back with it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rules.ledgers import DAY, HOUR, NEW, NOW, after, done, event, grant, grant_of, hold, left, reverse, settle, top_up

from app.errors import NotFound, VersionConflict
from app.rules.operations import TakeBack, TopUp
from app.rules.taking_back import status_of
from app.rules.wallet import Applied, State


def bought(credits: int = 500, number: int = 1, **fields: Any) -> TopUp:
    return replace(top_up(credits, f"top_{number}"), checkout_id=f"co_{number}", **fields)


def money(state: State, refunded: int = 0, disputed: int = 0, *, number: int = 1, charged: int = 1000) -> TakeBack:
    """What Stripe says of a payment, as of what is known of it."""
    taken = grant_of(state, f"grant_{number}").taken
    return TakeBack(
        customer_id="u",
        id=f"back_{state.wallet.version}",
        checkout_id=f"co_{number}",
        description="Starter",
        charged=charged,
        refunded=refunded,
        disputed=disputed,
        seen=taken.version if taken else 0,
    )


def moved(state: State, refunded: int = 0, disputed: int = 0, now: int = NOW, **of: int) -> Applied:
    return done(state, money(state, refunded, disputed, **of), now)


def spent(credits: int, state: State, id: str = "evt_1") -> State:
    return done(state, event(credits=credits, id=id)).state


def test_a_partial_refund_takes_as_large_a_part_of_the_grant_that_was_bought() -> None:
    state = after(grant(100, "grant_9", priority=0), bought())
    applied = moved(state, refunded=400)
    [entry] = applied.entries
    assert (entry.kind, entry.credits, entry.description) == ("refund", -200, "Refund: Starter")
    assert entry.draws == (("grant_1", 200),)
    assert left(applied.state) == {"grant_9": 100, "grant_1": 300}


@pytest.mark.parametrize("twice", [400, 1000])
def test_a_signal_that_comes_twice_takes_once(twice: int) -> None:
    state = moved(after(bought()), refunded=twice).state
    assert moved(state, refunded=twice).entries == ()


def test_refunds_add_up_and_take_all_in_the_end_whatever_was_rounded() -> None:
    state = after(bought(7))
    taken = []
    for refunded in (333, 666, 999, 1000):
        applied = moved(state, refunded=refunded)
        taken.append(sum(-entry.credits for entry in applied.entries))
        state = applied.state
    assert (taken, state.wallet.balance) == ([2, 2, 2, 1], 0)


def test_what_was_spent_is_owed_and_other_grants_pay_it() -> None:
    state = spent(450, after(bought()))
    applied = moved(state, refunded=1000)
    assert (applied.entries[0].credits, applied.state.wallet.balance, applied.state.wallet.debt) == (-500, -450, 450)
    paid = after(bought(500, 2), state=applied.state)
    assert (paid.wallet.balance, paid.wallet.debt, left(paid)) == (50, 0, {"grant_2": 50})
    rich = after(grant(1000, "grant_9", priority=200), state=state)
    applied = moved(rich, refunded=1000)
    assert applied.entries[0].draws == (("grant_1", 50), ("grant_9", 450))
    assert (applied.state.wallet.debt, left(applied.state)) == (0, {"grant_9": 550})


def test_a_dispute_that_is_won_gives_back_what_it_took_and_frees_who_paid_for_it() -> None:
    state = after(grant(1000, "grant_9", priority=200), state=spent(450, after(bought())))
    taken = moved(state, disputed=1000)
    assert (taken.entries[0].kind, taken.state.wallet.balance) == ("dispute", 550)
    won = moved(taken.state)
    assert (won.entries[0].kind, won.entries[0].credits) == ("dispute_reversal", 500)
    assert won.entries[0].description == "Dispute won: Starter"
    assert left(won.state) == left(state)
    assert grant_of(won.state, "grant_9").debt_paid == 0


def test_a_refund_that_failed_gives_back_too() -> None:
    failed = moved(moved(after(bought()), refunded=1000).state)
    assert [(one.kind, one.credits, one.description) for one in failed.entries] == [
        ("refund", 500, "Refund undone: Starter")
    ]


def test_a_refund_and_a_dispute_together_take_no_more_than_was_bought() -> None:
    state = moved(after(bought()), disputed=1000).state
    assert [one.credits for one in moved(state, refunded=1000, disputed=1000).entries] == [0]
    still_refunded = moved(state, refunded=1000)
    assert ([one.credits for one in still_refunded.entries], still_refunded.state.wallet.balance) == ([0], 0)
    assert moved(moved(state, refunded=400).state, refunded=400).state.wallet.balance == 300


def test_what_moves_the_bonus_alone_is_kept_with_the_purchase() -> None:
    state = moved(after(bought(1, bonus_credits=30)), disputed=250).state
    assert state.wallet.balance == 24
    back = moved(state)
    assert [(one.kind, one.credits) for one in back.entries] == [("dispute_reversal", 7)]


def test_a_bonus_goes_with_what_was_bought() -> None:
    state = after(bought(bonus_credits=100, bonus_days=30))
    assert left(state) == {"grant_1b": 100, "grant_1": 500}
    assert grant_of(state, "grant_1b").expires_at == NOW + 30 * DAY
    applied = moved(spent(60, state), refunded=500)
    assert (applied.entries[0].credits, applied.state.wallet.balance) == (-300, 240)
    assert left(moved(applied.state, refunded=0).state) == {"grant_1b": 40, "grant_1": 500}


def test_what_expired_is_owed_by_nobody() -> None:
    state = spent(200, after(bought(expires_at=NOW + HOUR)))
    state = after(settle(), state=state, now=NOW + HOUR)
    assert grant_of(state).lapsed == 300
    half = moved(state, refunded=500, now=NOW + HOUR)
    assert (half.entries[0].credits, half.state.wallet.debt) == (0, 0)
    whole = moved(half.state, refunded=1000, now=NOW + HOUR)
    assert (whole.entries[0].credits, whole.state.wallet.debt) == (-200, 200)
    back = moved(whole.state, refunded=600, now=NOW + HOUR)
    assert (back.entries[0].credits, back.state.wallet.debt, back.state.wallet.balance) == (200, 0, 0)


def test_what_is_taken_first_and_expires_then_is_not_given_back_by_a_second_look() -> None:
    state = moved(after(bought(expires_at=NOW + HOUR)), refunded=500).state
    state = after(settle(), state=state, now=NOW + HOUR)
    assert (state.wallet.balance, grant_of(state).lapsed) == (0, 250)
    assert moved(state, refunded=500, now=NOW + HOUR).entries == ()


def test_what_came_back_for_a_day_and_passed_is_owed_by_nobody() -> None:
    state = moved(after(bought(expires_at=NOW + HOUR)), disputed=1000).state
    state = after(settle(), state=state, now=NOW + HOUR)
    won = moved(state, now=NOW + HOUR).state
    assert won.wallet.balance == 500
    state = after(replace(settle(), id="settle_2"), state=won, now=NOW + HOUR + DAY)
    refunded = moved(state, refunded=1000, now=NOW + HOUR + DAY)
    assert (refunded.state.wallet.balance, refunded.state.wallet.debt) == (0, 0)


def test_each_word_of_the_money_is_kept_though_no_credit_moves() -> None:
    state = moved(after(bought()), disputed=1000).state
    both = moved(state, refunded=1000, disputed=1000)
    assert [(one.kind, one.credits) for one in both.entries] == [("settings", 0)]
    won = moved(both.state, refunded=1000)
    assert [(one.kind, one.credits) for one in won.entries] == [("settings", 0)]
    failed = moved(won.state)
    assert [(one.kind, one.description) for one in failed.entries] == [("refund", "Refund undone: Starter")]
    old = replace(money(state, refunded=1000, disputed=1000), id="back_old")
    with pytest.raises(VersionConflict):
        done(both.state, old)


def test_a_refund_may_take_what_holds_have_set_apart() -> None:
    applied = moved(after(bought(), hold(400)), refunded=1000)
    assert (applied.state.wallet.balance, applied.state.wallet.held, applied.state.wallet.available) == (0, 400, -400)


def test_an_event_that_is_reversed_after_its_credits_were_refunded_pays_the_debt() -> None:
    charged = done(after(bought()), event(credits=450))
    state = moved(charged.state, refunded=1000).state
    back = done(state, reverse(charged.own))
    assert (back.state.wallet.balance, back.state.wallet.debt) == (0, 0)
    undone = moved(back.state)
    assert left(undone.state) == {"grant_1": 500}


def test_what_stripe_said_before_something_was_taken_is_refused() -> None:
    state = after(bought())
    old = money(state, refunded=400)
    state = moved(state, refunded=1000).state
    with pytest.raises(VersionConflict):
        done(state, old)


def test_nothing_is_taken_of_what_has_not_landed() -> None:
    with pytest.raises(NotFound):
        done(after(grant(5)), replace(money(after(bought())), checkout_id="co_other"))
    with pytest.raises(NotFound):
        done(NEW, money(after(bought())))


def test_taxes_and_promotions_move_the_money_and_not_the_share() -> None:
    assert moved(after(bought()), refunded=595, charged=1190).entries[0].credits == -250
    assert moved(after(bought()), refunded=250, charged=500).entries[0].credits == -250


def test_each_move_is_told_with_what_it_rests_on() -> None:
    [notice] = moved(after(bought()), refunded=400).notices
    assert notice.type == "top_up.refunded"
    assert notice.data == {
        "customer_id": "u",
        "checkout_id": "co_1",
        "amount_refunded": 400,
        "amount_disputed": 0,
        "currency": "usd",
        "credits": -200,
        "reason": "refund",
        "balance": 300,
        "available": 300,
    }


@pytest.mark.parametrize(
    ("refunded", "disputed", "status"),
    [(0, 0, "paid"), (1, 0, "partially_refunded"), (1000, 0, "refunded"), (0, 1, "disputed"), (1000, 1, "disputed")],
)
def test_a_checkout_is_called_by_where_its_money_is(refunded: int, disputed: int, status: str) -> None:
    assert status_of(1000, refunded, disputed) == status


@given(st.lists(st.tuples(st.integers(0, 1200), st.integers(0, 1200)), max_size=8), st.integers(0, 600))
def test_whatever_came_before_the_last_word_counts(said: list[tuple[int, int]], spending: int) -> None:
    state = (
        spent(min(spending, 600), after(bought(bonus_credits=100))) if spending else after(bought(bonus_credits=100))
    )
    once = state
    for refunded, disputed in said:
        state = moved(state, refunded, disputed).state
    if said:
        once = moved(once, *said[-1]).state
    assert (state.wallet.balance, state.wallet.debt, left(state)) == (once.wallet.balance, once.wallet.debt, left(once))
