"""The catalogue: versions that never change, conflicts, the generation, packs."""

import secrets
import time
from typing import Any

import httpx
import pytest
from payments.waiting import eventually
from serving import StartServer, balance, charge, error_of

from app.config import LIMITS
from app.rules.times import rfc3339


@pytest.fixture
def event() -> str:
    """An event that nobody has priced."""
    return f"scan.{secrets.token_hex(4)}"


def put(api: httpx.Client, event: str, credits: int, **fields: Any) -> httpx.Response:
    return api.put(f"/v1/prices/{event}", json={"credits": credits, **fields})


def generation(api: httpx.Client) -> int:
    return api.get("/v1/prices").json()["generation"]


def test_a_new_database_sells_what_the_seed_sold(new_server: StartServer) -> None:
    with new_server().client() as api:
        prices = {one["event"]: one["credits"] for one in api.get("/v1/prices").json()["prices"]}
        assert prices == {"chat.reply": 8, "image.generate": 40, "doc.summarize": 12, "agent.run": 25}
        packs = api.get("/v1/packs").json()["packs"]
        assert [(one["code"], one["credits"], one["amount"], one["currency"]) for one in packs] == [
            ("chargly_500", 500, 1000, "usd"),
            ("chargly_1200", 1200, 2000, "usd"),
        ]


def test_each_put_makes_a_new_version_and_the_old_ones_stay(api: httpx.Client, event: str) -> None:
    first = put(api, event, 3, label="Scan", per_model={"best": 9})
    assert first.status_code == 201
    second = put(api, event, 4, label="Scan")
    assert second.status_code == 200
    assert (first.json()["version"], second.json()["version"]) == (1, 2)
    assert api.get(f"/v1/prices/{event}").json() == second.json()
    versions = api.get(f"/v1/prices/{event}/versions").json()["versions"]
    assert versions == [second.json(), first.json() | {"status": "superseded"}]
    assert first.json()["per_model"] == {"best": 9}


def test_an_event_keeps_the_version_that_priced_it(api: httpx.Client, customer: str, event: str) -> None:
    put(api, event, 3, label="Scan")
    charged = charge(api, customer, event).json()
    put(api, event, 4, label="Deep scan")
    assert api.get(f"/v1/events/{charged['id']}").json() == charged
    assert (charged["price_version"], charged["label"]) == (1, "Scan")
    assert charge(api, customer, event).json()["price_version"] == 2


def test_a_price_change_never_touches_a_balance(api: httpx.Client, customer: str, event: str) -> None:
    put(api, event, 3)
    charge(api, customer, event)
    before = api.get(f"/v1/wallets/{customer}").json()
    put(api, event, 90)
    api.delete(f"/v1/prices/{event}")
    assert api.get(f"/v1/wallets/{customer}").json() == before


def test_a_writer_who_has_not_seen_the_latest_version_is_told(api: httpx.Client, event: str) -> None:
    assert put(api, event, 1, expected_version=0).status_code == 201
    conflict = error_of(put(api, event, 2, expected_version=0), 409, "version_conflict")
    assert (conflict["expected_version"], conflict["version"]) == (0, 1)
    assert put(api, event, 2, expected_version=1).json()["version"] == 2
    error_of(put(api, event, 3, expected_version=7), 409, "version_conflict")
    assert api.get(f"/v1/prices/{event}").json()["credits"] == 2


def test_an_archived_price_ends_and_its_numbering_goes_on(api: httpx.Client, customer: str, event: str) -> None:
    put(api, event, 3)
    assert api.delete(f"/v1/prices/{event}").status_code == 204
    error_of(api.get(f"/v1/prices/{event}"), 404, "not_found")
    error_of(api.delete(f"/v1/prices/{event}"), 404, "not_found")
    error_of(charge(api, customer, event), 404, "unknown_event")
    latest = api.get(f"/v1/prices/{event}/versions").json()["versions"][0]
    assert latest["archived"] is True
    again = put(api, event, 5, expected_version=latest["version"])
    assert again.json()["version"] == latest["version"] + 1
    assert charge(api, customer, event).json()["credits"] == 5


def test_the_generation_rises_with_every_change_and_with_no_refused_one(api: httpx.Client, event: str) -> None:
    seen = [generation(api)]
    put(api, event, 3)
    seen.append(generation(api))
    put(api, event, 4)
    seen.append(generation(api))
    api.delete(f"/v1/prices/{event}")
    seen.append(generation(api))
    assert seen == sorted(set(seen))
    put(api, event, 4, expected_version=99)
    put(api, event, -1)
    assert generation(api) == seen[-1]


def test_a_price_without_a_label_is_called_by_its_event(api: httpx.Client, event: str) -> None:
    assert put(api, event, 3).json()["label"] == event


def test_the_flat_rate_is_a_price_like_any_other(new_server: StartServer) -> None:
    with new_server().client() as api:
        assert put(api, "*", 2, label="Anything").status_code == 201
        assert api.get("/v1/prices/*").json()["credits"] == 2
        assert api.delete("/v1/prices/*").status_code == 204
        error_of(charge(api, "u", "some.thing"), 404, "unknown_event")


def test_a_price_that_never_was_is_not_found(api: httpx.Client, event: str) -> None:
    for path in (f"/v1/prices/{event}", f"/v1/prices/{event}/versions"):
        error_of(api.get(path), 404, "not_found")
    error_of(api.delete(f"/v1/prices/{event}"), 404, "not_found")


TIERS = [{"up_to": 10, "credits": 5}, {"up_to": None, "credits": 2}]


def test_tiers_and_a_minimum_price_events_quotes_and_captures(api: httpx.Client, customer: str, event: str) -> None:
    made = put(api, event, 5, tiers=TIERS, minimum=8)
    assert (made.status_code, made.json()["tiers"], made.json()["minimum"]) == (201, TIERS, 8)
    quoted = {n: quote(api, customer, event, n) for n in (1, 2, 10, 11, 20)}
    assert quoted == {1: 8, 2: 10, 10: 50, 11: 52, 20: 70}
    hold = api.post("/v1/holds", json={"customer_id": customer, "event": event, "quantity": 11}).json()
    assert (hold["credits"], hold["unit_credits"], hold["price_version"]) == (52, None, 1)
    put(api, event, 90)
    captured = api.post(f"/v1/holds/{hold['id']}/capture", json={"quantity": 12}).json()
    assert (captured["credits"], captured["unit_credits"], captured["price_version"]) == (54, None, 1)
    assert api.get(f"/v1/holds/{hold['id']}").json()["status"] == "captured"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"tiers": [{"up_to": 10, "credits": 5}]}, "tiers[0].up_to"),
        ({"tiers": [{"up_to": 0, "credits": 5}, {"up_to": None, "credits": 2}]}, "tiers[0].up_to"),
        ({"tiers": [{"up_to": 10, "credits": 5}, {"credits": 2}]}, "tiers[1].up_to"),
        ({"tiers": [{"up_to": 10, "credits": -5}, {"up_to": None, "credits": 2}]}, "tiers[0].credits"),
        ({"tiers": [{"up_to": n + 1, "credits": 5} for n in range(21)]}, "tiers"),
        ({"tiers": [{"up_to": None, "credits": 4}]}, "credits"),
        ({"minimum": -1}, "minimum"),
        ({"minimum": 1.5}, "minimum"),
        ({"effective_at": "tomorrow"}, "effective_at"),
        ({"effective_at": "2020-01-01T00:00:00Z"}, "effective_at"),
    ],
)
def test_a_price_that_cannot_be(api: httpx.Client, event: str, fields: dict[str, Any], field: str) -> None:
    assert error_of(put(api, event, 5, **fields), 400, "invalid_request")["field"] == field
    error_of(api.get(f"/v1/prices/{event}"), 404, "not_found")


def quote(api: httpx.Client, customer: str, event: str, quantity: int = 1) -> int:
    body = {"customer_id": customer, "event": event, "quantity": quantity}
    return api.post("/v1/quote", json=body).json()["credits"]


def later(seconds: float) -> str:
    return rfc3339(round((time.time() + seconds) * 1000))


def statuses(api: httpx.Client, event: str) -> list[tuple[int, str]]:
    """The versions of a price and what became of them, oldest first."""
    versions = api.get(f"/v1/prices/{event}/versions").json()["versions"]
    return [(one["version"], one["status"]) for one in reversed(versions)]


def upcoming(api: httpx.Client, event: str) -> list[int]:
    return [one["version"] for one in api.get("/v1/prices").json()["upcoming"] if one["event"] == event]


def test_a_price_comes_into_force_at_its_time_and_pages_are_told(api: httpx.Client, customer: str, event: str) -> None:
    put(api, event, 3)
    scheduled = put(api, event, 7, effective_at=later(1.5)).json()
    assert (scheduled["version"], scheduled["status"]) == (2, "scheduled")
    assert charge(api, customer, event).json()["credits"] == 3
    assert (quote(api, customer, event), upcoming(api, event)) == (3, [2])
    assert statuses(api, event) == [(1, "in_force"), (2, "scheduled")]
    before = generation(api)
    assert eventually(lambda: quote(api, customer, event) == 7)
    assert charge(api, customer, event).json()["price_version"] == 2
    assert statuses(api, event) == [(1, "superseded"), (2, "in_force")]
    assert api.get(f"/v1/prices/{event}").json()["version"] == 2
    assert upcoming(api, event) == []
    assert eventually(lambda: generation(api) > before)


def test_a_price_set_meanwhile_does_not_undo_one_that_is_to_come(api: httpx.Client, customer: str, event: str) -> None:
    put(api, event, 3)
    put(api, event, 7, effective_at=later(1.5))
    assert put(api, event, 4).json()["version"] == 3
    assert quote(api, customer, event) == 4
    assert eventually(lambda: quote(api, customer, event) == 7)
    assert statuses(api, event) == [(1, "superseded"), (2, "in_force"), (3, "superseded")]


def test_a_price_to_come_may_be_an_events_first(api: httpx.Client, customer: str, event: str) -> None:
    put(api, event, 7, effective_at=later(1.5))
    error_of(api.get(f"/v1/prices/{event}"), 404, "not_found")
    error_of(charge(api, customer, event), 404, "unknown_event")
    assert eventually(lambda: charge(api, customer, event).status_code == 201)


def test_a_price_to_come_is_withdrawn_and_one_in_force_is_not(api: httpx.Client, event: str) -> None:
    put(api, event, 3)
    put(api, event, 7, effective_at=later(3_600))
    before = generation(api)
    assert api.delete(f"/v1/prices/{event}/versions/2").status_code == 204
    assert generation(api) > before
    assert upcoming(api, event) == []
    assert statuses(api, event) == [(1, "in_force"), (2, "withdrawn")]
    for version in (1, 2):
        answer = api.delete(f"/v1/prices/{event}/versions/{version}")
        assert error_of(answer, 400, "invalid_request")["field"] == "version"
    error_of(api.delete(f"/v1/prices/{event}/versions/3"), 404, "not_found")
    error_of(api.delete(f"/v1/prices/{event}/versions/one"), 400, "invalid_request")
    assert put(api, event, 8).json()["version"] == 3


def test_a_price_that_is_ended_takes_what_was_to_come_with_it(api: httpx.Client, event: str) -> None:
    put(api, event, 3)
    put(api, event, 7, effective_at=later(3_600))
    assert api.delete(f"/v1/prices/{event}").status_code == 204
    assert upcoming(api, event) == []
    assert statuses(api, event) == [(1, "superseded"), (2, "withdrawn"), (3, "in_force")]
    error_of(api.delete(f"/v1/prices/{event}"), 404, "not_found")


def test_a_first_price_to_come_is_ended_before_its_time(api: httpx.Client, event: str) -> None:
    put(api, event, 7, effective_at=later(3_600))
    assert api.delete(f"/v1/prices/{event}").status_code == 204
    assert statuses(api, event) == [(1, "withdrawn")]


def test_an_event_has_so_many_prices_to_come(api: httpx.Client, event: str) -> None:
    for number in range(LIMITS.prices_upcoming_max):
        assert put(api, event, 3, effective_at=later(3_600 + number)).is_success
    answer = put(api, event, 3, effective_at=later(9_000))
    assert error_of(answer, 400, "invalid_request")["field"] == "effective_at"
    assert len(upcoming(api, event)) == LIMITS.prices_upcoming_max
    assert put(api, event, 3).json()["version"] == LIMITS.prices_upcoming_max + 1


def test_an_action_may_cost_as_much_as_one_operation_may_move(api: httpx.Client, customer: str, event: str) -> None:
    put(api, event, 10**12)
    error_of(charge(api, customer, event), 402, "insufficient_credits")
    assert error_of(charge(api, customer, event, quantity=2), 400, "invalid_request")["field"] == "quantity"
    assert balance(api, customer) == 100


def test_a_pack_is_set_changed_and_taken_off_sale(new_server: StartServer) -> None:
    def codes() -> list[str]:
        return [one["code"] for one in api.get("/v1/packs").json()["packs"]]

    with new_server().client() as api:
        pack = {"name": "Big", "credits": 9000, "amount": 9900, "currency": "eur"}
        made = api.put("/v1/packs/big_9000", json=pack).json()
        assert made == {"code": "big_9000", **pack} | {
            "bonus_credits": 0,
            "bonus_days": None,
            "currencies": {},
            "custom_amount": None,
            "stripe_price": None,
            "expires_with_period": True,
            "version": 1,
        }
        assert codes() == ["chargly_500", "chargly_1200", "big_9000"]
        assert api.put("/v1/packs/big_9000", json=pack | {"amount": 500}).json()["amount"] == 500
        assert codes() == ["big_9000", "chargly_500", "chargly_1200"]
        assert api.delete("/v1/packs/big_9000").status_code == 204
        assert codes() == ["chargly_500", "chargly_1200"]
        error_of(api.delete("/v1/packs/big_9000"), 404, "not_found")
        api.put("/v1/packs/big_9000", json=pack)
        assert "big_9000" in codes()
