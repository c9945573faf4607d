"""What the server says no to: each time a 400 that names the field, and nothing is written."""

import json
from typing import Any

import httpx
import pytest
from serving import balance, charge, error_of

from app.config import METADATA_DEPTH_MAX

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


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/v1/events", {"customer_id": "u", "event": "x.y", "credits": 8.5}, "credits: it must be a whole number"),
        ("/v1/events", {"customer": "u"}, "customer: there is no such field; perhaps it is customer_id."),
        ("/v1/events", {"customer_id": "u"}, "event: it is missing."),
        ("/v1/events", [], "body: it must be an object, not a list."),
        ("/v1/wallets/u/grants", {"credits": 1, "category": "free"}, "category: it must be one of paid, promotional."),
        ("/v1/wallets/u/tokens", {"scopes": ["write"]}, "scopes[0]: it must be one of read, top_up."),
    ],
)
def test_a_refusal_says_what_would_be_right(api: httpx.Client, path: str, body: Any, message: str) -> None:
    assert error_of(api.post(path, json=body), 400, "invalid_request")["message"].startswith(message)


def test_a_refusal_inside_of_a_field_says_it_too(api: httpx.Client, customer: str) -> None:
    for limit, message in (
        (60, "spend_limit: it must be an object or null, not a whole number."),
        ({"credits": 60, "per": "year"}, "spend_limit.per: it must be one of day, month, week."),
        ({"credit": 60, "per": "day"}, "spend_limit.credit: there is no such field; perhaps it is credits."),
    ):
        answer = api.patch(f"/v1/wallets/{customer}", json={"spend_limit": limit})
        assert error_of(answer, 400, "invalid_request")["message"] == message


@pytest.mark.parametrize("path", ["packs", "prices", "wallets/{id}", "wallets/{id}/entries", "wallets/{id}/holds"])
def test_a_parameter_that_a_path_does_not_take_is_refused(api: httpx.Client, customer: str, path: str) -> None:
    answer = api.get(f"/v1/{path.format(id=customer)}", params={"lmit": 1})
    assert error_of(answer, 400, "invalid_request")["field"] == "lmit"


def test_a_parameter_that_is_given_twice_is_refused(api: httpx.Client, customer: str) -> None:
    answer = api.get(f"/v1/wallets/{customer}/entries?kind=hold&kind=event")
    assert error_of(answer, 400, "invalid_request")["field"] == "kind"


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


def nested(depth: int) -> str:
    """Metadata of so many objects and lists inside of each other, as text: what reads it here recurses too."""
    opened = ["{" + '"a":' if number % 2 == 0 else "[" for number in range(depth)]
    return "".join(opened) + "1" + "".join("}" if one[0] == "{" else "]" for one in reversed(opened))


def test_metadata_as_deep_as_it_may_be_is_read_by_every_route(api: httpx.Client, customer: str) -> None:
    deep = json.loads(nested(METADATA_DEPTH_MAX))
    charged = charge(api, customer, metadata=deep, idempotency_key="k1").json()
    assert api.get(f"/v1/events/{charged['id']}").json()["metadata"] == deep
    assert charge(api, customer, metadata=deep, idempotency_key="k1").json() == charged
    hold = {"customer_id": customer, "credits": 5, "metadata": deep, "idempotency_key": "k2"}
    held = api.post("/v1/holds", json=hold).json()
    assert api.get(f"/v1/holds/{held['id']}").json()["metadata"] == deep
    [listed] = api.get(f"/v1/wallets/{customer}/holds").json()["holds"]
    assert listed["id"] == held["id"]
    assert api.post(f"/v1/holds/{held['id']}/capture", json={"metadata": deep}).json()["metadata"] == deep
    item = {"customer_id": customer, "event": "chat.reply", "metadata": deep}
    assert api.post("/v1/events/batch", json={"events": [item]}).json()["accepted"] == 1
    entries = api.get(f"/v1/wallets/{customer}/entries").json()["entries"]
    assert [entry["metadata"] for entry in entries[:3]] == [deep] * 3
    assert api.get(f"/v1/verify/{customer}").json()["ok"] is True


def test_metadata_that_is_deeper_is_refused_wherever_it_comes(api: httpx.Client, customer: str) -> None:
    for depth in (METADATA_DEPTH_MAX + 1, *range(940, 980, 2)):
        wanted = f'"customer_id":"{customer}","metadata":{nested(depth)}'
        bodies = {
            "/v1/events": f'{{"event":"chat.reply","idempotency_key":"k",{wanted}}}',
            "/v1/holds": f'{{"credits":5,{wanted}}}',
        }
        for path, body in bodies.items():
            answer = api.post(path, content=body, headers={"Content-Type": "application/json"})
            if answer.json()["error"]["code"] != "invalid_json":  # too deep for the parser itself
                assert error_of(answer, 400, "invalid_request")["field"] == "metadata"
        good = f'{{"customer_id":"{customer}","event":"x.y","credits":1}}'
        batch = f'{{"events":[{bodies["/v1/events"]},{good}]}}'
        answer = api.post("/v1/events/batch", content=batch, headers={"Content-Type": "application/json"})
        if depth < 900 or answer.status_code == 200:  # beyond, the parser may find the whole body too deep
            assert [one["status"] for one in answer.json()["results"]] == [400, 201]
    assert api.get(f"/v1/verify/{customer}").json()["ok"] is True


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
