"""Reversals: an action failed, and its credits go back to where they came from, once."""

from typing import Any

import httpx
import pytest
from ledgers import (
    at_once,
    capture,
    check_ledger,
    every_hold,
    give,
    hold,
    release,
    reverse,
    soon,
    statuses,
    void,
    wait_until,
    wallet_of,
)
from serving import balance, charge, error_of, grant, whole_ledger


def remaining(api: httpx.Client, customer_id: str) -> dict[str, int]:
    return {one["id"]: one["remaining"] for one in wallet_of(api, customer_id)["grants"]}


def test_a_reversal_gives_back_what_an_event_took_and_says_so(api: httpx.Client, customer: str) -> None:
    event = charge(api, customer, member="alice", model="m").json()
    answer = reverse(api, event["id"], reason="timed out")
    assert answer.status_code == 201
    told = answer.json()
    assert told["id"].startswith("rev_")
    assert told.pop("created_at") >= event["created_at"]
    assert told == {
        "id": told["id"],
        "event_id": event["id"],
        "customer_id": customer,
        "event": "chat.reply",
        "label": "Returned: Chat reply",
        "member": "alice",
        "credits": 8,
        "reason": "timed out",
        "balance": 100,
        "held": 0,
        "available": 100,
        "version": 3,
    }
    entry = whole_ledger(api, customer, kind="reversal")[0]
    assert (entry["id"], entry["credits"], entry["description"]) == (told["id"], 8, "Returned: Chat reply")
    assert api.get(f"/v1/events/{event['id']}").json() == event
    check_ledger(api, customer)


def test_a_reversal_asked_again_answers_as_it_did_and_gives_nothing_more(api: httpx.Client, customer: str) -> None:
    event = charge(api, customer, credits=30).json()
    first = api.post(f"/v1/events/{event['id']}/reverse")
    charge(api, customer, credits=5)
    for again in (api.post(f"/v1/events/{event['id']}/reverse"), reverse(api, event["id"])):
        assert (again.status_code, again.json(), again.headers["idempotent-replayed"]) == (201, first.json(), "true")
    assert balance(api, customer) == 95
    check_ledger(api, customer)


def test_fifty_reversals_at_once_are_one(api: httpx.Client, customer: str) -> None:
    event = charge(api, customer, credits=30).json()
    answers = at_once([lambda: reverse(api, event["id"])] * 50)
    assert statuses(answers) == [201] * 50
    assert len({answer.text for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert [one["credits"] for one in check_ledger(api, customer)] == [100, -30, 30]


def test_fifty_reversals_at_once_with_a_key_each_are_one(api: httpx.Client, customer: str) -> None:
    event = charge(api, customer, credits=30).json()
    answers = at_once([lambda n=n: reverse(api, event["id"], idempotency_key=f"k{n}") for n in range(50)])
    assert statuses(answers) == [201] * 50
    assert len({answer.text for answer in answers}) == 1
    assert [one["credits"] for one in check_ledger(api, customer)] == [100, -30, 30]


def test_credits_go_back_to_the_grants_that_they_came_from(api: httpx.Client, customer_id: str) -> None:
    first = give(api, customer_id, 10, priority=1)["id"]
    second = give(api, customer_id, 20, category="paid", priority=2)["id"]
    third = give(api, customer_id, 30, priority=3)["id"]
    event = charge(api, customer_id, credits=35).json()
    assert remaining(api, customer_id) == {third: 25}
    assert reverse(api, event["id"]).json()["balance"] == 60
    assert remaining(api, customer_id) == {first: 10, second: 20, third: 30}
    check_ledger(api, customer_id)


def test_a_reversed_capture_gives_back_what_it_took_and_opens_no_hold(api: httpx.Client, customer: str) -> None:
    made = hold(api, customer, 60)
    event = capture(api, made["id"], credits=25).json()
    assert reverse(api, event["id"]).json()["balance"] == 100
    assert [one["status"] for one in every_hold(api, customer)] == ["captured"]
    assert (reverse(api, event["id"]).status_code, wallet_of(api, customer)["available"]) == (201, 100)
    error_of(capture(api, made["id"]), 409, "hold_not_open")
    assert capture(api, made["id"], credits=25).json() == event
    check_ledger(api, customer)


def test_what_came_from_a_grant_that_has_expired_comes_back_for_a_day(api: httpx.Client, customer_id: str) -> None:
    kept = give(api, customer_id, 10)["id"]
    lapsing = give(api, customer_id, 20, expires_at=soon(0.6))
    event = charge(api, customer_id, credits=25).json()
    wait_until(lapsing["expires_at"])
    answer = reverse(api, event["id"]).json()
    assert (answer["credits"], answer["balance"]) == (25, 30)
    by_id = {one["id"]: one for one in wallet_of(api, customer_id)["grants"]}
    assert by_id.pop(kept)["remaining"] == 10
    assert lapsing["id"] not in by_id
    [anew] = by_id.values()
    assert (anew["remaining"], anew["category"]) == (20, "promotional")
    assert soon(86_300) < anew["expires_at"] < soon(86_401)
    check_ledger(api, customer_id)


def test_what_came_from_a_voided_grant_comes_back_for_a_day(api: httpx.Client, customer_id: str) -> None:
    made = give(api, customer_id, 20, category="paid")
    event = charge(api, customer_id, credits=15).json()
    void(api, customer_id, made["id"])
    assert reverse(api, event["id"]).json()["balance"] == 15
    [anew] = wallet_of(api, customer_id)["grants"]
    assert (anew["remaining"], anew["category"], anew["id"] == made["id"]) == (15, "promotional", False)
    check_ledger(api, customer_id)


def test_a_reversal_pays_a_debt_first(api: httpx.Client, customer: str) -> None:
    api.patch(f"/v1/wallets/{customer}", json={"overdraft_limit": 50})
    spent = charge(api, customer, credits=80).json()
    owed = charge(api, customer, credits=60).json()
    assert reverse(api, spent["id"]).json()["balance"] == 40
    assert sum(remaining(api, customer).values()) == 40
    assert reverse(api, owed["id"]).json()["balance"] == 100
    assert sum(remaining(api, customer).values()) == 100
    check_ledger(api, customer)


def test_a_reversal_of_a_frozen_wallets_event_goes_through(api: httpx.Client, customer: str) -> None:
    event = charge(api, customer).json()
    api.patch(f"/v1/wallets/{customer}", json={"frozen": True})
    assert reverse(api, event["id"]).json()["balance"] == 100


def test_a_free_events_reversal_gives_nothing_and_is_entered(api: httpx.Client, customer: str) -> None:
    api.put("/v1/prices/reversals.free", json={"credits": 0})
    event = charge(api, customer, "reversals.free").json()
    assert reverse(api, event["id"]).json()["credits"] == 0
    check_ledger(api, customer)


def test_a_key_of_a_reversed_event_still_replays(api: httpx.Client, customer: str) -> None:
    event = charge(api, customer, idempotency_key="k").json()
    reverse(api, event["id"])
    again = charge(api, customer, idempotency_key="k")
    assert (again.json(), again.headers["idempotent-replayed"]) == (event, "true")
    assert balance(api, customer) == 100


@pytest.mark.parametrize("event_id", ["evt_nothing", "rev_1", "'--", "x" * 3000, "%00", "%ff", "名"])
def test_an_event_that_is_none_is_not_found(api: httpx.Client, event_id: str) -> None:
    error_of(reverse(api, event_id), 404, "not_found")
    error_of(api.get(f"/v1/events/{event_id}"), 404, "not_found")


def test_only_an_event_can_be_reversed(api: httpx.Client, customer: str) -> None:
    made = hold(api, customer, 10)
    event = charge(api, customer).json()
    adjusted = api.post(f"/v1/wallets/{customer}/adjustments", json={"credits": -5, "reason": "r"}).json()
    others = [
        made["id"],
        release(api, made["id"]).json()["id"].replace("hold_", "rel_"),
        grant(api, customer, 5)["id"],
        adjusted["id"],
        reverse(api, event["id"]).json()["id"],
    ]
    stood = balance(api, customer)
    for one in others:
        error_of(reverse(api, one), 404, "not_found")
    assert balance(api, customer) == stood
    check_ledger(api, customer)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"credits": 4}, "credits"),
        ({"reason": ""}, "reason"),
        ({"reason": "r" * 501}, "reason"),
        ({"reason": "a\x00"}, "reason"),
        ({"reason": 7}, "reason"),
        ({"idempotency_key": ""}, "idempotency_key"),
    ],
    ids=repr,
)
def test_a_bad_reversal_is_refused_by_its_field(
    api: httpx.Client, customer: str, body: dict[str, Any], field: str
) -> None:
    event = charge(api, customer).json()
    assert error_of(reverse(api, event["id"], **body), 400, "invalid_request")["field"] == field
    assert balance(api, customer) == 92


def test_reversals_of_many_events_at_once_return_all_of_them(api: httpx.Client, customer: str) -> None:
    events = [charge(api, customer, credits=5).json()["id"] for _ in range(20)]
    calls: list[Any] = [lambda one=one: reverse(api, one) for one in events * 2]
    assert statuses(at_once(calls)) == [201] * 40
    entries = check_ledger(api, customer)
    assert (len(entries), entries[-1]["balance"]) == (41, 100)
