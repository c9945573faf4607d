"""Costs by event and model: versions, conflicts, and what events without a cost of their own are entered with."""

import secrets
from typing import Any

import httpx
import pytest
from serving import charge, error_of


@pytest.fixture
def event(api: httpx.Client) -> str:
    """An event that costs 2 credits, and whose cost nobody has said."""
    name = f"scan.{secrets.token_hex(4)}"
    api.put(f"/v1/prices/{name}", json={"credits": 2})
    return name


def put(api: httpx.Client, event: str, **fields: Any) -> httpx.Response:
    return api.put(f"/v1/costs/{event}", json=fields)


def entered(api: httpx.Client, customer: str, event: str, **fields: Any) -> str | None:
    """The cost that a new event is entered with."""
    charge(api, customer, event, **fields)
    return api.get(f"/v1/wallets/{customer}/entries", params={"limit": 1}).json()["entries"][0]["cost_usd"]


def test_events_without_a_cost_of_their_own_are_entered_with_the_known_one(
    api: httpx.Client, customer: str, event: str
) -> None:
    assert entered(api, customer, event) is None
    made = put(api, event, cost_usd="0.0042", per_model={"gpt-5": "0.02"})
    assert made.status_code == 201
    assert made.json() | {"created_at": None} == {
        "event": event,
        "version": 1,
        "cost_usd": "0.0042",
        "per_model": {"gpt-5": "0.02"},
        "archived": False,
        "created_at": None,
    }
    assert entered(api, customer, event, quantity=2) == "0.0084"
    assert entered(api, customer, event, model="gpt-5") == "0.02"
    assert entered(api, customer, event, cost_usd="1") == "1"


def test_each_put_makes_a_version_and_an_end_is_one_too(api: httpx.Client, customer: str, event: str) -> None:
    first, second = put(api, event, cost_usd="0.1").json(), put(api, event, cost_usd="0.000000001")
    assert (second.status_code, second.json()["version"]) == (200, 2)
    assert api.get(f"/v1/costs/{event}").json() == second.json()
    assert second.json() in api.get("/v1/costs").json()["costs"]
    assert api.get(f"/v1/costs/{event}/versions").json()["versions"] == [second.json(), first]
    assert api.delete(f"/v1/costs/{event}").status_code == 204
    assert entered(api, customer, event) is None
    error_of(api.get(f"/v1/costs/{event}"), 404, "not_found")
    error_of(api.delete(f"/v1/costs/{event}"), 404, "not_found")
    assert [one["archived"] for one in api.get(f"/v1/costs/{event}/versions").json()["versions"]] == [
        True,
        False,
        False,
    ]
    assert put(api, event, cost_usd="2").json()["version"] == 4


def test_a_writer_who_has_not_seen_the_latest_version_is_told(api: httpx.Client, event: str) -> None:
    assert put(api, event, cost_usd="0.1", expected_version=0).status_code == 201
    conflict = error_of(put(api, event, cost_usd="0.2", expected_version=0), 409, "version_conflict")
    assert (conflict["expected_version"], conflict["version"]) == (0, 1)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"cost_usd": "-0.1"}, "cost_usd"),
        ({"cost_usd": "NaN"}, "cost_usd"),
        ({"cost_usd": "0.1 EUR"}, "cost_usd"),
        ({"cost_usd": 0.1}, "cost_usd"),
        ({"cost_usd": "1000001"}, "cost_usd"),
        ({"cost_usd": "0.0000000001"}, "cost_usd"),
        ({"cost_eur": "0.1"}, "cost_eur"),
        ({}, "cost_usd"),
        ({"per_model": {"gpt-5": "-1"}}, "per_model.gpt-5"),
        ({"per_model": {"gpt\n5": "1"}}, "per_model"),
        ({"per_model": {str(n): "1" for n in range(1_001)}}, "per_model"),
    ],
)
def test_a_cost_that_cannot_be(api: httpx.Client, event: str, fields: dict[str, Any], field: str) -> None:
    assert error_of(put(api, event, **fields), 400, "invalid_request")["field"] == field
    error_of(api.get(f"/v1/costs/{event}"), 404, "not_found")


def test_a_cost_that_never_was_is_not_found(api: httpx.Client, event: str) -> None:
    error_of(api.get(f"/v1/costs/{event}/versions"), 404, "not_found")
    error_of(api.get("/v1/costs/Not An Event"), 400, "invalid_request")
