"""One key, one effect: on every POST that changes a wallet, in the header and in the body, in turn and at once."""

import secrets
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from ledgers import at_once, check_ledger, every_entry, hold, statuses, wallet_of
from serving import charge, error_of, grant

Made = tuple[str, dict[str, Any], dict[str, Any]]
"""A path, a body for it, and what makes another request of that body."""


def make_event(_: httpx.Client, customer_id: str) -> Made:
    return "/v1/events", {"customer_id": customer_id, "event": "chat.reply"}, {"quantity": 2}


def make_hold(_: httpx.Client, customer_id: str) -> Made:
    return "/v1/holds", {"customer_id": customer_id, "credits": 5}, {"credits": 6}


def make_capture(api: httpx.Client, customer_id: str) -> Made:
    return f"/v1/holds/{hold(api, customer_id, 5)['id']}/capture", {"credits": 3}, {"credits": 4}


def make_release(api: httpx.Client, customer_id: str) -> Made:
    return f"/v1/holds/{hold(api, customer_id, 5)['id']}/release", {"reason": "failed"}, {"reason": "left"}


def make_reversal(api: httpx.Client, customer_id: str) -> Made:
    event = charge(api, customer_id, credits=5).json()
    return f"/v1/events/{event['id']}/reverse", {"reason": "failed"}, {"reason": "left"}


def make_grant(_: httpx.Client, customer_id: str) -> Made:
    return f"/v1/wallets/{customer_id}/grants", {"credits": 5, "category": "paid"}, {"credits": 6}


def make_future_grant(api: httpx.Client, customer_id: str) -> Made:
    path, body, other = make_grant(api, customer_id)
    return path, body | {"effective_at": "2999-01-01T00:00:00Z", "every": "month"}, other


def make_void(api: httpx.Client, customer_id: str) -> Made:
    made = grant(api, customer_id, 5)
    return f"/v1/wallets/{customer_id}/grants/{made['id']}/void", {"reason": "mistake"}, {"reason": "other"}


def make_adjustment(_: httpx.Client, customer_id: str) -> Made:
    return f"/v1/wallets/{customer_id}/adjustments", {"credits": -5, "reason": "r"}, {"credits": -6}


MAKERS = [
    make_event,
    make_hold,
    make_capture,
    make_release,
    make_reversal,
    make_grant,
    make_future_grant,
    make_void,
    make_adjustment,
]
every_post = pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
Maker = Callable[[httpx.Client, str], Made]


@every_post
def test_a_key_gives_the_first_answer_again_whatever_has_happened_since(
    api: httpx.Client, customer: str, make: Maker
) -> None:
    path, body, _ = make(api, customer)
    first = api.post(path, json=body, headers={"Idempotency-Key": "k"})
    assert first.status_code in (200, 201)
    assert "idempotent-replayed" not in first.headers
    charge(api, customer, credits=7)
    api.patch(f"/v1/wallets/{customer}", json={"frozen": True, "spend_limit": {"credits": 1, "per": "day"}})
    stood = wallet_of(api, customer)
    for again in (
        api.post(path, json=body, headers={"Idempotency-Key": "k"}),
        api.post(path, json=body | {"idempotency_key": "k"}),
        api.post(path, json=dict(reversed(body.items())) | {"idempotency_key": "k"}, headers={"Idempotency-Key": "k"}),
    ):
        assert (again.status_code, again.json()) == (first.status_code, first.json())
        assert again.headers["idempotent-replayed"] == "true"
    assert wallet_of(api, customer) == stood
    assert [one["idempotency_key"] for one in check_ledger(api, customer)].count("k") == 1


@every_post
def test_a_key_with_another_request_is_a_conflict_and_changes_nothing(
    api: httpx.Client, customer: str, make: Maker
) -> None:
    path, body, other = make(api, customer)
    assert api.post(path, json=body | {"idempotency_key": "k"}).status_code in (200, 201)
    stood = wallet_of(api, customer)
    answer = api.post(path, json=body | other | {"idempotency_key": "k"})
    assert answer.status_code == 409, answer.text
    assert answer.json()["error"]["code"] in ("idempotency_conflict", "hold_not_open")
    assert wallet_of(api, customer) == stood


@every_post
def test_a_key_of_an_event_is_a_conflict_everywhere_else(api: httpx.Client, customer: str, make: Maker) -> None:
    charge(api, customer, credits=1, idempotency_key="k")
    path, body, _ = make(api, customer)
    stood = wallet_of(api, customer)
    error_of(api.post(path, json=body, headers={"Idempotency-Key": "k"}), 409, "idempotency_conflict")
    assert wallet_of(api, customer) == stood
    assert api.post(path, json=body, headers={"Idempotency-Key": "free"}).status_code in (200, 201)


@every_post
def test_two_keys_in_one_request_and_keys_that_are_none_are_refused(
    api: httpx.Client, customer: str, make: Maker
) -> None:
    path, body, _ = make(api, customer)
    stood = wallet_of(api, customer)
    for headers, key in (({"Idempotency-Key": "one"}, "two"), ({"Idempotency-Key": ""}, None), ({}, "k" * 256)):
        answer = api.post(path, json=body | ({"idempotency_key": key} if key else {}), headers=headers)
        assert error_of(answer, 400, "invalid_request")["field"] == "idempotency_key"
    assert wallet_of(api, customer) == stood


@every_post
def test_thirty_equal_requests_at_once_are_one(api: httpx.Client, customer: str, make: Maker) -> None:
    path, body, _ = make(api, customer)
    before = wallet_of(api, customer)["version"]
    answers = at_once([lambda: api.post(path, json=body, headers={"Idempotency-Key": "k"})] * 30)
    assert {answer.status_code for answer in answers} <= {200, 201}
    assert len({answer.text for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert wallet_of(api, customer)["version"] == before + 1
    check_ledger(api, customer)


@pytest.mark.parametrize("make", [make_event, make_hold, make_adjustment, make_capture], ids=lambda make: make.__name__)
def test_a_refusal_is_not_remembered(api: httpx.Client, customer: str, make: Maker) -> None:
    path, body, _ = make(api, customer)
    sign = -1 if make is make_adjustment else 1
    dear = body | {"credits": sign * 300, "idempotency_key": "late"}
    error_of(api.post(path, json=dear), 402, "insufficient_credits")
    grant(api, customer, 300)
    answer = api.post(path, json=dear)
    assert answer.status_code == 201
    assert "idempotent-replayed" not in answer.headers
    check_ledger(api, customer)


def test_one_key_at_once_for_everything_takes_effect_once(api: httpx.Client, customer: str) -> None:
    calls = []
    for make in MAKERS:
        path, body, _ = make(api, customer)
        calls += [lambda path=path, body=body: api.post(path, json=body | {"idempotency_key": "k"})] * 4
    before = wallet_of(api, customer)["version"]
    answers = at_once(calls)
    won = [answer for answer in answers if answer.status_code in (200, 201)]
    assert statuses(answers)[4:] == [409] * (len(calls) - 4)
    assert (len(won), len({answer.text for answer in won})) == (4, 1)
    assert wallet_of(api, customer)["version"] == before + 1
    check_ledger(api, customer)


@pytest.mark.parametrize("key", ["k" * 255, "'; --", "名前", "a b", "%00", "\\u0000", '"}'])
def test_a_strange_key_is_a_key_like_any_other(api: httpx.Client, customer: str, key: str) -> None:
    body = {"customer_id": customer, "credits": 5, "idempotency_key": key}
    first, again = (api.post("/v1/holds", json=body) for _ in range(2))
    assert (again.status_code, again.json()) == (201, first.json())
    assert every_entry(api, customer)[-1]["idempotency_key"] == key
    alone = charge(api, customer, idempotency_key=key)
    error_of(alone, 409, "idempotency_conflict")


def test_what_is_done_to_one_thing_twice_is_done_once_whatever_its_keys(api: httpx.Client, customer: str) -> None:
    """A capture, release, reversal or void finds its own first answer by what it is about."""
    for make in (make_capture, make_release, make_reversal, make_void):
        path, body, _ = make(api, customer)
        before = wallet_of(api, customer)["version"]
        first = api.post(path, json=body, headers={"Idempotency-Key": secrets.token_hex(8)})
        for headers in ({}, {"Idempotency-Key": secrets.token_hex(8)}):
            again = api.post(path, json=body, headers=headers)
            assert (again.status_code, again.json()) == (first.status_code, first.json())
            assert again.headers["idempotent-replayed"] == "true"
        assert wallet_of(api, customer)["version"] == before + 1
    check_ledger(api, customer)
