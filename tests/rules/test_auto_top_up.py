"""A wallet that fills itself: one attempt at a time, within its month, and not for ever."""

from typing import Any

from msgspec.structs import replace
from rules.ledgers import CATALOGUE, DAY, NEW, NOW, at, change, done, event, grant, settle, top_up

from app.config import AUTO_TOP_UP_FAILURES_MAX, AUTO_TOP_UP_PAUSES_SECONDS
from app.rules.operations import FailTopUp, Operation, RestartTopUps, TakeBack
from app.rules.packs import Pack
from app.rules.wallet import Applied, Attempt, AutoTopUp, State

PACK = Pack(code="starter", name="Starter", credits=500, amount=1000, currency="usd", bonus_credits=50, bonus_days=7)
PACKS = replace(CATALOGUE, packs={"starter": PACK})
SETTINGS = AutoTopUp(threshold=100, pack="starter", monthly_limit=3000)


def apply(state: State, operation: Operation, now: int = NOW, **fields: Any) -> Applied:
    return done(state, operation, now, catalogue=fields.get("catalogue", PACKS))


def filled(credits: int = 150, **settings: Any) -> State:
    """A wallet with so many credits that fills itself."""
    state = apply(NEW, grant(credits)).state
    return apply(state, change(auto_top_up=replace(SETTINGS, **settings))).state


def spend(state: State, credits: int, now: int = NOW, number: int = 1, **fields: Any) -> Applied:
    return apply(state, event(credits=credits, id=f"evt_{number}"), now, **fields)


def landed(state: State, attempt: Attempt, now: int = NOW, **fields: Any) -> Applied:
    bought = replace(
        top_up(attempt.credits, attempt.id.replace("co", "top")),
        checkout_id=attempt.id,
        amount=attempt.amount,
        purchase="auto_top_up",
        **fields,
    )
    return apply(state, bought, now)


def failed(state: State, attempt_id: str, now: int = NOW, reason: str = "card_declined", **fields: Any) -> Applied:
    return apply(
        state,
        FailTopUp(
            customer_id="u",
            id=attempt_id.replace("co", "fail"),
            checkout_id=attempt_id,
            pack="starter",
            amount=1000,
            currency="usd",
            reason=reason,
            **fields,
        ),
        now,
    )


def auto(state: State) -> AutoTopUp:
    assert state.wallet.auto_top_up is not None
    return state.wallet.auto_top_up


def test_a_balance_below_the_threshold_begins_one_attempt_over_the_pack() -> None:
    state = filled()
    assert spend(state, 50).attempts == ()
    applied = spend(state, 51)
    [attempt] = applied.attempts
    assert (attempt.credits, attempt.amount, attempt.currency, attempt.bonus_credits) == (500, 1000, "usd", 50)
    assert (attempt.description, attempt.bonus_days, attempt.at) == ("Starter: 500 credits", 7, NOW)
    assert auto(applied.state).attempt == attempt.id
    assert [(one.kind, one.description) for one in applied.entries[1:]] == [("settings", "Automatic top-up begun")]
    assert spend(applied.state, 10, number=2).attempts == ()


def test_settings_on_a_low_wallet_begin_at_once() -> None:
    state = apply(NEW, grant(50)).state
    assert len(apply(state, change(auto_top_up=SETTINGS)).attempts) == 1


def test_a_payment_that_lands_ends_the_attempt_and_counts_in_its_month() -> None:
    applied = spend(filled(), 60)
    after = landed(applied.state, applied.attempts[0]).state
    assert (after.wallet.balance, auto(after).attempt, auto(after).charged) == (590, None, 1000)


def test_what_still_is_too_little_begins_the_next() -> None:
    applied = apply(apply(NEW, grant(150)).state, change(auto_top_up=replace(SETTINGS, threshold=2000)))
    again = landed(applied.state, applied.attempts[0])
    assert [one.id != applied.attempts[0].id for one in again.attempts] == [True]


def test_the_month_has_a_limit_and_the_next_month_begins_anew() -> None:
    state, now = filled(monthly_limit=1999), at("2026-01-31T10:00")
    applied = spend(state, 60, now)
    state = landed(applied.state, applied.attempts[0], now).state
    stopped = spend(state, 500, now, number=2)
    assert (stopped.attempts, [one.type for one in stopped.notices]) == ((), ["top_up.failed"])
    assert stopped.notices[0].data["reason"] == "monthly_limit"
    assert stopped.state.wallet.due_at == at("2026-02-01")
    assert spend(stopped.state, 1, now + 1, number=3).notices == ()
    assert len(apply(stopped.state, settle(), at("2026-02-01")).attempts) == 1


def test_failures_pause_longer_and_longer_and_the_last_stops() -> None:
    state, now = filled(), NOW
    applied = spend(state, 60)
    for number in range(1, AUTO_TOP_UP_FAILURES_MAX + 1):
        [attempt] = applied.attempts
        after = failed(applied.state, attempt.id, now)
        state = after.state
        facts = after.notices[0].data
        assert (auto(state).attempt, auto(state).failures, facts["failures"]) == (None, number, number)
        if number == AUTO_TOP_UP_FAILURES_MAX:
            break
        pause = AUTO_TOP_UP_PAUSES_SECONDS[number - 1] * 1000
        assert (auto(state).waits_until, state.wallet.due_at) == (now + pause, now + pause)
        assert apply(state, settle(), now + pause - 1).attempts == ()
        now += pause
        applied = apply(state, replace(settle(), id=f"settle_{number}"), now)
    assert (auto(state).stopped, facts["stopped"], facts["retry_at"]) == ("card_declined", True, None)
    assert apply(state, settle(), now + 400 * DAY).attempts == ()


def test_new_settings_or_a_new_card_begin_anew() -> None:
    applied = spend(filled(), 60)
    stopped = replace(auto(applied.state), attempt=None, stopped="card_declined", failures=4)
    state = State(replace(applied.state.wallet, auto_top_up=stopped), applied.state.grants)
    assert len(apply(state, change(auto_top_up=SETTINGS)).attempts) == 1
    with_card = apply(state, replace(top_up(1, "top_9"), card_saved=True))
    assert (auto(with_card.state).stopped, len(with_card.attempts)) == (None, 1)


def test_settings_that_change_leave_an_attempt_and_its_month_as_they_are() -> None:
    applied = spend(filled(), 60)
    changed = apply(applied.state, change(auto_top_up=replace(SETTINGS, threshold=120)))
    assert (changed.attempts, auto(changed.state).attempt) == ((), applied.attempts[0].id)
    state = landed(changed.state, applied.attempts[0]).state
    assert auto(apply(state, change(auto_top_up=replace(SETTINGS, threshold=5))).state).charged == 1000


def test_a_frozen_wallet_is_not_filled_until_it_thaws() -> None:
    state = apply(filled(), change(frozen=True)).state
    state = apply(state, change(auto_top_up=replace(SETTINGS, threshold=400))).state
    assert auto(state).attempt is None
    assert len(apply(state, change(frozen=False)).attempts) == 1


def test_a_pack_that_is_not_on_sale_any_more_stops_and_is_told() -> None:
    applied = spend(filled(), 60, catalogue=replace(PACKS, packs={}))
    assert (applied.attempts, auto(applied.state).stopped) == ((), "pack_not_on_sale")
    assert [one.data["reason"] for one in applied.notices] == ["pack_not_on_sale"]


def test_a_failure_of_an_attempt_that_is_over_changes_nothing() -> None:
    applied = spend(filled(), 60)
    state = landed(applied.state, applied.attempts[0]).state
    assert failed(state, applied.attempts[0].id).entries == ()
    assert failed(state, "co_other").state is state


def test_a_payment_that_comes_after_it_was_given_up_lands_and_counts() -> None:
    applied = spend(filled(), 60)
    state = failed(applied.state, applied.attempts[0].id).state
    late = landed(state, applied.attempts[0])
    assert (late.state.wallet.balance, auto(late.state).charged, auto(late.state).failures) == (590, 1000, 1)


def test_money_that_goes_back_is_not_fetched_again() -> None:
    applied = spend(filled(), 60)
    attempt = applied.attempts[0]
    state = landed(applied.state, attempt).state
    money = {"customer_id": "u", "description": "Starter", "charged": 1000, "seen": 0, "checkout_id": attempt.id}
    for name, facts in (
        ("refunded", {"refunded": 1000, "disputed": 0, "purchase": "auto_top_up"}),
        ("disputed", {"refunded": 0, "disputed": 1000}),
    ):
        back = apply(state, TakeBack(**money | facts, id=f"back_{name}"))
        assert (back.attempts, back.state.wallet.balance) == ((), 90)
        assert auto(back.state).stopped == name
        assert spend(back.state, 10, number=2).attempts == ()


def test_a_refund_of_what_the_customer_bought_is_no_reason_to_charge_by_itself() -> None:
    bought = apply(NEW, replace(top_up(150, "top_9"), checkout_id="co_9")).state
    state = apply(bought, change(auto_top_up=SETTINGS)).state
    money = {"customer_id": "u", "description": "Starter", "charged": 1000, "seen": 0, "checkout_id": "co_9"}
    back = apply(state, TakeBack(**money, id="back_1", refunded=1000, disputed=0))
    assert (back.attempts, back.state.wallet.balance, auto(back.state).stopped) == ((), 0, None)


def test_an_end_and_a_new_beginning_know_what_is_under_way_and_what_was_charged() -> None:
    applied = spend(filled(), 60)
    off = apply(applied.state, change(auto_top_up=None))
    assert (auto(off.state).enabled, auto(off.state).attempt) == (False, applied.attempts[0].id)
    on = apply(off.state, change(auto_top_up=SETTINGS))
    assert (on.attempts, auto(on.state).attempt) == ((), applied.attempts[0].id)
    state = landed(off.state, applied.attempts[0]).state
    assert spend(state, 500, number=2).attempts == ()
    state = apply(state, change(auto_top_up=replace(SETTINGS, monthly_limit=1999))).state
    assert (auto(state).charged, spend(state, 500, number=3).attempts) == (1000, ())


def test_a_new_card_replaces_the_one_that_the_settings_named() -> None:
    state = filled(stripe_customer="cus_1", payment_method="pm_1")
    with_card = apply(state, replace(top_up(1, "top_9"), card_saved=True)).state
    assert (auto(with_card).stripe_customer, auto(with_card).payment_method) == (None, None)


def test_a_pack_that_changed_its_currency_stops_and_is_told() -> None:
    yen = replace(PACKS, packs={"starter": replace(PACK, currency="jpy")})
    applied = spend(filled(currency="usd"), 60, catalogue=yen)
    assert (applied.attempts, auto(applied.state).stopped) == ((), "pack_currency_changed")
    assert [one.type for one in applied.notices] == ["top_up.failed"]


def test_the_id_of_an_attempt_does_not_grow_from_one_to_the_next() -> None:
    applied = apply(apply(NEW, grant(150)).state, change(auto_top_up=replace(SETTINGS, threshold=10**6)))
    ids = []
    for _ in range(3):
        ids.append(applied.attempts[0].id)
        applied = landed(applied.state, applied.attempts[0])
    assert len(set(ids)) == 3
    assert max(map(len, ids)) < 40


def test_a_card_that_is_saved_later_than_its_payment_landed_begins_anew() -> None:
    applied = spend(filled(stripe_customer="cus_1", payment_method="pm_1"), 60)
    state = failed(applied.state, applied.attempts[0].id).state
    again = apply(state, RestartTopUps(customer_id="u", id="card_1"))
    assert (auto(again.state).failures, auto(again.state).payment_method, len(again.attempts)) == (0, None, 1)


def test_currencies_are_never_added_up() -> None:
    applied = spend(filled(monthly_limit=2000), 60)
    state = landed(applied.state, applied.attempts[0]).state
    yen = replace(PACKS, packs={"starter": replace(PACK, currency="jpy", amount=1500)})
    assert len(spend(state, 500, number=2, catalogue=yen).attempts) == 1


def test_one_that_is_dropped_does_not_count_as_a_failure() -> None:
    applied = spend(filled(), 60)
    dropped = failed(applied.state, applied.attempts[0].id, reason="not_wanted", counts=False)
    assert (auto(dropped.state).failures, len(dropped.attempts)) == (0, 1)
