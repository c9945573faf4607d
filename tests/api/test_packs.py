"""Packs in versions: what was on sale when, and who sees it."""

import secrets
from typing import Any

import httpx
import pytest
from serving import ServerProcess, error_of


@pytest.fixture
def code() -> str:
    return f"pack_{secrets.token_hex(4)}"


def put(api: httpx.Client, code: str, **fields: Any) -> httpx.Response:
    return api.put(f"/v1/packs/{code}", json={"name": "Test", "credits": 100, "amount": 200, **fields})


def versions(api: httpx.Client, code: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get(f"/v1/packs/{code}/versions").raise_for_status().json()["versions"]
    return found


def test_each_change_is_a_version_that_stays(api: httpx.Client, code: str) -> None:
    first = put(api, code, bonus_credits=10, bonus_days=30, currencies={"eur": 180}).json()
    assert first["version"] == 1
    assert put(api, code, credits=120, custom_amount={"min": 100, "max": 900}).json()["version"] == 2
    assert api.delete(f"/v1/packs/{code}").status_code == 204
    assert put(api, code, name="Back again").json()["version"] == 4
    newest, ended, second, oldest = versions(api, code)
    assert (newest["version"], newest["name"], newest["archived"]) == (4, "Back again", False)
    assert (ended["version"], ended["archived"], ended["credits"]) == (3, True, 120)
    assert (second["version"], second["custom_amount"]) == (2, {"min": 100, "max": 900})
    assert {name: value for name, value in oldest.items() if name not in ("archived", "created_at")} == first
    assert [one["created_at"] for one in versions(api, code)] == sorted(
        (one["created_at"] for one in versions(api, code)), reverse=True
    )


def test_those_that_a_ledger_begins_with_have_one_too(api: httpx.Client) -> None:
    [first] = [one for one in versions(api, "chargly_500") if one["version"] == 1]
    assert (first["credits"], first["amount"], first["archived"]) == (500, 1000, False)
    [listed] = [one for one in api.get("/v1/packs").json()["packs"] if one["code"] == "chargly_500"]
    assert listed["version"] == versions(api, "chargly_500")[0]["version"]


def test_of_two_who_change_a_pack_one_is_told(api: httpx.Client, code: str) -> None:
    assert put(api, code, expected_version=0).status_code == 200
    assert put(api, code, credits=101, expected_version=1).status_code == 200
    refused = error_of(put(api, code, credits=102, expected_version=1), 409, "version_conflict")
    assert (refused["expected_version"], refused["version"]) == (1, 2)
    error_of(put(api, code, credits=102, expected_version=0), 409, "version_conflict")
    assert error_of(put(api, code, expected_version=-1), 400, "invalid_request")["field"] == "expected_version"
    assert versions(api, code)[0]["credits"] == 101


def test_a_change_that_is_refused_makes_no_version(api: httpx.Client, code: str) -> None:
    put(api, code, stripe_price=f"price_{code}")
    other = f"{code}_2"
    error_of(put(api, other, stripe_price=f"price_{code}"), 400, "invalid_request")
    error_of(api.get(f"/v1/packs/{other}/versions"), 404, "not_found")
    error_of(api.delete(f"/v1/packs/{other}"), 404, "not_found")
    assert len(versions(api, code)) == 1


def test_buyers_see_no_version(server: ServerProcess, api: httpx.Client, code: str) -> None:
    put(api, code, stripe_price=f"price_{code}")
    with server.client(server.token("ada")) as buyer:
        [seen] = [one for one in buyer.get("/v1/packs").json()["packs"] if one["code"] == code]
        error_of(buyer.get(f"/v1/packs/{code}/versions"), 403, "forbidden_scope")
    assert not {"version", "stripe_price", "expires_with_period"} & seen.keys()
