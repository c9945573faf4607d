"""Wallets: made, read, listed and set; credits given and corrected by hand."""

import asyncio
import secrets
from typing import Any

import httpx
import pytest
from serving import ServerProcess, StartServer, balance, charge, error_of, grant, whole_ledger


def remaining(api: httpx.Client, customer_id: str) -> list[tuple[str, int]]:
    """A wallet's live grants in burn-down order, each with what is left of it."""
    found = api.get(f"/v1/wallets/{customer_id}").json()["grants"]
    return [(one["category"], one["remaining"]) for one in found]


def test_a_wallet_is_made_once_and_then_told_as_it_stands(api: httpx.Client, customer_id: str) -> None:
    body = {"customer_id": customer_id, "name": "Acme", "low_balance_threshold": 20}
    made = api.post("/v1/wallets", json=body)
    assert made.status_code == 201
    wallet = made.json()
    assert wallet.pop("created_at").endswith("Z")
    assert wallet == {
        "customer_id": customer_id,
        "name": "Acme",
        "balance": 0,
        "held": 0,
        "available": 0,
        "version": 1,
        "low_balance_threshold": 20,
        "low": True,
        "frozen": False,
        "overdraft_limit": 0,
        "spend_limit": None,
        "spent": {"day": 0, "week": 0, "month": 0},
        "alert": None,
        "alert_at": None,
        "auto_top_up": None,
        "grants": [],
    }
    grant(api, customer_id, 30)
    again = api.post("/v1/wallets", json=body | {"name": "Other"})
    assert (again.status_code, again.json()["name"], again.json()["balance"]) == (200, "Acme", 30)
    assert again.json() == api.get(f"/v1/wallets/{customer_id}").json()


def test_a_keyed_opening_is_answered_alike_whatever_has_happened_since(api: httpx.Client, customer_id: str) -> None:
    body = {"customer_id": customer_id, "name": "Acme", "idempotency_key": "open"}
    first = api.post("/v1/wallets", json=body)
    grant(api, customer_id, 30)
    api.patch(f"/v1/wallets/{customer_id}", json={"name": "Changed"})
    again = api.post("/v1/wallets", json=body)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    error_of(api.post("/v1/wallets", json=body | {"name": "Else"}), 409, "idempotency_conflict")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("grants", {"credits": 30, "category": "paid", "priority": 7, "reason": "sorry"}),
        ("adjustments", {"credits": 30, "reason": "counted wrong"}),
        ("adjustments", {"credits": -30, "reason": "counted wrong"}),
    ],
)
def test_a_keyed_change_is_answered_alike_whatever_has_happened_since(
    api: httpx.Client, customer: str, path: str, body: dict[str, Any]
) -> None:
    url = f"/v1/wallets/{customer}/{path}"
    first = api.post(url, json=body, headers={"Idempotency-Key": "k"})
    charge(api, customer, credits=60)
    stood = balance(api, customer)
    again = api.post(url, json=body, headers={"Idempotency-Key": "k"})
    assert (first.status_code, again.status_code, again.json()) == (201, 201, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    error_of(api.post(url, json=body | {"credits": 31, "idempotency_key": "k"}), 409, "idempotency_conflict")
    assert balance(api, customer) == stood


def test_a_wallet_opened_by_name_is_welcomed_too(new_server: StartServer) -> None:
    with new_server(CHARGLY_WELCOME_CREDITS="50").client() as api:
        made = api.post("/v1/wallets", json={"customer_id": "u"}).json()
        assert (made["balance"], [one["source"] for one in made["grants"]]) == (50, ["welcome"])


def test_settings_change_one_by_one_and_null_takes_one_away(api: httpx.Client, customer: str) -> None:
    url = f"/v1/wallets/{customer}"
    assert api.patch(url, json={"name": "Acme"}).json()["name"] == "Acme"
    wallet = api.patch(url, json={"low_balance_threshold": 101}).json()
    assert (wallet["name"], wallet["low"], wallet["version"]) == ("Acme", True, 3)
    wallet = api.patch(url, json={"name": None, "low_balance_threshold": 100}).json()
    assert (wallet["name"], wallet["low"]) == (None, False)
    wallet = api.patch(url, json={"low_balance_threshold": None}).json()
    assert (wallet["low_balance_threshold"], wallet["balance"]) == (None, 100)


def test_settings_that_change_nothing_make_no_version(api: httpx.Client, customer: str) -> None:
    url = f"/v1/wallets/{customer}"
    before = api.patch(url, json={"name": "Acme"}).json()
    assert api.patch(url, json={}).json() == before
    assert api.patch(url, json={"name": "Acme"}).json() == before


def test_a_setting_that_is_none_is_refused_and_nothing_changes(api: httpx.Client, customer: str) -> None:
    answer = api.patch(f"/v1/wallets/{customer}", json={"name": "Acme", "overdraft_limmit": 5})
    assert error_of(answer, 400, "invalid_request")["field"] == "overdraft_limmit"
    assert api.get(f"/v1/wallets/{customer}").json()["name"] is None


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {"name": "x"}),
        ("GET", "/entries", None),
        ("POST", "/adjustments", {"credits": 5, "reason": "r"}),
    ],
)
def test_somebody_never_seen_is_not_found(
    api: httpx.Client, customer_id: str, method: str, path: str, body: dict[str, Any] | None
) -> None:
    refusal = error_of(api.request(method, f"/v1/wallets/{customer_id}{path}", json=body), 404, "not_found")
    assert refusal["customer_id"] == customer_id


def test_a_list_is_walked_by_its_cursor_and_misses_nobody(new_server: StartServer) -> None:
    with new_server().client() as api:
        made = sorted(f"user_{secrets.token_hex(4)}" for _ in range(7))
        for one in made:
            grant(api, one, 5)
        found: list[str] = []
        page = api.get("/v1/wallets", params={"limit": 3}).json()
        while True:
            found += [one["customer_id"] for one in page["wallets"]]
            if page["next_cursor"] is None:
                break
            page = api.get("/v1/wallets", params={"limit": 3, "cursor": page["next_cursor"]}).json()
        assert found == made


def test_a_list_shows_only_those_that_run_low(new_server: StartServer) -> None:
    with new_server().client() as api:
        for name, threshold in (("low", 11), ("enough", 10), ("unset", None)):
            grant(api, name, 10)
            api.patch(f"/v1/wallets/{name}", json={"low_balance_threshold": threshold})
        shown = api.get("/v1/wallets", params={"low": "true"}).json()["wallets"]
        assert [one["customer_id"] for one in shown] == ["low"]
        assert len(api.get("/v1/wallets", params={"low": "false"}).json()["wallets"]) == 3


@pytest.mark.parametrize(
    ("query", "found"), [("50%", ["50%_off"]), ("_", ["50%_off"]), ("acme", ["u1"]), ("nobody", [])]
)
def test_a_list_is_searched_by_id_and_name(new_server: StartServer, query: str, found: list[str]) -> None:
    with new_server().client() as api:
        for customer_id, name in (("u1", "Acme"), ("50%_off", None), ("5000", "Other")):
            api.post("/v1/wallets", json={"customer_id": customer_id, "name": name})
        answer = api.get("/v1/wallets", params={"query": query})
        assert [one["customer_id"] for one in answer.json()["wallets"]] == found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"),
        ("limit", "101"),
        ("limit", "-1"),
        ("limit", "1.5"),
        ("limit", "x"),
        ("limit", ""),
        ("limit", "\u0665"),
        ("low", "yes"),
        ("low", ""),
        ("cursor", "nonsense"),
        ("cursor", "ff"),
        ("cursor", "61" * 3000),
        ("page", "2"),
    ],
)
def test_a_bad_parameter_of_a_list_is_refused_by_its_name(api: httpx.Client, name: str, value: str) -> None:
    refusal = error_of(api.get("/v1/wallets", params={name: value}), 400, "invalid_request")
    assert refusal["field"] == name


def test_a_grant_is_answered_and_seen_in_the_wallet(api: httpx.Client, customer_id: str) -> None:
    made = grant(api, customer_id, 25, "paid")
    assert made["id"].startswith("grant_")
    assert (made["status"], made["credits"], made["remaining"], made["priority"]) == ("active", 25, 25, 50)
    assert api.get(f"/v1/wallets/{customer_id}").json()["grants"] == [made]


def test_promotional_credits_are_spent_before_paid_ones(api: httpx.Client, customer_id: str) -> None:
    grant(api, customer_id, 30, "paid")
    grant(api, customer_id, 20, "promotional")
    charge(api, customer_id, credits=25)
    assert remaining(api, customer_id) == [("paid", 25)]


def test_the_lowest_priority_number_is_spent_first_then_the_oldest(api: httpx.Client, customer_id: str) -> None:
    url = f"/v1/wallets/{customer_id}/grants"
    for credits, category, priority in (
        (10, "promotional", 60),
        (20, "paid", 10),
        (5, "paid", 60),
        (7, "promotional", 60),
    ):
        api.post(url, json={"credits": credits, "category": category, "priority": priority})
    assert remaining(api, customer_id) == [("paid", 20), ("promotional", 10), ("promotional", 7), ("paid", 5)]
    charge(api, customer_id, credits=34)
    assert remaining(api, customer_id) == [("promotional", 3), ("paid", 5)]


def test_an_adjustment_up_makes_a_promotional_grant(api: httpx.Client, customer: str) -> None:
    answer = api.post(f"/v1/wallets/{customer}/adjustments", json={"credits": 7, "reason": "goodwill"})
    assert answer.status_code == 201
    made = answer.json()
    assert (made["kind"], made["credits"], made["reason"], made["balance"]) == ("adjustment", 7, "goodwill", 107)
    assert remaining(api, customer) == [("promotional", 100), ("promotional", 7)]


def test_an_adjustment_down_burns_grants_in_order_and_never_below_zero(api: httpx.Client, customer: str) -> None:
    url = f"/v1/wallets/{customer}/adjustments"
    grant(api, customer, 10, "paid")
    assert api.post(url, json={"credits": -105, "reason": "fraud"}).json()["balance"] == 5
    assert remaining(api, customer) == [("paid", 5)]
    refusal = error_of(api.post(url, json={"credits": -6, "reason": "more"}), 402, "insufficient_credits")
    assert refusal["available"] == 5
    assert [one["credits"] for one in whole_ledger(api, customer)] == [-105, 10, 100]


def test_a_token_may_be_made_without_a_body_and_ends_when_asked(api: httpx.Client, customer_id: str) -> None:
    answer = api.post(f"/v1/wallets/{customer_id}/tokens")
    assert answer.status_code == 201
    assert answer.json()["token"].count(".") == 2
    short = api.post(f"/v1/wallets/{customer_id}/tokens", json={"expires_in": 1}).json()
    assert short["expires_at"] < answer.json()["expires_at"]


def test_a_search_finds_capitals_of_every_alphabet_and_has_a_length(api: httpx.Client) -> None:
    name = f"ÉCOLE {secrets.token_hex(4)}"
    customer = f"user_{secrets.token_hex(6)}"
    api.post("/v1/wallets", json={"customer_id": customer, "name": name})
    found = api.get("/v1/wallets", params={"query": name}).json()["wallets"]
    assert [wallet["customer_id"] for wallet in found] == [customer]
    error = error_of(api.get("/v1/wallets", params={"query": "x" * 256}), 400, "invalid_request")
    assert error["field"] == "query"


async def test_a_wallet_and_its_grants_are_read_as_of_one_commit(server: ServerProcess, api: httpx.Client) -> None:
    """What remains of the grants is the balance, whatever is written while it is read."""
    customer = f"user_{secrets.token_hex(6)}"
    grant(api, customer, 10_000)
    key = {"Authorization": api.headers["Authorization"]}
    async with httpx.AsyncClient(base_url=server.address, headers=key, timeout=20, verify=False) as client:

        async def meter() -> None:
            for _ in range(60):
                answer = await client.post("/v1/events", json={"customer_id": customer, "event": "chat.reply"})
                assert answer.status_code == 201

        async def read() -> None:
            for _ in range(60):
                wallet = (await client.get(f"/v1/wallets/{customer}")).json()
                assert sum(one["remaining"] for one in wallet["grants"]) == wallet["balance"]

        await asyncio.gather(*[meter() for _ in range(4)], *[read() for _ in range(4)])


def test_an_overdraft_is_spent_and_its_debt_is_paid_first(api: httpx.Client, customer: str) -> None:
    changed = api.patch(f"/v1/wallets/{customer}", json={"overdraft_limit": 50}).json()
    assert (changed["balance"], changed["available"], changed["overdraft_limit"]) == (100, 150, 50)
    spent = api.post("/v1/events", json={"customer_id": customer, "event": "x.y", "credits": 130}).json()
    assert (spent["balance"], spent["available"]) == (-30, 20)
    refusal = api.post("/v1/events", json={"customer_id": customer, "event": "x.y", "credits": 21})
    assert error_of(refusal, 402, "insufficient_credits")["available"] == 20
    grant(api, customer, 40)
    assert (balance(api, customer), remaining(api, customer)) == (10, [("promotional", 10)])
    kinds = [entry["kind"] for entry in whole_ledger(api, customer, kind="settings")]
    assert kinds == ["settings"]


def test_a_frozen_wallet_spends_nothing_says_so_in_a_quote_and_takes_money(api: httpx.Client, customer: str) -> None:
    assert api.patch(f"/v1/wallets/{customer}", json={"frozen": True}).json()["frozen"] is True
    refusal = charge(api, customer)
    assert error_of(refusal, 403, "wallet_frozen")["customer_id"] == customer
    quote = api.post("/v1/quote", json={"customer_id": customer, "event": "chat.reply"}).json()
    assert (quote["allowed"], quote["reason"], quote["covers"]) == (False, "wallet_frozen", 0)
    grant(api, customer, 5)
    assert balance(api, customer) == 105
    api.patch(f"/v1/wallets/{customer}", json={"frozen": False})
    assert charge(api, customer).status_code == 201


def test_a_key_replays_on_a_wallet_that_was_frozen_since(api: httpx.Client, customer: str) -> None:
    first = charge(api, customer, idempotency_key="before")
    api.patch(f"/v1/wallets/{customer}", json={"frozen": True})
    again = charge(api, customer, idempotency_key="before")
    assert (again.status_code, again.json()) == (201, first.json())


@pytest.mark.parametrize("field", ["overdraft_limit", "frozen"])
@pytest.mark.parametrize("value", [None, -1, 10**12 + 1, "1", 0.5, []])
def test_a_setting_out_of_its_bounds_is_refused(api: httpx.Client, customer: str, field: str, value: Any) -> None:
    answer = api.patch(f"/v1/wallets/{customer}", json={field: value})
    assert error_of(answer, 400, "invalid_request")["field"] == field
