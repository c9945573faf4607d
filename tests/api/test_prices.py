"""The catalogue: versions that never change, conflicts, the generation, packs."""

import secrets
from typing import Any

import httpx
import pytest
from serving import StartServer, balance, charge, error_of


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
    assert versions == [second.json(), first.json()]
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


def test_tiers_are_not_taken_yet(api: httpx.Client, event: str) -> None:
    answer = put(api, event, 3, tiers=[{"up_to": 10, "credits": 5}, {"up_to": None, "credits": 2}])
    assert error_of(answer, 400, "invalid_request")["field"] == "tiers"
    assert put(api, event, 3, tiers=None).status_code == 201


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
        }
        assert codes() == ["chargly_500", "chargly_1200", "big_9000"]
        assert api.put("/v1/packs/big_9000", json=pack | {"amount": 500}).json()["amount"] == 500
        assert codes() == ["big_9000", "chargly_500", "chargly_1200"]
        assert api.delete("/v1/packs/big_9000").status_code == 204
        assert codes() == ["chargly_500", "chargly_1200"]
        error_of(api.delete("/v1/packs/big_9000"), 404, "not_found")
        api.put("/v1/packs/big_9000", json=pack)
        assert "big_9000" in codes()
