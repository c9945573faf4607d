"""Many events in one call: each stands alone, and the call may be sent again."""

import json
import re
import secrets
from typing import Any

import httpx
import pytest
from ledgers import at_once, check_ledger, wallet_of
from serving import ServerProcess, balance, charge, error_of, grant, whole_ledger

JSON = {"Content-Type": "application/json"}


def send(api: httpx.Client, items: list[Any]) -> dict[str, Any]:
    answer = api.post("/v1/events/batch", json={"events": items})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert len(body["results"]) == len(items) == body["accepted"] + body["rejected"]
    return body


def statuses(body: dict[str, Any]) -> list[int]:
    return [result["status"] for result in body["results"]]


def item(customer_id: str, **fields: Any) -> dict[str, Any]:
    return {"customer_id": customer_id, "event": "chat.reply", **fields}


def test_a_batch_answers_each_event_as_it_would_have_been_alone(api: httpx.Client, customer: str) -> None:
    body = send(api, [item(customer, metadata={"n": 1}), item(customer, event="no.price"), item(customer, credits=93)])
    assert (body["accepted"], body["rejected"]) == (1, 2)
    first, unknown, dear = body["results"]
    assert list(first) == ["status", "event"]
    assert api.get(f"/v1/events/{first['event']['id']}").json() == first["event"]
    assert (first["event"]["balance"], first["event"]["version"]) == (92, 2)
    assert list(unknown) == list(dear) == ["status", "error"]
    assert (unknown["status"], unknown["error"]["code"], unknown["error"]["event"]) == (
        404,
        "unknown_event",
        "no.price",
    )
    assert (dear["status"], dear["error"]["code"]) == (402, "insufficient_credits")
    assert (dear["error"]["required"], dear["error"]["available"], dear["error"]["balance"]) == (93, 92, 92)
    check_ledger(api, customer)


def test_items_stand_alone_and_their_order_is_kept_within_a_customer(api: httpx.Client, customer: str) -> None:
    grant(api, other := f"{customer}_2", 20)
    order = [(customer, 60), (other, 15), (customer, 50), (other, 6), (customer, 40), (other, 5), (customer, 1)]
    body = send(api, [item(one, credits=credits) for one, credits in order])
    assert statuses(body) == [201, 201, 402, 402, 201, 201, 402]
    events = [result["event"] for result in body["results"] if result["status"] == 201]
    assert [(event["customer_id"], event["balance"]) for event in events] == [
        (customer, 40),
        (other, 5),
        (customer, 0),
        (other, 0),
    ]
    for one in (customer, other):
        assert [entry["version"] for entry in check_ledger(api, one)] == [1, 2, 3]


def test_a_batch_sent_again_happens_once_and_says_so(api: httpx.Client, customer: str) -> None:
    items = [item(customer, credits=20, idempotency_key=f"b{number}") for number in range(7)]
    first = send(api, items)
    assert statuses(first) == [201] * 5 + [402] * 2
    assert not any("replayed" in result for result in first["results"])
    again = send(api, items)
    assert statuses(again) == statuses(first)
    for before, after in zip(first["results"][:5], again["results"][:5], strict=True):
        assert after == before | {"replayed": True}
    grant(api, customer, 100)
    late = send(api, items)
    assert [result.get("replayed") for result in late["results"]] == [True] * 5 + [None] * 2
    assert balance(api, customer) == 60
    check_ledger(api, customer)


def test_events_without_keys_happen_each_time(api: httpx.Client, customer: str) -> None:
    for left in (84, 68):
        send(api, [item(customer), item(customer)])
        assert balance(api, customer) == left


def test_one_key_twice_in_one_call_happens_once_and_another_request_with_it_is_a_conflict(
    api: httpx.Client, customer: str
) -> None:
    keyed = item(customer, idempotency_key="k")
    body = send(api, [keyed, keyed, keyed | {"quantity": 2}, item(f"{customer}_2", idempotency_key="k"), keyed])
    assert statuses(body) == [201, 201, 409, 402, 201]
    first, second, conflict, _, last = body["results"]
    assert "replayed" not in first
    assert second == last == first | {"replayed": True}
    assert conflict["error"]["code"] == "idempotency_conflict"
    assert balance(api, customer) == 92


def test_a_refused_item_does_not_use_up_its_key(api: httpx.Client, customer: str) -> None:
    body = send(api, [item(customer, credits=101, idempotency_key="k"), item(customer, credits=5, idempotency_key="k")])
    assert statuses(body) == [402, 201]
    error_of(charge(api, customer, credits=101, idempotency_key="k"), 409, "idempotency_conflict")


def test_a_key_finds_its_event_whether_it_was_sent_alone_or_in_a_batch(api: httpx.Client, customer: str) -> None:
    alone = charge(api, customer, idempotency_key="alone").json()
    body = send(api, [item(customer, idempotency_key="alone"), item(customer, idempotency_key="batch")])
    assert body["results"][0] == {"status": 201, "event": alone, "replayed": True}
    again = charge(api, customer, idempotency_key="batch")
    assert (again.json(), again.headers["idempotent-replayed"]) == (body["results"][1]["event"], "true")
    headed = api.post("/v1/events", json=item(customer), headers={"Idempotency-Key": "batch"})
    assert headed.json() == again.json()
    assert balance(api, customer) == 84


def test_somebody_never_seen_is_made_by_the_first_item_that_passes_and_by_no_refused_one(
    api: httpx.Client, customer_id: str
) -> None:
    name = f"free.{secrets.token_hex(4)}"
    api.put(f"/v1/prices/{name}", json={"credits": 0})
    refused = f"{customer_id}_2"
    body = send(api, [item(customer_id), item(customer_id, event=name), item(refused), item(customer_id)])
    assert statuses(body) == [402, 201, 402, 402]
    assert balance(api, customer_id) == 0
    error_of(api.get(f"/v1/wallets/{refused}"), 404, "not_found")


def test_limits_and_frozen_wallets_refuse_items_alone(api: httpx.Client, customer: str) -> None:
    api.patch(f"/v1/wallets/{customer}/members/alice", json={"spend_limit": {"credits": 10, "per": "day"}})
    grant(api, cold := f"{customer}_2", 20)
    api.patch(f"/v1/wallets/{cold}", json={"frozen": True})
    body = send(api, [item(customer, member="alice"), item(cold), item(customer, member="alice"), item(customer)])
    assert statuses(body) == [201, 403, 402, 201]
    assert body["results"][1]["error"]["code"] == "wallet_frozen"
    limit = body["results"][2]["error"]
    assert (limit["code"], limit["scope"], limit["limit"], limit["spent"]) == ("spend_limit_reached", "member", 10, 8)


# What is none


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({"credits": 0}, ".credits"),
        ({"credits": 8.0}, ".credits"),
        ({"credits": "8"}, ".credits"),
        ({"credits": True}, ".credits"),
        ({"credits": 10**13}, ".credits"),
        ({"credits": 2**64}, ".credits"),
        ({"quantity": 0}, ".quantity"),
        ({"quantity": None}, ".quantity"),
        ({"customer_id": "a/b"}, ".customer_id"),
        ({"customer_id": None}, ".customer_id"),
        ({"event": "Bad Name"}, ".event"),
        ({"model": "a\x00"}, ".model"),
        ({"member": "m" * 256}, ".member"),
        ({"cost_usd": "-1"}, ".cost_usd"),
        ({"metadata": [1]}, ".metadata"),
        ({"metadata": {"x": "y" * 5000}}, ".metadata"),
        ({"idempotency_key": ""}, ".idempotency_key"),
        ({"idempotency_key": "k" * 256}, ".idempotency_key"),
        ({"idempotency_key": 7}, ".idempotency_key"),
        ({"creditz": 1}, ".creditz"),
    ],
    ids=repr,
)
def test_a_bad_item_is_told_by_its_number_and_field_and_hurts_no_other(
    api: httpx.Client, customer: str, bad: dict[str, Any], field: str
) -> None:
    body = send(api, [item(customer, credits=1)] * 3 + [item(customer) | bad] + [item(customer, credits=1)])
    assert statuses(body) == [201, 201, 201, 400, 201]
    error = body["results"][3]["error"]
    assert (error["code"], error["field"]) == ("invalid_request", f"events[3]{field}")
    assert balance(api, customer) == 96


@pytest.mark.parametrize("bad", [7, "text", None, True, [], [{}], 1.5], ids=repr)
def test_an_item_that_is_no_object_is_told_by_its_number(api: httpx.Client, customer: str, bad: Any) -> None:
    body = send(api, [item(customer), bad])
    assert statuses(body) == [201, 400]
    error = body["results"][1]["error"]
    assert (error["code"], error["field"]) == ("invalid_request", "events[1]")


def test_an_item_that_lacks_a_field_is_told_by_it(api: httpx.Client) -> None:
    body = send(api, [{}, {"customer_id": "u"}, {"event": "chat.reply"}])
    assert [result["error"]["field"] for result in body["results"]] == [
        "events[0].customer_id",
        "events[1].event",
        "events[2].customer_id",
    ]


def test_a_batch_in_which_every_item_is_wrong_is_answered_and_writes_nothing(api: httpx.Client, customer: str) -> None:
    wrong = [item(customer, credits=-1), 7, item(customer, event="no.price"), item(customer, credits=10**6), {}]
    body = send(api, wrong)
    assert (body["accepted"], body["rejected"]) == (0, 5)
    assert statuses(body) == [400, 400, 404, 402, 400]
    assert wallet_of(api, customer)["version"] == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"events": []}, "events"),
        ({"events": [{}] * 1001}, "events"),
        ({"events": None}, "events"),
        ({"events": {}}, "events"),
        ({"events": "all"}, "events"),
        ({}, "events"),
        ({"events": [{}], "idempotency_key": "k"}, "idempotency_key"),
        ({"events": [{}], "customer_id": "u"}, "customer_id"),
        ([], "body"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_call_that_is_no_batch_is_refused_by_its_field(api: httpx.Client, body: Any, field: str) -> None:
    assert error_of(api.post("/v1/events/batch", json=body), 400, "invalid_request")["field"] == field


def test_a_key_in_the_header_is_refused(api: httpx.Client, customer: str) -> None:
    answer = api.post("/v1/events/batch", json={"events": [item(customer)]}, headers={"Idempotency-Key": "k"})
    assert error_of(answer, 400, "invalid_request")["field"] == "idempotency_key"
    assert balance(api, customer) == 100


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b'{"events": [',
        b'{"events": [{}',
        b'{"events": [{}]',
        b'{"events": [{"customer_id": "\xff"}]}',
        b'{"events": [{"customer_id": "\\ud800"}]}',
        b'{"events": [NaN]}',
        b'{"events": [{"credits": NaN}]}',
        b'{"events": [{"credits": 1e400}]}',
        b'{"events": [{"credits": ' + b"9" * 5000 + b"}]}",
        b'{"events": [{"metadata": {"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}}]}",
        b'{"events": ' + b"[" * 200_000,
        b'{"events": [{}]} {}',
    ],
    ids=range(13),
)
def test_what_is_no_json_is_refused_whole_or_by_the_item(api: httpx.Client, customer: str, raw: bytes) -> None:
    answer = api.post("/v1/events/batch", content=raw, headers=JSON)
    if answer.status_code == 200:
        [result] = answer.json()["results"]
        assert result["status"] == 400
        assert result["error"]["code"] in ("invalid_json", "invalid_request")
    else:
        assert answer.json()["error"]["code"] in ("invalid_json", "invalid_request")
        error_of(answer, 400, answer.json()["error"]["code"])
    assert charge(api, customer).status_code == 201


# How much


def test_a_thousand_events_go_in_one_call_and_again(api: httpx.Client, customer_id: str) -> None:
    customers = [f"{customer_id}_{number}" for number in range(4)]
    for one in customers:
        grant(api, one, 1000)
    items = [item(customers[n % 4], credits=1, idempotency_key=f"k{n}", metadata={"n": n}) for n in range(1000)]
    body = send(api, items)
    assert body["accepted"] == 1000
    events = [result["event"] for result in body["results"]]
    assert [event["metadata"]["n"] for event in events] == list(range(1000))
    assert [event["version"] for event in events] == [2 + n // 4 for n in range(1000)]
    again = send(api, items)
    assert [result["event"] for result in again["results"]] == events
    assert all(result["replayed"] for result in again["results"])
    for one in customers:
        assert check_ledger(api, one)[-1]["balance"] == 750


def test_a_body_of_eight_mebibytes_is_read_and_a_byte_more_is_not(api: httpx.Client, customer: str) -> None:
    most = 8 * 1024 * 1024
    content = json.dumps({"events": [item(customer)]}).encode()
    answer = api.post("/v1/events/batch", content=content.ljust(most), headers=JSON)
    assert (answer.status_code, answer.json()["accepted"]) == (200, 1)
    refusal = error_of(
        api.post("/v1/events/batch", content=content.ljust(most + 1), headers=JSON), 413, "body_too_large"
    )
    assert refusal["limit_bytes"] == most
    assert balance(api, customer) == 92


def test_a_thousand_events_with_all_the_metadata_that_may_be_kept(api: httpx.Client, customer_id: str) -> None:
    grant(api, customer_id, 1000)
    pad = "p" * 4000
    body = send(api, [item(customer_id, credits=1, metadata={"pad": pad}) for _ in range(1000)])
    assert body["accepted"] == 1000
    assert balance(api, customer_id) == 0


# At once


def test_one_batch_sent_ten_times_at_once_happens_once(server: ServerProcess, api: httpx.Client, customer: str) -> None:
    items = [item(customer, credits=1, idempotency_key=f"k{number}") for number in range(50)]
    bodies = at_once([lambda: send(api, items)] * 10)
    for place in range(50):
        results = [body["results"][place] for body in bodies]
        assert len({result["event"]["id"] for result in results}) == 1
        assert sum("replayed" not in result for result in results) == 1
    assert len(whole_ledger(api, customer)) == 51
    assert check_ledger(api, customer)[-1]["balance"] == 50


def test_batches_and_single_events_that_race_spend_no_more_than_there_is(api: httpx.Client, customer: str) -> None:
    calls = [lambda: send(api, [item(customer, credits=3)] * 20)["accepted"]] * 5
    singles = [lambda: int(charge(api, customer, credits=3).status_code == 201)] * 20
    assert sum(at_once(calls + singles)) == 33
    assert check_ledger(api, customer)[-1]["balance"] == 1


def test_ids_of_a_batch_are_events_own(api: httpx.Client, customer: str) -> None:
    body = send(api, [item(customer, credits=1)] * 20)
    ids = [result["event"]["id"] for result in body["results"]]
    assert len(set(ids)) == 20
    assert all(re.fullmatch(r"evt_[0-9a-z]{26}", one) for one in ids)
    assert [entry["id"] for entry in whole_ledger(api, customer)[-2::-1]] == ids
