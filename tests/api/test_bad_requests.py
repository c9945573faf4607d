"""What the server says no to: each time a 400 that names the field, and nothing is written."""

import json
from typing import Any

import httpx
import pytest
from serving import balance, charge, error_of

CUSTOMERS = [
    "",
    "a/b",
    "u\x00",
    "u" * 256,
    ".",
    "..",
    "a\nb",
    "a\u202eb",
    "\u2028",
    "x" * 100_000,
    7,
    None,
    ["u"],
    True,
]
EVENTS = ["", "Chat Reply", "chat.", ".chat", "a..b", "chat.reply\n", "é", "a" * 101, "*", 7, None, "a'--"]
AMOUNTS = [-5, 0, 8.0, 8.5, "8", True, 10**13, 2**63, 2**64, -(2**63) - 1]
QUANTITIES = [-1, 0, 1.5, 2.0, "2", True, None, 10**9 + 1, 10**13]
COSTS = ["-1", "", "1e3", "NaN", "0.1234567890", "1000000.1", " 1", "1 ", "1,5", "\u0661", 0.5, "99999999"]
METADATA = [{"x": "y" * 5000}, [1], "text", 7, None]
NAMES = ["", "a\x00b", "a\nb", "x" * 256, 7]
KEYS = ["", "k" * 256, "a\nb", 7]


def bad_events() -> list[tuple[dict[str, Any], str]]:
    good = {"customer_id": "u", "event": "chat.reply"}
    columns = {
        "customer_id": CUSTOMERS,
        "event": EVENTS,
        "credits": AMOUNTS,
        "quantity": QUANTITIES,
        "cost_usd": COSTS,
        "metadata": METADATA,
        "model": NAMES,
        "member": NAMES,
        "idempotency_key": KEYS,
        "creditz": [1],
        "Credits": [1],
    }
    missing = [({"event": "chat.reply"}, "customer_id"), ({"customer_id": "u"}, "event")]
    return missing + [(good | {name: value}, name) for name, values in columns.items() for value in values]


@pytest.mark.parametrize(("body", "field"), bad_events(), ids=lambda value: json.dumps(value)[-50:])
def test_a_bad_event_is_refused_by_its_field(api: httpx.Client, body: dict[str, Any], field: str) -> None:
    assert error_of(api.post("/v1/events", json=body), 400, "invalid_request")["field"] == field


def test_a_quantity_whose_product_is_beyond_the_limit_is_refused(api: httpx.Client, customer: str) -> None:
    refusal = error_of(charge(api, customer, "image.generate", quantity=10**9), 402, "insufficient_credits")
    assert refusal["required"] == 40 * 10**9
    api.put("/v1/prices/dear.thing", json={"credits": 10**12})
    refusal = error_of(charge(api, customer, "dear.thing", quantity=2), 400, "invalid_request")
    assert refusal["field"] == "quantity"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b'{"customer_id": NaN}',
        b'{"credits": 1e400}',
        b"[" * 200_000,
        b'{"metadata": {"a": ' + b"[" * 200_000,
        b'{"customer_id": "u", "event": "chat.reply", "metadata": {"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}}",
        b'{"customer_id": "\\ud800", "event": "chat.reply"}',
        b'{"credits": ' + b"9" * 5000 + b"}",
        b'{"metadata": {"n": ' + b"9" * 5000 + b"}}",
        b"\xff\xfe{}",
        b'{"customer_id": "\xff"}',
        b'\xef\xbb\xbf{"customer_id": "u"}',
        b"{} {}",
    ],
    ids=range(18),
)
def test_what_is_no_json_object_is_a_400(api: httpx.Client, raw: bytes) -> None:
    answer = api.post("/v1/events", content=raw, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    error_of(answer, 400, answer.json()["error"]["code"])
    assert answer.json()["error"]["code"] in ("invalid_json", "invalid_request")


@pytest.mark.parametrize("key", ["", "k" * 256, "k" * 300])
def test_a_bad_key_in_the_header_is_refused(api: httpx.Client, customer: str, key: str) -> None:
    body = {"customer_id": customer, "event": "chat.reply"}
    refusal = error_of(api.post("/v1/events", json=body, headers={"Idempotency-Key": key}), 400, "invalid_request")
    assert refusal["field"] == "idempotency_key"
    assert balance(api, customer) == 100


def test_a_key_that_is_no_utf8_is_refused(api: httpx.Client, customer: str) -> None:
    body = {"customer_id": customer, "event": "chat.reply"}
    answer = api.post("/v1/events", json=body, headers={b"Idempotency-Key": b"\xff\xfe"})
    assert error_of(answer, 400, "invalid_request")["field"] == "idempotency_key"


@pytest.mark.parametrize(
    "customer_id", ["o'brien\"; DROP TABLE wallets;--", "名前", "😀", "%2f", "a b", "a?b#c", "u" * 255]
)
def test_a_strange_but_printable_customer_has_a_wallet_like_any_other(api: httpx.Client, customer_id: str) -> None:
    created = api.post("/v1/wallets", json={"customer_id": customer_id})
    assert created.status_code in (200, 201)
    charge(api, customer_id, credits=1)
    listed = api.get("/v1/wallets", params={"query": customer_id}).json()["wallets"]
    assert customer_id in [one["customer_id"] for one in listed]


@pytest.mark.parametrize("path", ["%00", "%2e%2e", "%2e", "a%0ab", "u" * 256, "%e2%80%ae"])
def test_a_bad_customer_in_the_path_is_refused(api: httpx.Client, path: str) -> None:
    refusal = error_of(api.get(f"/v1/wallets/{path}"), 400, "invalid_request")
    assert refusal["field"] == "customer_id"


@pytest.mark.parametrize("path", ["..%2f..%2fetc%2fpasswd", "a%2fb", "%ff%fe"])
def test_a_slash_or_noise_in_the_path_finds_nothing(api: httpx.Client, path: str) -> None:
    error_of(api.get(f"/v1/wallets/{path}"), 404, "not_found")


BAD_ELSEWHERE: list[tuple[str, str, dict[str, Any], str]] = [
    ("POST", "/v1/wallets", {}, "customer_id"),
    ("POST", "/v1/wallets", {"customer_id": "a/b"}, "customer_id"),
    ("POST", "/v1/wallets", {"customer_id": "u", "name": ""}, "name"),
    ("POST", "/v1/wallets", {"customer_id": "u", "name": "a\x07"}, "name"),
    ("POST", "/v1/wallets", {"customer_id": "u", "low_balance_threshold": 0}, "low_balance_threshold"),
    ("POST", "/v1/wallets", {"customer_id": "u", "balance": 5}, "balance"),
    ("PATCH", "/v1/wallets/u", {"balance": 5}, "balance"),
    ("PATCH", "/v1/wallets/u", {"frozen": "yes"}, "frozen"),
    ("PATCH", "/v1/wallets/u", {"low_balance_threshold": -1}, "low_balance_threshold"),
    ("PATCH", "/v1/wallets/u", {"low_balance_threshold": 10**16}, "low_balance_threshold"),
    ("PATCH", "/v1/wallets/u", {"name": 7}, "name"),
    *[("POST", "/v1/wallets/u/grants", {"credits": one, "category": "paid"}, "credits") for one in AMOUNTS],
    ("POST", "/v1/wallets/u/grants", {"credits": 1}, "category"),
    ("POST", "/v1/wallets/u/grants", {"credits": 1, "category": "free"}, "category"),
    ("POST", "/v1/wallets/u/grants", {"credits": 1, "category": "paid", "priority": 256}, "priority"),
    ("POST", "/v1/wallets/u/grants", {"credits": 1, "category": "paid", "priority": -1}, "priority"),
    ("POST", "/v1/wallets/u/grants", {"credits": 1, "category": "paid", "reason": ""}, "reason"),
    ("POST", "/v1/wallets/u/grants", {"credits": 1, "category": "paid", "reason": "a\x00"}, "reason"),
    ("POST", "/v1/wallets/u/adjustments", {"credits": 1}, "reason"),
    ("POST", "/v1/wallets/u/adjustments", {"credits": 0, "reason": "nothing"}, "credits"),
    ("POST", "/v1/wallets/u/adjustments", {"credits": 1.0, "reason": "r"}, "credits"),
    ("POST", "/v1/wallets/u/adjustments", {"credits": -(10**12) - 1, "reason": "r"}, "credits"),
    ("POST", "/v1/wallets/u/tokens", {"expires_in": 86_401}, "expires_in"),
    ("POST", "/v1/wallets/u/tokens", {"expires_in": 0}, "expires_in"),
    ("POST", "/v1/wallets/u/tokens", {"scopes": ["admin"]}, "scopes"),
    ("POST", "/v1/wallets/u/tokens", {"scopes": "read"}, "scopes"),
    ("POST", "/v1/quote", {"customer_id": "u", "event": "chat.reply", "quantity": 0}, "quantity"),
    ("POST", "/v1/quote", {"customer_id": "u", "event": "chat.reply", "credits": 1}, "credits"),
    ("PUT", "/v1/prices/Bad", {"credits": 1}, "event"),
    *[("PUT", "/v1/prices/x.y", {"credits": one}, "credits") for one in (-1, 1.5, "1", True, None, 10**12 + 1)],
    ("PUT", "/v1/prices/x.y", {}, "credits"),
    ("PUT", "/v1/prices/x.y", {"credits": 1, "label": ""}, "label"),
    ("PUT", "/v1/prices/x.y", {"credits": 1, "label": "a\nb"}, "label"),
    ("PUT", "/v1/prices/x.y", {"credits": 1, "per_model": {"m": -1}}, "per_model"),
    ("PUT", "/v1/prices/x.y", {"credits": 1, "per_model": {"": 1}}, "per_model"),
    ("PUT", "/v1/prices/x.y", {"credits": 1, "per_model": {"a\x00": 1}}, "per_model"),
    ("PUT", "/v1/prices/x.y", {"credits": 1, "per_model": {str(n): 1 for n in range(1001)}}, "per_model"),
    ("PUT", "/v1/prices/x.y", {"credits": 1, "tiers": [{"up_to": 10, "credits": 5}]}, "tiers"),
    ("PUT", "/v1/prices/x.y", {"credits": 1, "expected_version": -1}, "expected_version"),
    ("PUT", "/v1/packs/a b", {"name": "P", "credits": 1, "amount": 1}, "code"),
    ("PUT", "/v1/packs/p", {"name": "P", "credits": 0, "amount": 1}, "credits"),
    ("PUT", "/v1/packs/p", {"name": "P", "credits": 1, "amount": 0}, "amount"),
    ("PUT", "/v1/packs/p", {"name": "P", "credits": 1, "amount": 10**8}, "amount"),
    ("PUT", "/v1/packs/p", {"name": "P", "credits": 1, "amount": 1, "currency": "USD"}, "currency"),
    ("PUT", "/v1/packs/p", {"name": "P", "credits": 1, "amount": 1, "currency": "usd\n"}, "currency"),
]


@pytest.mark.parametrize(
    ("method", "path", "body", "field"), BAD_ELSEWHERE, ids=[f"{one[0]} {one[1]} {one[3]}" for one in BAD_ELSEWHERE]
)
def test_a_bad_request_is_refused_by_its_field(
    api: httpx.Client, method: str, path: str, body: dict[str, Any], field: str
) -> None:
    assert error_of(api.request(method, path, json=body), 400, "invalid_request")["field"].startswith(field)


def test_a_wallet_holds_no_more_than_every_browser_can_show(api: httpx.Client, customer_id: str) -> None:
    path = f"/v1/wallets/{customer_id}/grants"
    for _ in range(3):
        assert api.post(path, json={"credits": 10**12, "category": "paid"}).status_code == 201
    assert balance(api, customer_id) == 3 * 10**12
