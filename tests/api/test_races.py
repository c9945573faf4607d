"""Many callers at once: what one of them wins no other has, and the ledger holds together after each storm."""

import time
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
    statuses,
    void,
    wallet_of,
)
from serving import charge, grant


def post_hold(api: httpx.Client, customer_id: str, credits: int, **fields: Any) -> httpx.Response:
    return api.post("/v1/holds", json={"customer_id": customer_id, "credits": credits, **fields})


def test_of_holds_that_race_for_the_last_credits_one_wins(api: httpx.Client, customer: str) -> None:
    answers = at_once([lambda: post_hold(api, customer, 60)] * 20)
    assert statuses(answers) == [201] + [402] * 19
    assert len(check_ledger(api, customer)) == 2


def test_two_holds_for_the_last_credit_leave_one_of_them_out(api: httpx.Client, customer: str) -> None:
    charge(api, customer, credits=99)
    for _ in range(10):
        answers = at_once([lambda: post_hold(api, customer, 1)] * 2)
        assert statuses(answers) == [201, 402]
        release(api, next(answer.json()["id"] for answer in answers if answer.status_code == 201))
    check_ledger(api, customer)


def test_holds_and_events_that_race_take_no_more_than_there_is(api: httpx.Client, customer: str) -> None:
    holds = [lambda: post_hold(api, customer, 10) for _ in range(25)]
    events = [lambda: charge(api, customer, credits=10) for _ in range(25)]
    assert (
        statuses(at_once([call for pair in zip(holds, events, strict=True) for call in pair]))
        == [201] * 10 + [402] * 40
    )
    wallet = wallet_of(api, customer)
    assert wallet["available"] == 0
    check_ledger(api, customer)


def test_of_a_capture_and_a_release_exactly_one_wins(api: httpx.Client, customer: str) -> None:
    holds = [hold(api, customer, 10)["id"] for _ in range(10)]
    calls = [call for one in holds for call in (lambda one=one: capture(api, one), lambda one=one: release(api, one))]
    answers = at_once(calls * 2)
    by_hold = {
        one: [answers[place] for place in range(len(answers)) if place % 20 // 2 == n] for n, one in enumerate(holds)
    }
    became = {one["id"]: one["status"] for one in every_hold(api, customer)}
    for one, (captured, released, captured_again, released_again) in by_hold.items():
        won = became[one]
        winners, losers = [captured, captured_again], [released, released_again]
        if won == "released":
            winners, losers = losers, winners
        assert {answer.status_code for answer in winners} == {201 if won == "captured" else 200}
        assert winners[0].json() == winners[1].json()
        assert [answer.json()["error"]["status"] for answer in losers] == [won, won]
    spent = sum(10 for status in became.values() if status == "captured")
    assert check_ledger(api, customer)[-1]["balance"] == 100 - spent


def test_a_hundred_equal_captures_are_one(api: httpx.Client, customer: str) -> None:
    made = hold(api, customer, 60)
    answers = at_once([lambda: capture(api, made["id"], credits=25)] * 100)
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert [one["credits"] for one in check_ledger(api, customer)] == [100, 0, -25]


def test_of_captures_over_different_amounts_one_wins(api: httpx.Client, customer: str) -> None:
    made = hold(api, customer, 30)
    answers = at_once([lambda n=n: capture(api, made["id"], credits=1 + n) for n in range(30)])
    assert statuses(answers) == [201] + [409] * 29
    [won] = [answer.json()["credits"] for answer in answers if answer.status_code == 201]
    assert {answer.json()["error"]["status"] for answer in answers if answer.status_code == 409} == {"captured"}
    assert check_ledger(api, customer)[-1]["balance"] == 100 - won


def test_captures_for_more_than_was_held_and_events_share_what_is_left(api: httpx.Client, customer: str) -> None:
    holds = [hold(api, customer, 5)["id"] for _ in range(10)]
    captures = [lambda one=one: capture(api, one, credits=15) for one in holds]
    events = [lambda: charge(api, customer, credits=10) for _ in range(10)]
    answers = at_once(captures + events)
    assert statuses(answers) == [201] * 5 + [402] * 15
    wallet = wallet_of(api, customer)
    assert (wallet["available"], wallet["balance"]) == (0, wallet["held"])
    check_ledger(api, customer)


def test_a_capture_at_the_moment_at_which_its_hold_runs_out_wins_or_is_told(api: httpx.Client, customer: str) -> None:
    begun = time.monotonic()
    holds = [hold(api, customer, 3, expires_in=1)["id"] for _ in range(30)]
    runs_out_after = time.monotonic() - begun

    def at_its_end(place: int) -> httpx.Response:
        ends = begun + 1 + runs_out_after * place / len(holds)
        time.sleep(max(0.0, ends + (place % 7 - 3) * 0.004 - time.monotonic()))
        return capture(api, holds[place])

    answers = at_once([lambda n=n: at_its_end(n) for n in range(len(holds))])
    became = {one["id"]: one["status"] for one in every_hold(api, customer)}
    for one, answer in zip(holds, answers, strict=True):
        if answer.status_code == 201:
            assert became[one] == "captured"
            assert answer.json()["created_at"] < api.get(f"/v1/holds/{one}").json()["expires_at"]
        else:
            assert (answer.status_code, answer.json()["error"]["status"]) == (409, "expired")
            assert became[one] == "expired"
    captured = sum(answer.status_code == 201 for answer in answers)
    assert check_ledger(api, customer)[-1]["balance"] == 100 - 3 * captured


def test_a_void_that_races_with_events_takes_exactly_what_they_left(api: httpx.Client, customer_id: str) -> None:
    made = give(api, customer_id, 100)
    events = [lambda: charge(api, customer_id, credits=5) for _ in range(30)]
    voids = [lambda: void(api, customer_id, made["id"])] * 3
    answers = at_once(events[:15] + voids + events[15:])
    spent = 5 * sum(answer.status_code == 201 for answer in answers)
    assert {answer.status_code for answer in answers} <= {200, 201, 402, 400}
    entries = check_ledger(api, customer_id)
    withdrawn = -sum(one["credits"] for one in entries if one["kind"] == "void")
    assert spent + withdrawn == 100
    assert sum(one["kind"] == "void" for one in entries) <= 1


def test_a_void_that_races_with_holds_leaves_them_what_they_hold(api: httpx.Client, customer_id: str) -> None:
    made = give(api, customer_id, 100)
    calls = [lambda: post_hold(api, customer_id, 10) for _ in range(15)]
    answers = at_once([*calls[:4], lambda: void(api, customer_id, made["id"]), *calls[4:]])
    held = [answer.json()["id"] for answer in answers if answer.status_code == 201]
    for one in held:
        assert capture(api, one, credits=7).status_code == 201
    wallet = wallet_of(api, customer_id)
    assert (wallet["balance"], wallet["available"]) == (0, 0)
    assert sum(one["credits"] for one in check_ledger(api, customer_id) if one["kind"] == "event") == -7 * len(held)


def test_events_and_their_reversals_at_once_end_where_they_began(api: httpx.Client, customer: str) -> None:
    def there_and_back() -> None:
        for _ in range(5):
            event = charge(api, customer, credits=9)
            if event.status_code == 201:
                assert reverse(api, event.json()["id"]).status_code == 201

    at_once([there_and_back] * 15)
    assert check_ledger(api, customer)[-1]["balance"] == 100


def test_first_uses_of_one_customer_at_once_make_one_wallet(api: httpx.Client, customer_id: str) -> None:
    grants = [lambda: api.post(f"/v1/wallets/{customer_id}/grants", json={"credits": 5, "category": "paid"})] * 10
    opened = [lambda: api.post("/v1/wallets", json={"customer_id": customer_id})] * 5
    limits = [
        lambda: api.patch(
            f"/v1/wallets/{customer_id}/members/alice", json={"spend_limit": {"credits": 9, "per": "day"}}
        )
    ] * 5
    holds = [lambda: post_hold(api, customer_id, 5, member="alice")] * 10
    answers = at_once([call for four in zip(grants, opened * 2, limits * 2, holds, strict=True) for call in four])
    assert {answer.status_code for answer in answers} <= {200, 201, 402}
    wallet = wallet_of(api, customer_id)
    assert wallet["balance"] == 50
    alice = api.get(f"/v1/wallets/{customer_id}/members/alice").json()
    assert alice["held"] == wallet["held"]
    check_ledger(api, customer_id)


def test_settings_that_race_with_spending_are_each_in_the_ledger(api: httpx.Client, customer: str) -> None:
    patches = [
        lambda n=n: api.patch(f"/v1/wallets/{customer}", json={"overdraft_limit": n % 3 * 20, "frozen": n % 4 == 0})
        for n in range(20)
    ]
    events = [lambda: charge(api, customer, credits=9) for _ in range(20)]
    answers = at_once([call for pair in zip(patches, events, strict=True) for call in pair])
    assert {answer.status_code for answer in answers} <= {200, 201, 402, 403}
    check_ledger(api, customer)


@pytest.mark.parametrize("customers", [8])
def test_many_wallets_in_one_storm_know_nothing_of_each_other(
    api: httpx.Client, customer_id: str, customers: int
) -> None:
    names = [f"{customer_id}_{number}" for number in range(customers)]
    for name in names:
        grant(api, name, 40)
    answers = at_once([lambda name=name: charge(api, name, credits=10) for name in names * 6])
    assert statuses(answers) == [201] * 4 * customers + [402] * 2 * customers
    for name in names:
        assert check_ledger(api, name)[-1]["balance"] == 0
