"""Holds: credits set apart for an action whose cost is not known yet, then captured or released."""

import concurrent.futures
import datetime as dt
import re
import secrets
from typing import Any

import httpx
import pytest
from ledgers import capture, check_ledger, every_hold, hold, release, soon, wait_until, wallet_of
from serving import balance, charge, error_of, grant, whole_ledger

NO_AMOUNTS = [-5, 0, 8.0, 8.5, "8", True, False, [], {}, 10**12 + 1, 10**13, 2**63, -(2**63) - 1]


@pytest.fixture
def priced(api: httpx.Client) -> str:
    """An event of this test's own: 3 credits, 9 with the model `best`."""
    event = f"render.{secrets.token_hex(4)}"
    price = {"credits": 3, "label": "Render", "per_model": {"best": 9}}
    assert api.put(f"/v1/prices/{event}", json=price).status_code == 201
    return event


def seconds_of(one: dict[str, Any]) -> float:
    made, ends = (dt.datetime.fromisoformat(one[name]) for name in ("created_at", "expires_at"))
    return (ends - made).total_seconds()


# Making one


def test_a_hold_is_answered_whole_and_read_alike(api: httpx.Client, customer: str) -> None:
    made = hold(api, customer, event="agent.run", quantity=2, model="m", member="alice", metadata={"run": 1})
    assert api.get(f"/v1/holds/{made['id']}").json() == made
    assert seconds_of(made) == 900
    assert re.fullmatch(r"hold_[0-9a-z]{26}", made.pop("id"))
    assert made.pop("created_at") < made.pop("expires_at")
    assert made == {
        "customer_id": customer,
        "status": "open",
        "event": "agent.run",
        "label": "Agent run",
        "model": "m",
        "member": "alice",
        "quantity": 2,
        "unit_credits": 25,
        "price_version": 1,
        "credits": 50,
        "closed_at": None,
        "metadata": {"run": 1},
        "balance": 100,
        "held": 50,
        "available": 50,
        "version": 2,
    }
    assert wallet_of(api, customer)["held"] == 50


@pytest.mark.parametrize(
    ("fields", "credits"),
    [({}, 3), ({"quantity": 4}, 12), ({"model": "best"}, 9), ({"model": "other"}, 3), ({"credits": 70}, 70)],
)
def test_a_hold_is_for_its_price_or_for_as_many_credits_as_it_says(
    api: httpx.Client, customer: str, priced: str, fields: dict[str, Any], credits: int
) -> None:
    made = hold(api, customer, event=priced, **fields)
    assert (made["credits"], made["held"], made["label"]) == (credits, credits, "Render")


@pytest.mark.parametrize("seconds", [1, 2, 86_400])
def test_a_hold_lasts_as_long_as_it_is_asked_to(api: httpx.Client, customer: str, seconds: int) -> None:
    assert seconds_of(hold(api, customer, 1, expires_in=seconds)) == seconds


@pytest.mark.parametrize("credits", [1, 99, 100])
def test_a_hold_takes_up_to_the_last_credit_that_is_available(api: httpx.Client, customer: str, credits: int) -> None:
    assert hold(api, customer, credits)["available"] == 100 - credits


def test_a_hold_of_as_many_credits_as_one_operation_may_move(api: httpx.Client, customer_id: str) -> None:
    grant(api, customer_id, 10**12)
    made = hold(api, customer_id, 10**12)
    assert (made["held"], made["available"]) == (10**12, 0)
    assert capture(api, made["id"]).json()["balance"] == 0


def test_a_hold_beyond_what_is_available_is_refused_and_makes_nothing(api: httpx.Client, customer: str) -> None:
    hold(api, customer, 60)
    answer = api.post("/v1/holds", json={"customer_id": customer, "credits": 41})
    refusal = error_of(answer, 402, "insufficient_credits")
    assert (refusal["required"], refusal["available"], refusal["balance"]) == (41, 40, 100)
    assert len(check_ledger(api, customer)) == 2


def test_what_is_held_can_be_neither_spent_nor_held_nor_taken_again(api: httpx.Client, customer: str) -> None:
    hold(api, customer, 60)
    error_of(charge(api, customer, credits=41), 402, "insufficient_credits")
    adjusted = api.post(f"/v1/wallets/{customer}/adjustments", json={"credits": -41, "reason": "r"})
    assert error_of(adjusted, 402, "insufficient_credits")["available"] == 40
    assert charge(api, customer, credits=40).json()["available"] == 0
    assert len(check_ledger(api, customer)) == 3


def test_a_refused_hold_of_somebody_never_seen_makes_no_wallet(api: httpx.Client, customer_id: str) -> None:
    error_of(api.post("/v1/holds", json={"customer_id": customer_id, "credits": 1}), 402, "insufficient_credits")
    error_of(api.get(f"/v1/wallets/{customer_id}"), 404, "not_found")
    error_of(api.get(f"/v1/wallets/{customer_id}/holds"), 404, "not_found")


def test_a_hold_for_an_event_without_a_price_needs_credits(api: httpx.Client, customer: str) -> None:
    answer = api.post("/v1/holds", json={"customer_id": customer, "event": "zzz.qqq"})
    assert error_of(answer, 404, "unknown_event")["event"] == "zzz.qqq"
    made = hold(api, customer, 5, event="zzz.qqq")
    assert (made["label"], made["unit_credits"]) == ("zzz.qqq", None)
    assert capture(api, made["id"]).json()["label"] == "zzz.qqq"


def test_a_hold_for_a_free_event_is_refused(api: httpx.Client, customer: str) -> None:
    name = f"free.{secrets.token_hex(4)}"
    api.put(f"/v1/prices/{name}", json={"credits": 0})
    answer = api.post("/v1/holds", json={"customer_id": customer, "event": name})
    assert error_of(answer, 400, "invalid_request")["field"] == "credits"
    assert wallet_of(api, customer)["version"] == 1


def bad_holds() -> list[tuple[dict[str, Any], str]]:
    columns: dict[str, list[Any]] = {
        "customer_id": ["", "a/b", "..", "u" * 256, "u\x00", 7, None],
        "event": ["", "Chat Reply", "chat.", "chat.reply\n", "a" * 101, "*", 7],
        "credits": NO_AMOUNTS,
        "quantity": [-1, 0, 1.5, 2.0, "2", True, None, 10**9 + 1],
        "expires_in": [0, -1, 86_401, 10**13, 1.0, 1.5, "60", True, None, []],
        "member": ["", "m" * 256, "a\nb", "a\x00", 7],
        "model": ["", "m" * 256, "a\nb", 7],
        "metadata": [[1], "text", 7, None, {"x": "y" * 5000}],
        "idempotency_key": ["", "k" * 256, "a\nb", 7],
        "cost_usd": ["0.1"],
        "status": ["captured"],
        "expires_at": ["2999-01-01T00:00:00Z"],
    }
    good = {"customer_id": "u", "event": "chat.reply"}
    bad = [(good | {name: value}, name) for name, values in columns.items() for value in values]
    nothing = [({"customer_id": "u"}, "event"), ({"customer_id": "u", "event": None, "credits": None}, "event")]
    return [*bad, *nothing, ({"event": "chat.reply"}, "customer_id")]


@pytest.mark.parametrize(("body", "field"), bad_holds(), ids=repr)
def test_a_bad_hold_is_refused_by_its_field(api: httpx.Client, body: dict[str, Any], field: str) -> None:
    assert error_of(api.post("/v1/holds", json=body), 400, "invalid_request")["field"] == field


def test_a_wallet_has_a_thousand_open_holds_and_no_more(api: httpx.Client, customer_id: str) -> None:
    grant(api, customer_id, 2000)
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        made = list(pool.map(lambda _: hold(api, customer_id, 1, expires_in=86_400), range(1000)))
    answer = api.post("/v1/holds", json={"customer_id": customer_id, "credits": 1})
    assert error_of(answer, 429, "rate_limited")["limit"] == 1000
    assert int(answer.headers["retry-after"]) >= 1
    assert release(api, made[0]["id"]).status_code == 200
    assert hold(api, customer_id, 1)["held"] == 1000
    assert len(every_hold(api, customer_id, status="open")) == 1000


# Capturing


def test_an_empty_capture_takes_all_that_was_held(api: httpx.Client, customer: str) -> None:
    made = hold(api, customer, event="agent.run", member="alice", model="m", metadata={"run": 1})
    for answer in (api.post(f"/v1/holds/{made['id']}/capture"), capture(api, made["id"])):
        assert answer.status_code == 201
        event = answer.json()
        assert re.fullmatch(r"evt_[0-9a-z]{26}", event.pop("id"))
        assert event.pop("created_at")
        assert event == {
            "customer_id": customer,
            "event": "agent.run",
            "label": "Agent run",
            "model": "m",
            "member": "alice",
            "quantity": 1,
            "unit_credits": 25,
            "credits": 25,
            "price_version": 1,
            "balance": 75,
            "held": 0,
            "available": 75,
            "version": 3,
            "metadata": {"run": 1},
            "hold_id": made["id"],
        }
    closed = api.get(f"/v1/holds/{made['id']}").json()
    assert (closed["status"], closed["credits"], closed["held"]) == ("captured", 25, 0)
    assert closed["closed_at"] >= closed["created_at"]
    check_ledger(api, customer)


@pytest.mark.parametrize("credits", [1, 59, 60])
def test_a_capture_of_less_frees_the_rest(api: httpx.Client, customer: str, credits: int) -> None:
    event = capture(api, hold(api, customer, 60)["id"], credits=credits).json()
    assert (event["credits"], event["balance"], event["held"]) == (credits, 100 - credits, 0)
    assert event["available"] == 100 - credits
    check_ledger(api, customer)


@pytest.mark.parametrize("credits", [61, 90])
def test_a_capture_of_more_takes_the_difference_from_what_is_available(
    api: httpx.Client, customer: str, credits: int
) -> None:
    hold(api, customer, 10)
    event = capture(api, hold(api, customer, 60)["id"], credits=credits).json()
    assert (event["balance"], event["held"], event["available"]) == (100 - credits, 10, 90 - credits)
    check_ledger(api, customer)


def test_a_capture_of_more_than_is_available_is_refused_and_leaves_the_hold_open(
    api: httpx.Client, customer: str
) -> None:
    hold(api, customer, 10)
    made = hold(api, customer, 60)
    refusal = error_of(capture(api, made["id"], credits=91), 402, "insufficient_credits")
    assert (refusal["required"], refusal["available"], refusal["balance"]) == (31, 30, 100)
    error_of(capture(api, made["id"], credits=10**12), 402, "insufficient_credits")
    assert api.get(f"/v1/holds/{made['id']}").json() == made
    assert capture(api, made["id"], credits=90).status_code == 201
    check_ledger(api, customer)


def test_a_capture_of_more_may_take_from_the_overdraft_and_no_further(api: httpx.Client, customer: str) -> None:
    api.patch(f"/v1/wallets/{customer}", json={"overdraft_limit": 20})
    made = hold(api, customer, 110)
    error_of(capture(api, made["id"], credits=121), 402, "insufficient_credits")
    assert capture(api, made["id"], credits=120).json()["balance"] == -20
    check_ledger(api, customer)


def test_a_capture_by_quantity_is_priced_by_the_hold(api: httpx.Client, customer: str, priced: str) -> None:
    made = hold(api, customer, event=priced, quantity=10, model="best")
    assert made["credits"] == 90
    event = capture(api, made["id"], quantity=2).json()
    assert (event["credits"], event["quantity"], event["unit_credits"], event["balance"]) == (18, 2, 9, 82)
    open_ended = hold(api, customer, 70, event=priced)
    event = capture(api, open_ended["id"], quantity=4).json()
    assert (event["credits"], event["unit_credits"], event["held"]) == (12, 3, 0)
    everything = capture(api, hold(api, customer, 50, event=priced)["id"]).json()
    assert (everything["credits"], everything["unit_credits"], everything["price_version"]) == (50, None, None)
    check_ledger(api, customer)


def test_a_hold_keeps_its_price_whatever_becomes_of_the_catalogue(
    api: httpx.Client, customer: str, priced: str
) -> None:
    holds = [hold(api, customer, event=priced, quantity=2) for _ in range(3)]
    api.put(f"/v1/prices/{priced}", json={"credits": 40, "label": "Dear"})
    event = capture(api, holds[0]["id"]).json()
    assert (event["credits"], event["unit_credits"], event["price_version"], event["label"]) == (6, 3, 1, "Render")
    assert capture(api, holds[1]["id"], quantity=3).json()["credits"] == 9
    assert charge(api, customer, priced).json()["credits"] == 40
    assert api.delete(f"/v1/prices/{priced}").status_code == 204
    error_of(charge(api, customer, priced), 404, "unknown_event")
    assert capture(api, holds[2]["id"], quantity=1).json()["credits"] == 3


def test_a_hold_without_an_event_is_captured_under_the_captures_or_under_a_name_of_ours(
    api: httpx.Client, customer: str
) -> None:
    named = capture(api, hold(api, customer, 10)["id"], event="image.generate").json()
    assert (named["event"], named["label"], named["credits"]) == ("image.generate", "Image generation", 10)
    counted = capture(api, hold(api, customer, 50)["id"], event="chat.reply", quantity=2).json()
    assert (counted["credits"], counted["unit_credits"], counted["price_version"]) == (16, 8, 1)
    nameless = capture(api, hold(api, customer, 10)["id"]).json()
    assert (nameless["event"], nameless["credits"]) == ("hold.capture", 10)
    unknown = capture(api, hold(api, customer, 10)["id"], event="no.price", quantity=1)
    error_of(unknown, 404, "unknown_event")


def test_a_capture_under_another_event_than_the_holds_is_refused(api: httpx.Client, customer: str) -> None:
    made = hold(api, customer, event="agent.run")
    refusal = error_of(capture(api, made["id"], event="chat.reply"), 400, "invalid_request")
    assert refusal["field"] == "event"
    assert capture(api, made["id"], event="agent.run").json()["credits"] == 25


def test_a_capture_by_quantity_of_a_hold_without_a_price_is_refused(api: httpx.Client, customer: str) -> None:
    refusal = error_of(capture(api, hold(api, customer, 10)["id"], quantity=2), 400, "invalid_request")
    assert refusal["field"] == "quantity"


def test_a_captures_cost_and_metadata_are_its_events(api: httpx.Client, customer: str) -> None:
    made = hold(api, customer, 10, metadata={"of": "hold"})
    event = capture(api, made["id"], cost_usd="0.0420", metadata={"of": "capture"}).json()
    assert event["metadata"] == {"of": "capture"}
    assert api.get(f"/v1/events/{event['id']}").json() == event
    entry = whole_ledger(api, customer)[0]
    assert (entry["id"], entry["cost_usd"], entry["metadata"]) == (event["id"], "0.042", {"of": "capture"})


@pytest.mark.parametrize(
    ("body", "field"),
    [
        *[({"credits": one}, "credits") for one in NO_AMOUNTS],
        *[({"quantity": one}, "quantity") for one in (-1, 0, 1.5, "2", True, 10**9 + 1)],
        ({"credits": 5, "quantity": 1}, "credits"),
        ({"event": "Bad Name"}, "event"),
        ({"event": "*"}, "event"),
        ({"cost_usd": "-1"}, "cost_usd"),
        ({"metadata": [1]}, "metadata"),
        ({"metadata": {"x": "y" * 5000}}, "metadata"),
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"customer_id": "u"}, "customer_id"),
        ({"member": "bob"}, "member"),
        ({"model": "m"}, "model"),
        ({"reason": "r"}, "reason"),
    ],
    ids=repr,
)
def test_a_bad_capture_is_refused_by_its_field_and_leaves_the_hold_open(
    api: httpx.Client, customer: str, body: dict[str, Any], field: str
) -> None:
    made = hold(api, customer, 10)
    assert error_of(capture(api, made["id"], **body), 400, "invalid_request")["field"] == field
    assert api.get(f"/v1/holds/{made['id']}").json() == made


def test_a_capture_whose_product_is_beyond_the_limit_is_refused(api: httpx.Client, customer: str) -> None:
    name = f"dear.{secrets.token_hex(4)}"
    api.put(f"/v1/prices/{name}", json={"credits": 10**12})
    made = hold(api, customer, 10, event=name)
    assert error_of(capture(api, made["id"], quantity=2), 400, "invalid_request")["field"] == "quantity"
    error_of(capture(api, made["id"], quantity=1), 402, "insufficient_credits")


# What is not open any more


@pytest.fixture
def closed(api: httpx.Client, customer: str, request: pytest.FixtureRequest) -> tuple[str, str]:
    """The id of a hold that is not open, and its status."""
    made = hold(api, customer, 10, expires_in=1)
    if request.param == "captured":
        assert capture(api, made["id"], credits=7).status_code == 201
    elif request.param == "released":
        assert release(api, made["id"]).status_code == 200
    else:
        wait_until(made["expires_at"])
    return made["id"], request.param


@pytest.mark.parametrize("closed", ["captured", "released", "expired"], indirect=True)
def test_a_hold_that_is_not_open_says_what_became_of_it(
    api: httpx.Client, customer: str, closed: tuple[str, str]
) -> None:
    hold_id, status = closed
    answers = [capture(api, hold_id), capture(api, hold_id, credits=8)]
    if status != "released":
        answers.append(release(api, hold_id))
    for answer in answers:
        refusal = error_of(answer, 409, "hold_not_open")
        assert refusal["status"] == status
    stands = api.get(f"/v1/holds/{hold_id}").json()
    assert (stands["status"], stands["held"]) == (status, 0)
    assert balance(api, customer) == (93 if status == "captured" else 100)
    check_ledger(api, customer)


def test_a_release_frees_what_was_held_and_the_same_again_answers_alike(api: httpx.Client, customer: str) -> None:
    made = hold(api, customer, 60)
    first = release(api, made["id"], reason="it failed")
    assert first.status_code == 200
    freed = first.json()
    assert (freed["status"], freed["held"], freed["available"], freed["version"]) == ("released", 0, 100, 3)
    charge(api, customer)
    again = release(api, made["id"], reason="it failed")
    assert (again.status_code, again.json(), again.headers["idempotent-replayed"]) == (200, freed, "true")
    assert whole_ledger(api, customer, kind="release")[0]["reason"] == "it failed"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"credits": 1}, "credits"),
        ({"reason": ""}, "reason"),
        ({"reason": "a\x00"}, "reason"),
        ({"reason": 7}, "reason"),
    ],
)
def test_a_bad_release_is_refused_by_its_field(
    api: httpx.Client, customer: str, body: dict[str, Any], field: str
) -> None:
    made = hold(api, customer, 10)
    assert error_of(release(api, made["id"], **body), 400, "invalid_request")["field"] == field
    assert wallet_of(api, customer)["held"] == 10


@pytest.mark.parametrize("hold_id", ["hold_nothing", "evt_1", "'; DROP TABLE holds;--", "x" * 5000, "%00", "%ff", "名"])
def test_a_hold_that_is_none_is_not_found(api: httpx.Client, hold_id: str) -> None:
    for answer in (
        api.get(f"/v1/holds/{hold_id}"),
        api.post(f"/v1/holds/{hold_id}/capture"),
        api.post(f"/v1/holds/{hold_id}/release"),
    ):
        error_of(answer, 404, "not_found")


# Frozen


def test_a_frozen_wallet_lets_holds_end_and_none_begin(api: httpx.Client, customer: str) -> None:
    holds = [hold(api, customer, 10) for _ in range(3)]
    api.patch(f"/v1/wallets/{customer}", json={"frozen": True})
    error_of(api.post("/v1/holds", json={"customer_id": customer, "credits": 1}), 403, "wallet_frozen")
    error_of(capture(api, holds[0]["id"], credits=11), 403, "wallet_frozen")
    assert capture(api, holds[0]["id"], credits=10).json()["balance"] == 90
    assert capture(api, holds[1]["id"], credits=1).json()["balance"] == 89
    assert release(api, holds[2]["id"]).json()["held"] == 0
    check_ledger(api, customer)


# Listed


def test_holds_are_listed_newest_first_by_status_and_a_page_at_a_time(api: httpx.Client, customer: str) -> None:
    made = [hold(api, customer, 1)["id"] for _ in range(5)]
    capture(api, made[0])
    release(api, made[1])
    newest_first = sorted(made, reverse=True)
    times = [one["created_at"] for one in every_hold(api, customer)]
    assert times == sorted(times, reverse=True)
    for size in ("1", "2", "5", "100"):
        assert [one["id"] for one in every_hold(api, customer, limit=size)] == newest_first
    shown = {status: every_hold(api, customer, status=status) for status in ("open", "captured", "released", "expired")}
    assert {status: [one["id"] for one in found] for status, found in shown.items()} == {
        "open": [one for one in newest_first if one not in made[:2]],
        "captured": [made[0]],
        "released": [made[1]],
        "expired": [],
    }
    assert every_hold(api, customer, status="open", limit="2") == shown["open"]
    whole = api.get(f"/v1/holds/{newest_first[0]}").json()
    assert every_hold(api, customer)[0].items() <= whole.items()


@pytest.mark.parametrize(
    ("name", "value"),
    [("status", "lost"), ("status", ""), ("limit", "0"), ("limit", "101"), ("cursor", "zz"), ("kind", "open")],
)
def test_a_bad_parameter_of_the_list_is_refused_by_its_name(
    api: httpx.Client, customer: str, name: str, value: str
) -> None:
    answer = api.get(f"/v1/wallets/{customer}/holds", params={name: value})
    assert error_of(answer, 400, "invalid_request")["field"] == name


@pytest.mark.parametrize("cursor", ["00", "ff", "27", "686f6c645f" * 50, "e5908d"])
def test_a_cursor_of_somebody_elses_making_is_no_fault_of_ours(api: httpx.Client, customer: str, cursor: str) -> None:
    hold(api, customer, 1)
    answer = api.get(f"/v1/wallets/{customer}/holds", params={"cursor": cursor})
    assert answer.status_code in (200, 400), answer.text


def test_the_ledger_says_what_became_of_each_hold(api: httpx.Client, customer: str) -> None:
    made = [hold(api, customer, event="agent.run")["id"] for _ in range(2)]
    capture(api, made[0])
    release(api, made[1])
    told = [(one["kind"], one["description"], one["credits"], one["held"]) for one in check_ledger(api, customer)]
    assert told == [
        ("grant", "Promotional credits", 100, 0),
        ("hold", "Held: Agent run", 0, 25),
        ("hold", "Held: Agent run", 0, 50),
        ("event", "Agent run", -25, 25),
        ("release", "Released: Agent run", 0, 0),
    ]
    assert soon(0) > api.get(f"/v1/holds/{made[1]}").json()["closed_at"]
