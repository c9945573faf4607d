"""Grants: when their credits come, in which order they go, and how they end."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from rules.ledgers import (
    DAY,
    HOUR,
    NEW,
    NOW,
    adjust,
    after,
    change,
    done,
    event,
    grant,
    grant_of,
    hold,
    left,
    release,
    settle,
    told,
    top_up,
    void,
)

from app.config import BALANCE_MAX, GRANTS_MAX
from app.errors import InvalidRequest, NotFound
from app.rules.wallet import Grant, State, Wallet, burn_down_order


def refused(state: State, operation: Any, error: type[Exception] = InvalidRequest, now: int = NOW) -> dict[str, Any]:
    with pytest.raises(error) as caught:
        done(state, operation, now)
    return caught.value.facts  # type: ignore[attr-defined, no-any-return]


# The order in which they are spent


def made(id: str, **fields: Any) -> Grant:
    base = {"id": id, "version": 9, "state": "active", "category": "paid", "credits": 1, "remaining": 1, "source": "x"}
    return Grant(**base | {"created_at": 0, "effective_at": 0} | fields)


def test_credits_burn_by_priority_then_expiry_then_promotional_first_then_age() -> None:
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


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"priority": 49}, {"priority": 50, "expires_at": NOW + 1}),
        ({"category": "paid", "expires_at": NOW + 1}, {"expires_at": NOW + 2}),
        ({"category": "paid", "expires_at": NOW + 1}, {}),
        ({}, {"category": "paid"}),
        ({}, {}),
    ],
)
def test_a_wallet_keeps_that_order_whichever_came_first(first: dict[str, Any], second: dict[str, Any]) -> None:
    for order in ((0, 1), (1, 0)) if first != second else ((0, 1),):
        grants = [grant(5, "grant_a", **first), grant(5, "grant_b", **second)]
        state = after(*(grants[i] for i in order))
        assert done(state, event(credits=6)).entries[0].draws == (("grant_a", 5), ("grant_b", 1))


def test_an_event_draws_on_as_many_grants_as_it_needs() -> None:
    state = after(grant(5, "grant_p", category="paid"), grant(10, "grant_m"))
    applied = done(state, event(credits=12))
    assert applied.entries[0].draws == (("grant_m", 10), ("grant_p", 2))
    assert {g.id: g.remaining for g in applied.grants} == {"grant_m": 0, "grant_p": 3}
    assert left(applied.state) == {"grant_p": 3}


# Given now


def test_a_grant_comes_in_by_an_entry_that_tells_it() -> None:
    applied = done(NEW, grant(50, category="paid", priority=7, reason="sorry", expires_at=NOW + 1))
    [entry] = applied.entries
    assert (entry.kind, entry.description, entry.credits, entry.reason) == ("grant", "Credits added", 50, "sorry")
    [given] = applied.grants
    assert (given.state, given.remaining, given.priority, given.version) == ("active", 50, 7, 1)
    assert (given.effective_at, given.expires_at, applied.state.wallet.due_at) == (NOW, NOW + 1, NOW + 1)
    assert entry.detail == {"grant": msgspec.to_builtins(given)}
    assert done(NEW, grant(1)).entries[0].description == "Promotional credits"


def test_a_grant_that_was_to_be_effective_before_now_is_effective_now() -> None:
    [given] = done(NEW, grant(5, effective_at=NOW - DAY)).grants
    assert (given.state, given.effective_at) == ("active", NOW)


@pytest.mark.parametrize("expires_at", [NOW, NOW - 1])
def test_a_grant_that_would_have_expired_already_is_refused(expires_at: int) -> None:
    assert refused(NEW, grant(5, expires_at=expires_at))["field"] == "expires_at"


def test_a_grant_expires_after_it_is_effective() -> None:
    for expires_at in (NOW + DAY, NOW + HOUR):
        assert refused(NEW, grant(5, effective_at=NOW + DAY, expires_at=expires_at))["field"] == "expires_at"
    assert done(NEW, grant(5, effective_at=NOW + DAY, expires_at=NOW + DAY + 1)).grants


def test_a_wallet_has_so_many_grants_that_are_not_used_up_and_no_more_by_hand() -> None:
    grants = tuple(made(f"grant_{number}") for number in range(GRANTS_MAX))
    wallet = Wallet(customer_id="u", balance=GRANTS_MAX, version=1)
    assert refused(State(wallet, grants), grant(1, "grant_x"))["field"] == "credits"
    waiting = {"grant_p": made("grant_p", state="pending", effective_at=NOW + 1)}
    refused(State(wallet, grants[1:], waiting), grant(1, "grant_x"))
    assert refused(State(wallet, grants), adjust(1))["field"] == "credits"
    assert done(State(wallet, grants), adjust(-1)).entries
    kept = {"grant_k": made("grant_k", state="expired")}
    assert done(State(wallet, grants[1:], kept), grant(1, "grant_x")).entries
    assert done(State(wallet, grants), top_up(1)).entries  # what was bought comes in


@pytest.mark.parametrize(
    "operation", [grant(1), adjust(1), top_up(1), grant(1, effective_at=NOW + 1)], ids=lambda op: type(op).__name__
)
def test_a_balance_that_browsers_could_not_hold_is_refused(operation: Any) -> None:
    full = State(Wallet(customer_id="u", balance=BALANCE_MAX, version=1))
    assert refused(full, operation)["field"] == "credits"
    almost = State(Wallet(customer_id="u", balance=BALANCE_MAX - 1, version=1))
    assert done(almost, operation).entries


# Given for later


def test_a_future_grant_is_pending_and_in_no_balance() -> None:
    applied = done(NEW, grant(50, effective_at=NOW + DAY, reason="plan"))
    [entry] = applied.entries
    assert (entry.kind, entry.description, entry.credits, entry.balance, entry.reason) == (
        "settings",
        "Scheduled: Promotional credits",
        0,
        0,
        "plan",
    )
    [given] = applied.grants
    assert (given.state, given.remaining, given.effective_at) == ("pending", 50, NOW + DAY)
    assert (applied.state.grants, applied.state.wallet.due_at) == ((), NOW + DAY)


def test_a_future_grant_enters_the_balance_when_its_time_comes_by_an_entry_of_its_own() -> None:
    state = after(grant(50, effective_at=NOW + DAY, actor="key:ops"))
    assert done(state, settle(), NOW + DAY - 1).entries == ()
    applied = done(state, event(), NOW + DAY)
    assert told(applied) == [("grant", 50), ("event", -8)]
    assert (applied.entries[0].id, applied.entries[0].actor, applied.entries[0].version) == ("start_1", None, 2)
    started = grant_of(applied.state)
    assert (started.state, started.version, started.remaining) == ("active", 2, 42)


def test_a_future_grant_pays_a_debt_when_it_enters_and_not_before() -> None:
    state = after(change(overdraft_limit=10), event(credits=10), grant(50, effective_at=NOW + 1), state=after(grant(1)))
    assert state.wallet.debt == 9
    [entry] = done(state, settle(), NOW + 1).entries
    assert (entry.credits, entry.balance, entry.draws) == (50, 41, (("grant_1", 9),))


def test_a_future_grant_that_ended_unseen_comes_and_goes() -> None:
    state = after(grant(50, effective_at=NOW + HOUR, expires_at=NOW + 2 * HOUR))
    assert told(done(state, settle(), NOW + DAY)) == [("grant", 50), ("expiry", -50)]


def test_pending_grants_count_among_what_a_wallet_can_hold() -> None:
    state = State(Wallet(customer_id="u", balance=BALANCE_MAX - 10, version=1))
    state = after(grant(6, "grant_a", effective_at=NOW + 1), state=state)
    refused(state, grant(5, "grant_b", effective_at=NOW + 1))
    assert done(state, grant(4, "grant_b", effective_at=NOW + 1)).entries


def test_a_grant_that_finds_a_full_wallet_when_it_starts_brings_what_fits() -> None:
    waiting = made("grant_1", state="pending", credits=5, remaining=5, effective_at=NOW)
    full = State(Wallet(customer_id="u", balance=BALANCE_MAX - 3, version=1, due_at=NOW), (), {"grant_1": waiting})
    applied = done(full, settle())
    assert (told(applied), applied.state.wallet.balance) == ([("grant", 3)], BALANCE_MAX)
    assert (applied.grants[0].credits, applied.grants[0].remaining) == (3, 3)


# Expiry


def test_a_grant_expires_at_its_time_and_not_before() -> None:
    state = after(grant(50, expires_at=NOW + DAY))
    assert done(state, event(credits=1), NOW + DAY - 1).state.wallet.balance == 49
    applied = done(state, settle(), NOW + DAY)
    [entry] = applied.entries
    assert (entry.kind, entry.description, entry.credits, entry.balance) == ("expiry", "Credits expired", -50, 0)
    assert (entry.draws, entry.actor, entry.id) == ((("grant_1", 50),), None, "exp_1_2")
    assert (grant_of(applied.state).state, applied.state.wallet.due_at) == ("expired", None)


def test_a_grant_that_was_used_up_expires_without_a_word() -> None:
    state = after(event(credits=5), state=after(grant(5, expires_at=NOW + DAY)))
    applied = done(state, settle(), NOW + DAY)
    assert (applied.entries, applied.state.wallet.due_at) == ((), None)


def test_an_expiry_takes_no_more_than_leaves_nothing_available() -> None:
    state = after(grant(50, expires_at=NOW + DAY), hold(30, expires_in=86_400 + 1))
    applied = done(state, settle(), NOW + DAY)
    assert (told(applied), applied.state.wallet.available) == ([("expiry", -20)], 0)


def test_an_expiry_takes_all_of_what_an_overdraft_covers() -> None:
    state = after(
        change(overdraft_limit=100), hold(60, expires_in=86_401), state=after(grant(50, expires_at=NOW + DAY))
    )
    applied = done(state, settle(), NOW + DAY)
    assert (told(applied), applied.state.wallet.available) == ([("expiry", -50)], 40)


def test_an_expiry_takes_nothing_where_available_is_below_zero_and_writes_no_entry() -> None:
    state = after(
        change(overdraft_limit=30),
        hold(70, expires_in=86_401),
        change(overdraft_limit=0),
        state=after(grant(50, expires_at=NOW + DAY)),
    )
    applied = done(state, settle(), NOW + DAY)
    assert (applied.entries, grant_of(applied.state).state) == ((), "expired")
    assert (grant_of(applied.state).remaining, applied.state.wallet.available) == (50, -20)


# Void


def test_a_void_takes_back_what_is_left() -> None:
    applied = done(after(grant(50), event(credits=20)), replace(void(), reason="fraud"))
    [entry] = applied.entries
    assert (entry.kind, entry.description, entry.credits, entry.balance, entry.reason) == (
        "void",
        "Credits withdrawn",
        -30,
        0,
        "fraud",
    )
    assert entry.draws == (("grant_1", 30),)
    assert entry.detail == {"grant": msgspec.to_builtins(grant_of(applied.state))}
    assert (grant_of(applied.state).state, applied.state.grants) == ("voided", ())


def test_a_void_takes_no_more_than_leaves_nothing_available() -> None:
    state = after(grant(50), hold(30))
    applied = done(state, void())
    assert (told(applied), applied.state.wallet.available) == ([("void", -20)], 0)
    assert told(done(applied.state, release())) == [("release", 0), ("void", -30)]


def test_a_void_of_a_pending_grant_moves_nothing_and_it_never_comes() -> None:
    applied = done(after(grant(50, effective_at=NOW + DAY)), void())
    assert told(applied) == [("settings", 0)]
    assert applied.entries[0].description == "Scheduled credits withdrawn"
    assert applied.entries[0].draws == (("grant_1", 50),)
    assert (grant_of(applied.state).state, grant_of(applied.state).remaining) == ("voided", 0)
    assert done(applied.state, settle(), NOW + DAY).entries == ()


def test_a_grant_that_is_used_up_is_not_voided() -> None:
    assert refused(after(grant(5), event(credits=5)), void())["field"] == "grant_id"


@pytest.mark.parametrize(("ending", "status"), [(void(), "voided"), (settle(), "expired")])
def test_a_grant_that_ended_is_not_voided_and_its_status_is_told(ending: Any, status: str) -> None:
    state = after(ending, state=after(grant(5, expires_at=NOW + DAY)), now=NOW + DAY if status == "expired" else NOW)
    assert refused(state, void(), now=NOW + DAY) == {"field": "grant_id", "status": status}


def test_a_grant_that_expired_just_now_is_not_voided() -> None:
    assert refused(after(grant(5, expires_at=NOW + DAY)), void(), now=NOW + DAY)["status"] == "expired"


def test_a_grant_of_another_wallet_is_not_found() -> None:
    refused(after(grant(5)), void("grant_9"), NotFound)


def test_a_void_goes_on_in_a_frozen_wallet() -> None:
    assert told(done(after(grant(5), change(frozen=True)), void())) == [("void", -5)]
