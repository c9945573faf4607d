"""Spend limits of a wallet and of its members: to the edge and no further, and what a quote says of them."""

import datetime as dt
from typing import Any

import httpx
import pytest
from ledgers import at_once, capture, check_ledger, hold, quote, release, reverse, statuses, wait_until, wallet_of
from serving import charge, error_of, grant

DAY = dt.timedelta(days=1)
SCOPES = ("wallet", "member")


def set_limit(api: httpx.Client, customer_id: str, scope: str, credits: int | None, per: str = "day") -> None:
    """A limit of the wallet, or of its member alice."""
    path = "/members/alice" if scope == "member" else ""
    value = None if credits is None else {"credits": credits, "per": per}
    answer = api.patch(f"/v1/wallets/{customer_id}{path}", json={"spend_limit": value})
    assert answer.status_code == 200, answer.text
    assert answer.json()["spend_limit"] == value


def spend(api: httpx.Client, customer_id: str, credits: int) -> httpx.Response:
    """By alice."""
    return charge(api, customer_id, "x.y", credits=credits, member="alice")


def refused(answer: httpx.Response) -> dict[str, Any]:
    return error_of(answer, 402, "spend_limit_reached")


@pytest.mark.parametrize("scope", SCOPES)
def test_a_limit_lets_pass_what_makes_it_full_and_nothing_more(api: httpx.Client, customer: str, scope: str) -> None:
    set_limit(api, customer, scope, 50)
    refusal = refused(spend(api, customer, 51))
    assert (refusal["scope"], refusal["limit"], refusal["spent"]) == (scope, 50, 0)
    assert spend(api, customer, 49).status_code == 201
    refused(spend(api, customer, 2))
    assert spend(api, customer, 1).status_code == 201
    refusal = refused(spend(api, customer, 1))
    assert (refusal["scope"], refusal["limit"], refusal["spent"]) == (scope, 50, 50)
    check_ledger(api, customer)


@pytest.mark.parametrize("scope", SCOPES)
def test_open_holds_count_in_a_limit_until_they_close(api: httpx.Client, customer: str, scope: str) -> None:
    set_limit(api, customer, scope, 50)
    assert spend(api, customer, 10).status_code == 201
    made = hold(api, customer, 30, member="alice")
    refusal = refused(spend(api, customer, 11))
    assert (refusal["spent"], refusal["limit"]) == (10, 50)
    refused(api.post("/v1/holds", json={"customer_id": customer, "credits": 11, "member": "alice"}))
    other = hold(api, customer, 10, member="alice")
    release(api, other["id"])
    assert capture(api, made["id"], credits=5).status_code == 201
    refused(spend(api, customer, 36))
    assert spend(api, customer, 35).status_code == 201
    check_ledger(api, customer)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_hold_that_ran_out_counts_no_more(api: httpx.Client, customer: str, scope: str) -> None:
    set_limit(api, customer, scope, 50)
    made = hold(api, customer, 50, member="alice", expires_in=1)
    refused(spend(api, customer, 1))
    wait_until(made["expires_at"])
    assert spend(api, customer, 50).status_code == 201


@pytest.mark.parametrize("scope", SCOPES)
def test_a_capture_counts_in_place_of_its_hold(api: httpx.Client, customer: str, scope: str) -> None:
    set_limit(api, customer, scope, 50)
    made = hold(api, customer, 40, member="alice")
    refusal = refused(capture(api, made["id"], credits=51))
    assert (refusal["scope"], refusal["spent"]) == (scope, 0)
    assert api.get(f"/v1/holds/{made['id']}").json()["status"] == "open"
    assert capture(api, made["id"], credits=50).status_code == 201
    refused(spend(api, customer, 1))


@pytest.mark.parametrize("scope", SCOPES)
def test_what_was_held_may_be_captured_though_the_limit_was_lowered(
    api: httpx.Client, customer: str, scope: str
) -> None:
    made = hold(api, customer, 40, member="alice")
    set_limit(api, customer, scope, 1)
    refused(spend(api, customer, 1))
    refused(capture(api, made["id"], credits=41))
    assert capture(api, made["id"], credits=40).json()["balance"] == 60


def test_a_members_limit_binds_the_member_and_nobody_else(api: httpx.Client, customer: str) -> None:
    set_limit(api, customer, "member", 10)
    assert spend(api, customer, 10).status_code == 201
    assert charge(api, customer, "x.y", credits=20, member="bob").status_code == 201
    assert charge(api, customer, "x.y", credits=20).status_code == 201
    assert refused(spend(api, customer, 1))["scope"] == "member"


def test_the_wallets_limit_binds_all_members_together(api: httpx.Client, customer: str) -> None:
    set_limit(api, customer, "wallet", 30)
    set_limit(api, customer, "member", 20)
    assert spend(api, customer, 20).status_code == 201
    assert charge(api, customer, "x.y", credits=10, member="bob").status_code == 201
    assert refused(charge(api, customer, "x.y", credits=1))["scope"] == "wallet"


def test_want_of_credits_and_a_limit_are_told_apart(api: httpx.Client, customer: str) -> None:
    set_limit(api, customer, "wallet", 200)
    error_of(spend(api, customer, 101), 402, "insufficient_credits")
    refused(spend(api, customer, 201))


@pytest.mark.parametrize("per", ["day", "week", "month"])
@pytest.mark.parametrize("scope", SCOPES)
def test_a_limit_says_when_it_begins_anew(api: httpx.Client, customer: str, scope: str, per: str) -> None:
    set_limit(api, customer, scope, 1, per)
    now = dt.datetime.now(dt.UTC)
    refusal = refused(spend(api, customer, 2))
    resets_at = dt.datetime.fromisoformat(refusal["resets_at"])
    assert (resets_at.hour, resets_at.minute, resets_at.second, resets_at.microsecond) == (0, 0, 0, 0)
    assert now < resets_at <= now + {"day": DAY, "week": 7 * DAY, "month": 31 * DAY}[per]
    if per == "week":
        assert resets_at.isoweekday() == 1
    elif per == "month":
        assert resets_at.day == 1


def test_a_limit_counts_what_was_spent_before_it_was_set(api: httpx.Client, customer: str) -> None:
    spend(api, customer, 30)
    for scope in SCOPES:
        for per in ("day", "week", "month"):
            set_limit(api, customer, scope, 30, per)
            assert refused(spend(api, customer, 1))["spent"] == 30
        set_limit(api, customer, scope, None)
    assert spend(api, customer, 1).status_code == 201


def test_a_reversed_event_gives_its_part_of_the_limit_back(api: httpx.Client, customer: str) -> None:
    for scope in SCOPES:
        set_limit(api, customer, scope, 50)
    event = spend(api, customer, 50).json()
    refused(spend(api, customer, 1))
    assert reverse(api, event["id"]).status_code == 201
    assert wallet_of(api, customer)["spent"] == {"day": 0, "week": 0, "month": 0}
    assert spend(api, customer, 50).status_code == 201
    check_ledger(api, customer)


def test_adjustments_and_free_events_count_in_no_limit(api: httpx.Client, customer: str) -> None:
    set_limit(api, customer, "wallet", 10)
    spend(api, customer, 10)
    corrected = api.post(f"/v1/wallets/{customer}/adjustments", json={"credits": -20, "reason": "r"})
    assert corrected.status_code == 201
    api.put("/v1/prices/limits.free", json={"credits": 0})
    assert charge(api, customer, "limits.free", member="alice").status_code == 201
    assert wallet_of(api, customer)["spent"]["day"] == 10


def test_a_key_replays_though_the_limit_was_reached_since(api: httpx.Client, customer: str) -> None:
    first = charge(api, customer, credits=10, idempotency_key="k")
    set_limit(api, customer, "wallet", 1)
    assert charge(api, customer, credits=10, idempotency_key="k").json() == first.json()


# What a quote says


@pytest.mark.parametrize("scope", SCOPES)
def test_a_quote_covers_what_the_limit_lets_pass(api: httpx.Client, customer: str, scope: str) -> None:
    set_limit(api, customer, scope, 40)
    said = quote(api, customer, member="alice")
    assert (said["allowed"], said["reason"], said["available"], said["covers"]) == (True, None, 100, 5)
    hold(api, customer, 17, member="alice")
    assert quote(api, customer, member="alice")["covers"] == 2
    spend(api, customer, 16)
    said = quote(api, customer, member="alice")
    assert said == {
        "credits": 8,
        "allowed": False,
        "reason": "spend_limit_reached",
        "balance": 84,
        "available": 67,
        "covers": 0,
    }
    refused(charge(api, customer, member="alice"))
    assert quote(api, customer, member="bob")["allowed"] is (scope == "member")


def test_a_quote_names_what_an_event_would_be_refused_for(api: httpx.Client, customer: str) -> None:
    def both(quantity: int) -> tuple[str | None, str | None, int]:
        said = quote(api, customer, quantity=quantity, member="alice")
        answer = charge(api, customer, quantity=quantity, member="alice")
        code = None if answer.status_code == 201 else answer.json()["error"]["code"]
        return said["reason"], code, said["covers"]

    assert both(13) == ("insufficient_credits", "insufficient_credits", 0)
    set_limit(api, customer, "member", 15)
    assert both(13) == ("spend_limit_reached", "spend_limit_reached", 0)
    assert both(1) == (None, None, 1)
    assert both(1) == ("spend_limit_reached", "spend_limit_reached", 0)
    api.patch(f"/v1/wallets/{customer}", json={"frozen": True})
    assert both(1) == ("wallet_frozen", "wallet_frozen", 0)


def test_a_quote_covers_what_the_overdraft_lets_pass(api: httpx.Client, customer: str) -> None:
    api.patch(f"/v1/wallets/{customer}", json={"overdraft_limit": 60})
    said = quote(api, customer)
    assert (said["balance"], said["available"], said["covers"]) == (100, 160, 20)


# At once


@pytest.mark.parametrize("scope", SCOPES)
def test_a_race_for_what_a_limit_leaves_has_as_many_winners_as_it_lets_pass(
    api: httpx.Client, customer_id: str, scope: str
) -> None:
    grant(api, customer_id, 1000)
    set_limit(api, customer_id, scope, 50)
    held = [
        lambda: api.post("/v1/holds", json={"customer_id": customer_id, "credits": 10, "member": "alice"})
        for _ in range(15)
    ]
    spent = [lambda: spend(api, customer_id, 10) for _ in range(15)]
    assert statuses(at_once(held + spent)) == [201] * 5 + [402] * 25
    wallet = wallet_of(api, customer_id)
    assert wallet["spent"]["day"] + wallet["held"] == 50
    check_ledger(api, customer_id)
