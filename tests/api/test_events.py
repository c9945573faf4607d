"""Metering: what an event costs, who wins a race, and what the same key answers."""

import re
import secrets
from typing import Any

import httpx
import pytest
from ledgers import at_once, capture, hold, statuses
from serving import ServerProcess, StartServer, balance, charge, error_of, grant, whole_ledger


@pytest.fixture
def priced(api: httpx.Client) -> str:
    """An event of this test's own: 3 credits, 9 with the model `best`, 1 with `fast`."""
    event = f"render.{secrets.token_hex(4)}"
    price = {"credits": 3, "label": "Render", "per_model": {"fast": 1, "best": 9}}
    assert api.put(f"/v1/prices/{event}", json=price).status_code == 201
    return event


def test_an_event_deducts_and_answers_the_whole_state(api: httpx.Client, customer: str) -> None:
    answer = charge(api, customer, metadata={"thread": "t1"}, member="alice", cost_usd="0.0042")
    assert answer.status_code == 201
    event = answer.json()
    assert re.fullmatch(r"evt_[0-9a-z]{26}", event.pop("id"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event.pop("created_at"))
    assert event == {
        "customer_id": customer,
        "event": "chat.reply",
        "label": "Chat reply",
        "model": None,
        "member": "alice",
        "quantity": 1,
        "unit_credits": 8,
        "credits": 8,
        "price_version": 1,
        "balance": 92,
        "held": 0,
        "available": 92,
        "version": 2,
        "metadata": {"thread": "t1"},
    }


@pytest.mark.parametrize(
    ("fields", "credits"),
    [
        ({}, 3),
        ({"quantity": 4}, 12),
        ({"model": "best"}, 9),
        ({"model": "best", "quantity": 2}, 18),
        ({"model": "unheard-of"}, 3),
        ({"model": "fast", "quantity": 100}, 100),
    ],
)
def test_the_price_is_that_of_event_and_model_times_quantity(
    api: httpx.Client, customer: str, priced: str, fields: dict[str, Any], credits: int
) -> None:
    assert charge(api, customer, priced, **fields).json()["credits"] == credits
    assert balance(api, customer) == 100 - credits


def test_credits_given_with_an_event_are_the_whole_price(api: httpx.Client, customer: str, priced: str) -> None:
    event = charge(api, customer, priced, credits=5, quantity=7).json()
    assert (event["credits"], event["quantity"], event["balance"]) == (5, 7, 95)
    assert (event["unit_credits"], event["price_version"], event["label"]) == (None, None, "Render")


def test_credits_given_with_an_unpriced_name_are_taken_under_that_name(api: httpx.Client, customer: str) -> None:
    event = charge(api, customer, "never.priced", credits=5).json()
    assert (event["credits"], event["label"]) == (5, "never.priced")


def test_a_free_event_is_entered_and_takes_nothing(api: httpx.Client, customer: str) -> None:
    name = f"free.{secrets.token_hex(4)}"
    api.put(f"/v1/prices/{name}", json={"credits": 0})
    event = charge(api, customer, name).json()
    assert (event["credits"], event["balance"], event["version"]) == (0, 100, 2)


def test_a_free_event_of_somebody_never_seen_makes_a_wallet(api: httpx.Client, customer_id: str) -> None:
    name = f"free.{secrets.token_hex(4)}"
    api.put(f"/v1/prices/{name}", json={"credits": 0})
    assert charge(api, customer_id, name).status_code == 201
    assert balance(api, customer_id) == 0


def test_a_flat_rate_prices_names_without_their_own(new_server: StartServer) -> None:
    with new_server().client() as api:
        grant(api, "u", 10)
        refusal = error_of(charge(api, "u", "chat.replly"), 404, "unknown_event")
        assert (refusal["event"], refusal["did_you_mean"]) == ("chat.replly", "chat.reply")
        assert "did_you_mean" not in error_of(charge(api, "u", "zzz.qqq"), 404, "unknown_event")
        api.put("/v1/prices/*", json={"credits": 1, "label": "AI call"})
        event = charge(api, "u", "workflow.anything").json()
        assert (event["credits"], event["label"]) == (1, "workflow.anything")
        assert charge(api, "u", "chat.reply").json()["credits"] == 8


def test_an_event_that_the_wallet_cannot_pay_is_refused_and_nothing_moves(api: httpx.Client, customer: str) -> None:
    refusal = error_of(charge(api, customer, "image.generate", quantity=3), 402, "insufficient_credits")
    assert (refusal["required"], refusal["available"], refusal["balance"]) == (120, 100, 100)
    assert "top_up_url" not in refusal
    assert api.get(f"/v1/wallets/{customer}").json()["version"] == 1


def test_a_refused_event_of_somebody_never_seen_makes_no_wallet(api: httpx.Client, customer_id: str) -> None:
    error_of(charge(api, customer_id), 402, "insufficient_credits")
    error_of(api.get(f"/v1/wallets/{customer_id}"), 404, "not_found")


def test_every_refusal_for_want_of_credits_names_the_page_where_they_are_bought(new_server: StartServer) -> None:
    page = "https://app.example.com/credits"
    with new_server(CHARGLY_TOP_UP_URL=page, CHARGLY_WELCOME_CREDITS="50").client() as api:
        made = hold(api, "u", 50)
        for answer in (
            charge(api, "u"),
            api.post("/v1/holds", json={"customer_id": "u", "credits": 1}),
            capture(api, made["id"], credits=51),
        ):
            assert error_of(answer, 402, "insufficient_credits")["top_up_url"] == page
        api.patch("/v1/wallets/u", json={"spend_limit": {"credits": 50, "per": "day"}})
        items = [{"customer_id": one, "event": "image.generate", "quantity": 2} for one in ("v", "u")]
        batch = api.post("/v1/events/batch", json={"events": items}).json()
        errors = [result["error"] for result in batch["results"]]
        assert [error["code"] for error in errors] == ["insufficient_credits", "spend_limit_reached"]
        assert [error.get("top_up_url") for error in errors] == [page, None]


def test_a_new_wallet_is_welcomed_in_the_commit_of_its_first_event(new_server: StartServer) -> None:
    with new_server(CHARGLY_WELCOME_CREDITS="50").client() as api:
        assert api.post("/v1/quote", json={"customer_id": "u", "event": "chat.reply"}).json()["available"] == 50
        error_of(api.get("/v1/wallets/u"), 404, "not_found")
        event = charge(api, "u", idempotency_key="first").json()
        assert (event["balance"], event["version"]) == (42, 2)
        assert charge(api, "u", idempotency_key="first").json() == event
        assert charge(api, "u").json()["balance"] == 34
        assert [one["description"] for one in whole_ledger(api, "u")] == ["Chat reply", "Chat reply", "Welcome credits"]


def test_the_same_key_gives_the_first_answer(api: httpx.Client, customer: str) -> None:
    body = {"customer_id": customer, "event": "chat.reply", "metadata": {"n": 1.5}}
    first = api.post("/v1/events", json=body, headers={"Idempotency-Key": "k"})
    charge(api, customer)
    others = [
        api.post("/v1/events", json=body, headers={"Idempotency-Key": "k"}),
        api.post("/v1/events", json=body | {"idempotency_key": "k"}),
        api.post("/v1/events", json=body | {"idempotency_key": "k"}, headers={"Idempotency-Key": "k"}),
        api.post("/v1/events", json=dict(reversed(body.items())), headers={"Idempotency-Key": "k"}),
    ]
    assert "idempotent-replayed" not in first.headers
    for again in others:
        assert (again.status_code, again.json()) == (201, first.json())
        assert again.headers["idempotent-replayed"] == "true"
    assert balance(api, customer) == 84


def test_two_different_keys_in_one_request_are_refused(api: httpx.Client, customer: str) -> None:
    body = {"customer_id": customer, "event": "chat.reply", "idempotency_key": "one"}
    refusal = error_of(api.post("/v1/events", json=body, headers={"Idempotency-Key": "two"}), 400, "invalid_request")
    assert refusal["field"] == "idempotency_key"
    assert balance(api, customer) == 100


@pytest.mark.parametrize(
    "other", [{"quantity": 2}, {"event": "image.generate"}, {"credits": 8}, {"metadata": {"a": 1}}, {"model": "m"}]
)
def test_the_same_key_with_another_request_is_a_conflict(
    api: httpx.Client, customer: str, other: dict[str, Any]
) -> None:
    assert charge(api, customer, idempotency_key="k").status_code == 201
    error_of(
        api.post("/v1/events", json={"customer_id": customer, "event": "chat.reply", "idempotency_key": "k"} | other),
        409,
        "idempotency_conflict",
    )
    assert balance(api, customer) == 92


def test_a_key_of_an_event_is_a_conflict_on_another_path(api: httpx.Client, customer: str) -> None:
    charge(api, customer, idempotency_key="k")
    grants = f"/v1/wallets/{customer}/grants"
    body = {"credits": 8, "category": "paid", "idempotency_key": "k"}
    error_of(api.post(grants, json=body), 409, "idempotency_conflict")


def test_a_key_belongs_to_one_wallet(api: httpx.Client, customer: str) -> None:
    grant(api, other := f"{customer}_2", 50)
    first, second = (charge(api, one, idempotency_key="k").json() for one in (customer, other))
    assert first["id"] != second["id"]
    assert (first["balance"], second["balance"]) == (92, 42)


def test_a_key_replays_after_its_price_changed_and_after_it_was_archived(
    api: httpx.Client, customer: str, priced: str
) -> None:
    first = charge(api, customer, priced, idempotency_key="k").json()
    api.put(f"/v1/prices/{priced}", json={"credits": 50})
    assert charge(api, customer, priced, idempotency_key="k").json() == first
    api.delete(f"/v1/prices/{priced}")
    error_of(charge(api, customer, priced), 404, "unknown_event")
    assert charge(api, customer, priced, idempotency_key="k").json() == first


def test_a_key_replays_when_the_wallet_is_empty(api: httpx.Client, customer: str) -> None:
    first = charge(api, customer, credits=100, idempotency_key="k")
    assert charge(api, customer, credits=100, idempotency_key="k").json() == first.json()


def test_a_refusal_is_not_remembered(api: httpx.Client, customer: str) -> None:
    assert charge(api, customer, "image.generate", quantity=3, idempotency_key="late").status_code == 402
    grant(api, customer, 50)
    answer = charge(api, customer, "image.generate", quantity=3, idempotency_key="late")
    assert answer.status_code == 201
    assert "idempotent-replayed" not in answer.headers


def test_a_race_for_the_last_credits_has_one_winner(api: httpx.Client, customer: str) -> None:
    answers = at_once([lambda: charge(api, customer, "image.generate", quantity=2)] * 16)
    assert statuses(answers) == [201, *[402] * 15]
    assert balance(api, customer) == 20


def test_a_hundred_equal_requests_at_once_make_one_entry_and_a_hundred_equal_answers(
    api: httpx.Client, customer: str
) -> None:
    answers = at_once([lambda: charge(api, customer, idempotency_key="once")] * 100)
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert [one["credits"] for one in whole_ledger(api, customer)] == [-8, 100]


def test_an_event_can_be_read_by_its_id(api: httpx.Client, customer: str) -> None:
    event = charge(api, customer, metadata={"a": [1, None]}).json()
    assert api.get(f"/v1/events/{event['id']}").json() == event
    error_of(api.get("/v1/events/evt_nothing"), 404, "not_found")


def test_a_grant_is_no_event(api: httpx.Client, customer_id: str) -> None:
    made = grant(api, customer_id, 5)
    error_of(api.get(f"/v1/events/{made['id']}"), 404, "not_found")


def test_metadata_nested_as_deeply_as_it_is_taken_is_replayed_and_read_again(api: httpx.Client, customer: str) -> None:
    taken = []
    for depth in (100, 500, 800, 950, 990, 1000, 1500):
        body = '{"customer_id":"%s","event":"chat.reply","credits":1,"idempotency_key":"d%d","metadata":{"a":%s%s}}'
        content = body % (customer, depth, "[" * depth, "]" * depth)
        json_type = {"Content-Type": "application/json"}
        answer = api.post("/v1/events", content=content, headers=json_type)
        assert answer.status_code in (201, 400), (depth, answer.text[:200])
        if answer.status_code == 201:
            again = api.post("/v1/events", content=content, headers=json_type)
            assert (again.status_code, again.text) == (201, answer.text), depth
            taken.append(depth)
    assert api.get(f"/v1/wallets/{customer}/entries").status_code == 200
    assert balance(api, customer) == 100 - len(taken)


def test_a_quote_tells_the_price_and_how_many_the_wallet_covers(api: httpx.Client, customer: str) -> None:
    quote = api.post("/v1/quote", json={"customer_id": customer, "event": "chat.reply"}).json()
    assert quote == {"credits": 8, "allowed": True, "reason": None, "balance": 100, "available": 100, "covers": 12}
    short = api.post("/v1/quote", json={"customer_id": customer, "event": "image.generate", "quantity": 3}).json()
    assert (short["allowed"], short["reason"], short["covers"]) == (False, "insufficient_credits", 0)
    assert balance(api, customer) == 100


def test_a_quote_for_somebody_never_seen_finds_nothing_to_spend(api: httpx.Client, customer_id: str) -> None:
    quote = api.post("/v1/quote", json={"customer_id": customer_id, "event": "chat.reply"}).json()
    assert (quote["allowed"], quote["balance"], quote["covers"]) == (False, 0, 0)
    error_of(api.get(f"/v1/wallets/{customer_id}"), 404, "not_found")


def test_a_quote_of_a_free_event_covers_any_number(api: httpx.Client, customer_id: str) -> None:
    name = f"free.{secrets.token_hex(4)}"
    api.put(f"/v1/prices/{name}", json={"credits": 0})
    quote = api.post("/v1/quote", json={"customer_id": customer_id, "event": name}).json()
    assert (quote["allowed"], quote["covers"]) == (True, None)


def test_a_quote_of_an_unknown_event_is_a_404(api: httpx.Client, customer: str) -> None:
    answer = api.post("/v1/quote", json={"customer_id": customer, "event": "zzz.qqq"})
    error_of(answer, 404, "unknown_event")


def test_a_token_quotes_for_its_own_customer_alone(server: ServerProcess, customer: str) -> None:
    with server.client(server.token(customer)) as browser:
        assert browser.post("/v1/quote", json={"customer_id": customer, "event": "chat.reply"}).status_code == 200
        other = browser.post("/v1/quote", json={"customer_id": "somebody", "event": "chat.reply"})
        error_of(other, 403, "forbidden_scope")
