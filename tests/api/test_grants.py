"""Grants: from a time, until a time, again and again, and taken back; corrections by hand."""

import datetime as dt
from typing import Any

import httpx
import pytest
from ledgers import capture, check_ledger, every_entry, give, hold, release, soon, void, wait_until, wallet_of
from serving import balance, charge, error_of, grant, whole_ledger

BEYOND = [10**12 + 1, 10**13, 9 * 10**15, 9 * 10**15 + 1, 2**63 - 1, 2**63, 2**64]
NO_NUMBERS = [8.0, 8.5, "8", True, False, None, [], {}]
NO_TIMES = [
    "",
    "tomorrow",
    "2999-01-01",
    "2999-01-01T00:00:00",
    "2999-13-01T00:00:00Z",
    "2999-02-30T00:00:00Z",
    "2999-01-01T24:00:01Z",
    "2999-01-01T00:00:60Z",
    "0000-01-01T00:00:00Z",
    "10000-01-01T00:00:00Z",
    "2999-01-01T00:00:00+25:00",
    " 2999-01-01T00:00:00Z",
    "2999-01-01T00:00:00Z\n",
    "\u0662999-01-01T00:00:00Z",
    1_900_000_000,
    1_900_000_000_000,
    True,
    [],
]


def shown(api: httpx.Client, customer_id: str) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in wallet_of(api, customer_id)["grants"]}


def adjust(api: httpx.Client, customer_id: str, credits: Any, **fields: Any) -> httpx.Response:
    return api.post(f"/v1/wallets/{customer_id}/adjustments", json={"credits": credits, "reason": "r", **fields})


# What may be asked


@pytest.mark.parametrize("credits", [1, 10**12])
def test_a_grant_is_of_one_credit_up_to_as_many_as_one_operation_may_move(
    api: httpx.Client, customer_id: str, credits: int
) -> None:
    assert give(api, customer_id, credits)["remaining"] == credits
    assert balance(api, customer_id) == credits


@pytest.mark.parametrize("priority", [0, 1, 255])
def test_a_priority_goes_from_0_to_255(api: httpx.Client, customer_id: str, priority: int) -> None:
    assert give(api, customer_id, 5, priority=priority)["priority"] == priority


def bad_grants() -> list[tuple[dict[str, Any], str]]:
    good = {"credits": 5, "category": "paid"}
    columns: dict[str, list[Any]] = {
        "credits": [0, -1, *BEYOND, *NO_NUMBERS],
        "category": ["free", "", "PAID", None, 1],
        "priority": [-1, 256, 10**13, 1.0, "1", True, None],
        "effective_at": NO_TIMES,
        "expires_at": [*NO_TIMES, "2001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z"],
        "every": ["year", "", "Day", 1, True],
        "rollover": ["all", "none", "some", "", 1, True],
        "reason": ["", "r" * 501, "a\x00", 7],
        "idempotency_key": ["", "k" * 256, 7],
        "remaining": [5],
        "status": ["active"],
        "customer_id": ["u"],
        "expires_in": [60],
    }
    bad = [(good | {name: value}, name) for name, values in columns.items() for value in values]
    turned = {"effective_at": "2999-01-02T00:00:00Z", "expires_at": "2999-01-01T00:00:00Z"}
    empty = {"effective_at": "2999-01-01T00:00:00Z", "expires_at": "2999-01-01T00:00:00Z"}
    return [
        *bad,
        *[(good | {"every": "day", "rollover": value}, "rollover") for value in ("some", "", 1)],
        (good | turned, "expires_at"),
        (good | empty, "expires_at"),
        (good | turned | {"every": "day"}, "expires_at"),
    ]


@pytest.mark.parametrize(("body", "field"), bad_grants(), ids=repr)
def test_a_bad_grant_is_refused_by_its_field(api: httpx.Client, body: dict[str, Any], field: str) -> None:
    answer = api.post("/v1/wallets/never_granted/grants", json=body)
    assert error_of(answer, 400, "invalid_request")["field"] == field
    error_of(api.get("/v1/wallets/never_granted"), 404, "not_found")


@pytest.mark.parametrize("name", ["effective_at", "expires_at"])
@pytest.mark.parametrize("at", ["9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59-23:59", "9999-12-30T00:00:00Z"])
@pytest.mark.parametrize("every", [None, "day", "week", "month"])
def test_the_last_days_of_the_calendar_break_no_wallet(
    api: httpx.Client, customer: str, name: str, at: str, every: str | None
) -> None:
    body = {"credits": 5, "category": "paid", name: at} | ({"every": every} if every else {})
    answer = api.post(f"/v1/wallets/{customer}/grants", json=body)
    if answer.status_code != 201:
        assert error_of(answer, 400, "invalid_request")["field"] == name
    assert api.get(f"/v1/wallets/{customer}").status_code == 200
    assert charge(api, customer, credits=1).status_code == 201


@pytest.mark.parametrize(
    ("at", "shown_as"),
    [
        ("2999-01-01T00:00:00Z", "2999-01-01T00:00:00.000Z"),
        ("2999-01-01T02:00:00+02:00", "2999-01-01T00:00:00.000Z"),
        ("2998-12-31t23:30:00.1234-00:30", "2999-01-01T00:00:00.123Z"),
    ],
)
def test_a_time_with_an_offset_is_shown_in_utc(api: httpx.Client, customer_id: str, at: str, shown_as: str) -> None:
    assert give(api, customer_id, 5, expires_at=at)["expires_at"] == shown_as
    assert give(api, customer_id, 5, effective_at=at)["effective_at"] == shown_as


def test_a_grant_from_a_time_gone_by_begins_now(api: httpx.Client, customer_id: str) -> None:
    made = give(api, customer_id, 5, effective_at="2001-01-01T00:00:00Z")
    assert made["status"] == "active"
    assert dt.datetime.fromisoformat(made["effective_at"]).year > 2001
    assert balance(api, customer_id) == 5


# In the future, and again and again


def test_a_future_grant_is_listed_as_pending_and_is_no_balance_yet(api: httpx.Client, customer: str) -> None:
    made = give(api, customer, 50, effective_at=soon(3600), expires_at=soon(7200))
    assert (made["status"], made["remaining"]) == ("pending", 50)
    wallet = wallet_of(api, customer)
    assert (wallet["balance"], wallet["available"], wallet["version"]) == (100, 100, 2)
    assert made in wallet["grants"]
    error_of(charge(api, customer, credits=101), 402, "insufficient_credits")
    assert [one["kind"] for one in whole_ledger(api, customer)] == ["grant"]
    check_ledger(api, customer)


@pytest.mark.parametrize(
    ("every", "starts", "again"),
    [
        ("day", "2999-12-31T10:00:00Z", "3000-01-01T10:00:00.000Z"),
        ("week", "2999-12-31T10:00:00Z", "3000-01-07T10:00:00.000Z"),
        ("month", "2999-12-15T10:00:00Z", "3000-01-15T10:00:00.000Z"),
        ("month", "2999-01-31T10:00:00Z", "2999-02-28T10:00:00.000Z"),
        ("month", "2996-01-31T10:00:00Z", "2996-02-29T10:00:00.000Z"),
    ],
)
def test_a_recurring_grant_says_when_it_comes_again(
    api: httpx.Client, customer_id: str, every: str, starts: str, again: str
) -> None:
    made = give(api, customer_id, 5, every=every, effective_at=starts)
    assert (made["every"], made["rollover"], made["next_at"], made["expires_at"]) == (every, "none", again, again)
    kept = give(api, customer_id, 5, every=every, effective_at=starts, rollover="all")
    assert (kept["rollover"], kept["next_at"], kept["expires_at"]) == ("all", again, None)


def test_a_recurring_grant_ends_when_it_is_told_to(api: httpx.Client, customer_id: str) -> None:
    ends = soon(36 * 3600)
    made = give(api, customer_id, 5, every="day", expires_at=ends)
    assert made["next_at"] < ends
    once = give(api, customer_id, 5, every="day", expires_at=soon(3600))
    assert (once["next_at"], once["expires_at"] < made["next_at"]) == (None, True)


def test_soonest_to_expire_is_spent_first_and_promotional_before_paid(api: httpx.Client, customer_id: str) -> None:
    never = give(api, customer_id, 10, category="paid")
    promotional = give(api, customer_id, 10)
    late = give(api, customer_id, 10, category="paid", expires_at=soon(7200))
    early = give(api, customer_id, 10, category="paid", expires_at=soon(3600))
    first = give(api, customer_id, 10, category="paid", priority=0)
    last = give(api, customer_id, 10, priority=255, expires_at=soon(60))
    order = [first, early, late, promotional, never, last]
    assert list(shown(api, customer_id)) == [one["id"] for one in order]
    for spent in range(1, 7):
        charge(api, customer_id, credits=10)
        assert list(shown(api, customer_id)) == [one["id"] for one in order[spent:]]
    check_ledger(api, customer_id)


# Void


def test_a_void_takes_back_what_is_left_of_a_grant(api: httpx.Client, customer: str) -> None:
    made = give(api, customer, 30, priority=0)
    charge(api, customer, credits=10)
    answer = void(api, customer, made["id"], reason="mistake")
    assert answer.status_code == 200
    assert answer.json() == made | {"status": "voided", "remaining": 0}
    assert (balance(api, customer), made["id"] in shown(api, customer)) == (100, False)
    entry = whole_ledger(api, customer)[0]
    assert (entry["kind"], entry["credits"], entry["reason"]) == ("void", -20, "mistake")
    check_ledger(api, customer)


def test_a_void_asked_again_answers_as_it_did(api: httpx.Client, customer: str) -> None:
    made = give(api, customer, 30)
    first = void(api, customer, made["id"])
    assert "idempotent-replayed" not in first.headers
    give(api, customer, 5)
    again = void(api, customer, made["id"])
    assert (again.status_code, again.json(), again.headers["idempotent-replayed"]) == (200, first.json(), "true")
    assert balance(api, customer) == 105


def test_what_is_spent_cannot_be_voided(api: httpx.Client, customer: str) -> None:
    made = give(api, customer, 30, priority=0)
    charge(api, customer, credits=30)
    error_of(void(api, customer, made["id"]), 400, "invalid_request")
    assert balance(api, customer) == 100


def test_a_pending_grant_is_voided_before_it_comes(api: httpx.Client, customer: str) -> None:
    made = give(api, customer, 30, effective_at=soon(0.5))
    voided = void(api, customer, made["id"]).json()
    assert (voided["status"], voided["remaining"]) == ("voided", 0)
    assert wallet_of(api, customer)["grants"][0]["credits"] == 100
    wait_until(made["effective_at"])
    assert balance(api, customer) == 100
    assert [one["credits"] for one in check_ledger(api, customer)] == [100, 0, 0]


def test_a_voided_recurring_grant_does_not_come_again(api: httpx.Client, customer_id: str) -> None:
    made = give(api, customer_id, 30, every="day")
    charge(api, customer_id, credits=30)
    voided = void(api, customer_id, made["id"]).json()
    assert (voided["status"], voided["next_at"], voided["remaining"]) == ("voided", None, 0)
    check_ledger(api, customer_id)


@pytest.mark.parametrize("grant_id", ["grant_nothing", "evt_1", "grant_", "grant_'--", "grant_%00", "%00", "x" * 3000])
def test_a_grant_that_is_none_is_not_found(api: httpx.Client, customer: str, grant_id: str) -> None:
    error_of(void(api, customer, grant_id), 404, "not_found")
    assert charge(api, customer, credits=1).status_code == 201


def test_a_grant_of_another_wallet_is_not_found(api: httpx.Client, customer: str) -> None:
    other = grant(api, f"{customer}_2", 30)
    error_of(void(api, customer, other["id"]), 404, "not_found")
    error_of(void(api, "never_granted", other["id"]), 404, "not_found")
    assert void(api, f"{customer}_2", other["id"]).json()["status"] == "voided"
    error_of(void(api, customer, other["id"]), 404, "not_found")
    error_of(void(api, "never_granted", other["id"]), 404, "not_found")
    assert (balance(api, customer), balance(api, f"{customer}_2")) == (100, 0)


@pytest.mark.parametrize(
    ("body", "field"), [({"credits": 5}, "credits"), ({"reason": ""}, "reason"), ({"reason": "a\n"}, "reason")]
)
def test_a_bad_void_is_refused_by_its_field(api: httpx.Client, customer: str, body: dict[str, Any], field: str) -> None:
    made = give(api, customer, 30)
    assert error_of(void(api, customer, made["id"], **body), 400, "invalid_request")["field"] == field
    assert balance(api, customer) == 130


def test_a_void_leaves_what_is_held_until_its_hold_closes(api: httpx.Client, customer_id: str) -> None:
    made = give(api, customer_id, 100)
    kept, freed = hold(api, customer_id, 40), hold(api, customer_id, 20)
    voided = void(api, customer_id, made["id"]).json()
    assert (voided["status"], voided["remaining"]) == ("voided", 60)
    wallet = wallet_of(api, customer_id)
    assert (wallet["balance"], wallet["held"], wallet["available"]) == (60, 60, 0)
    assert release(api, freed["id"]).json()["balance"] == 60
    assert balance(api, customer_id) == 40
    assert capture(api, kept["id"], credits=25).json()["balance"] == 15
    wallet = wallet_of(api, customer_id)
    assert (wallet["balance"], wallet["available"], wallet["grants"]) == (0, 0, [])
    assert [one["credits"] for one in check_ledger(api, customer_id)] == [100, 0, 0, -40, 0, -20, -25, -15]


def test_a_voided_grant_buys_nothing_that_was_not_held_before(api: httpx.Client, customer_id: str) -> None:
    made = give(api, customer_id, 50)
    hold(api, customer_id, 50)
    void(api, customer_id, made["id"])
    error_of(charge(api, customer_id, credits=1), 402, "insufficient_credits")
    give(api, customer_id, 10)
    assert charge(api, customer_id, credits=10).json()["balance"] == 50
    error_of(charge(api, customer_id, credits=1), 402, "insufficient_credits")
    check_ledger(api, customer_id)


# Corrections


@pytest.mark.parametrize("credits", [0, *BEYOND, *[-one for one in BEYOND], *NO_NUMBERS], ids=repr)
def test_a_bad_adjustment_is_refused_by_its_credits(api: httpx.Client, customer: str, credits: Any) -> None:
    assert error_of(adjust(api, customer, credits), 400, "invalid_request")["field"] == "credits"
    assert wallet_of(api, customer)["version"] == 1


@pytest.mark.parametrize("reason", ["", "r" * 501, "a\x00", "a\nb", 7, None])
def test_an_adjustment_needs_its_reason(api: httpx.Client, customer: str, reason: Any) -> None:
    assert error_of(adjust(api, customer, 5, reason=reason), 400, "invalid_request")["field"] == "reason"


def test_an_adjustment_moves_as_many_credits_as_one_operation_may(api: httpx.Client, customer: str) -> None:
    assert adjust(api, customer, 10**12, reason="r" * 500).json()["balance"] == 100 + 10**12
    assert adjust(api, customer, -(10**12)).json()["balance"] == 100
    assert adjust(api, customer, -100).json()["balance"] == 0
    check_ledger(api, customer)


@pytest.mark.parametrize(("held", "overdraft", "most"), [(0, 0, 100), (30, 0, 70), (0, 50, 150), (30, 50, 120)])
def test_an_adjustment_goes_down_to_what_is_available_and_no_further(
    api: httpx.Client, customer: str, held: int, overdraft: int, most: int
) -> None:
    api.patch(f"/v1/wallets/{customer}", json={"overdraft_limit": overdraft})
    if held:
        hold(api, customer, held)
    refusal = error_of(adjust(api, customer, -most - 1), 402, "insufficient_credits")
    assert (refusal["required"], refusal["available"]) == (most + 1, most)
    assert adjust(api, customer, -most).json()["available"] == 0
    check_ledger(api, customer)


def test_a_lowered_overdraft_leaves_the_debt_and_whatever_comes_in_pays_it_first(
    api: httpx.Client, customer: str
) -> None:
    url = f"/v1/wallets/{customer}"
    api.patch(url, json={"overdraft_limit": 50})
    charge(api, customer, credits=150)
    assert api.patch(url, json={"overdraft_limit": 0}).json()["available"] == -50
    for answer in (charge(api, customer, credits=1), adjust(api, customer, -1)):
        error_of(answer, 402, "insufficient_credits")
    made = give(api, customer, 30, category="paid")
    assert (made["remaining"], wallet_of(api, customer)["available"]) == (0, -20)
    assert adjust(api, customer, 25).json()["balance"] == 5
    assert [one["remaining"] for one in wallet_of(api, customer)["grants"]] == [5]
    check_ledger(api, customer)


def test_a_frozen_wallet_takes_grants_voids_and_corrections(api: httpx.Client, customer: str) -> None:
    api.patch(f"/v1/wallets/{customer}", json={"frozen": True})
    made = give(api, customer, 30)
    assert void(api, customer, made["id"]).status_code == 200
    assert adjust(api, customer, -10).json()["balance"] == 90
    assert [one["kind"] for one in every_entry(api, customer)][1:] == ["settings", "grant", "void", "adjustment"]
