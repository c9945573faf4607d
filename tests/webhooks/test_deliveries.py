"""Deliveries over real HTTP: signed, tried again, in order for each wallet, and none held up by another."""

import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from serving import charge, error_of, grant
from standardwebhooks import WebhookVerificationError
from webhooks.receiver import Hooks, Received, Receiver, Reply, closed_port

from app import __version__
from app.config import LIMITS


def put_price(api: httpx.Client, credits: int = 8) -> dict[str, Any]:
    answer = api.put("/v1/prices/doc.scan", json={"credits": credits, "label": "Scan", "per_model": {"m": 3}})
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def fail_first(count: int, reply: Reply) -> Callable[[Received], Reply]:
    """Refuses so many requests, then takes them."""
    left = [count]

    def answer(_: Received) -> Reply:
        left[0] -= 1
        return reply if left[0] >= 0 else Reply()

    return answer


def test_a_change_of_price_arrives_signed(api: httpx.Client, hooks: Hooks, receiver: Receiver) -> None:
    endpoint = hooks.add(f"{receiver.url}?from=chargly", "price.changed")
    price = put_price(api)
    received = receiver.next()
    message = received.verify(endpoint["secret"])
    names = ("event", "version", "credits", "label", "per_model", "tiers", "minimum", "archived", "effective_at")
    assert message == {
        "type": "price.changed",
        "timestamp": price["created_at"],
        "data": {name: price[name] for name in names} | {"withdrawn": False},
    }
    assert received.path == "/hooks?from=chargly"
    assert received.headers["content-type"] == "application/json"
    assert received.headers["user-agent"] == f"Chargly/{__version__}"
    assert received.headers["host"] == f"127.0.0.1:{receiver.port}"
    with pytest.raises(WebhookVerificationError):
        received.verify("whsec_" + "A" * 44)
    [delivery] = hooks.ended(endpoint)
    assert delivery["status"] == "delivered"
    assert (delivery["attempts"], delivery["answer_status"], delivery["error"]) == (1, 204, None)
    assert delivery["payload"] == message
    assert delivery["webhook_id"] == received.id


def test_an_archived_price_is_told(api: httpx.Client, hooks: Hooks, receiver: Receiver) -> None:
    price = put_price(api)
    hooks.add(receiver.url, "price.changed")
    assert api.delete("/v1/prices/doc.scan").status_code == 204
    data = receiver.next().data
    assert (data["archived"], data["version"]) == (True, price["version"] + 1)


def test_only_what_is_listened_to_is_told(
    api: httpx.Client, hooks: Hooks, new_receiver: Callable[[], Receiver], customer: str
) -> None:
    listens, other = new_receiver(), new_receiver()
    hooks.add(listens.url, "price.changed")
    endpoint = hooks.add(other.url, "wallet.low", "wallet.depleted")
    put_price(api)
    listens.next()
    hooks.test(endpoint)
    assert other.next().type == "webhook.test"
    assert len(hooks.deliveries(endpoint)) == 1


def test_it_is_tried_again_under_the_same_id(hooks: Hooks, receiver: Receiver) -> None:
    receiver.answer = fail_first(2, Reply(500, b"not now,\n\x00\x1b[31m later " + b"x" * 5_000))
    endpoint = hooks.add(receiver.url)
    hooks.test(endpoint)
    first, second, third = receiver.take(3)
    assert first.id == second.id == third.id
    assert first.body == second.body == third.body
    for received in (first, second, third):
        received.verify(endpoint["secret"])
    [delivery] = hooks.ended(endpoint)
    assert (delivery["status"], delivery["attempts"], delivery["answer_status"]) == ("delivered", 3, 204)
    assert hooks.read(endpoint)["failing_since"] is None


def test_why_it_failed_is_shown(hooks: Hooks, receiver: Receiver) -> None:
    receiver.answer = lambda _: Reply(500, b"not now,\n\x00\x1b[31m later " + b"x" * 100_000)
    endpoint = hooks.add(receiver.url)
    hooks.test(endpoint)
    receiver.take(2)
    [delivery] = hooks.deliveries(endpoint, status="pending")
    assert delivery["answer_status"] == 500
    assert delivery["error"].startswith("not now, [31m later xxx")
    assert len(delivery["error"]) == LIMITS.delivery_error_characters_max
    assert delivery["next_attempt_at"] is not None
    assert hooks.read(endpoint)["failing_since"] is not None


def test_an_endpoint_that_is_away_is_tried_again(hooks: Hooks) -> None:
    endpoint = hooks.add(f"http://127.0.0.1:{closed_port()}")
    hooks.test(endpoint)
    [delivery] = hooks.once(lambda: hooks.deliveries(endpoint), lambda found: found[0]["attempts"] > 1)
    assert (delivery["status"], delivery["answer_status"]) == ("pending", None)
    assert delivery["error"] == "No connection: Connection refused"


def test_a_redirect_is_a_failure_and_is_not_followed(hooks: Hooks, new_receiver: Callable[[], Receiver]) -> None:
    receiver, inner = new_receiver(), new_receiver()
    receiver.answer = lambda _: Reply(307, headers={"location": inner.url})
    endpoint = hooks.add(receiver.url)
    hooks.test(endpoint)
    receiver.take(2)
    assert inner.is_quiet
    [delivery] = hooks.deliveries(endpoint)
    assert (delivery["status"], delivery["answer_status"]) == ("pending", 307)


def test_an_answer_is_a_success_though_its_body_never_ends(hooks: Hooks, receiver: Receiver) -> None:
    receiver.answer = lambda _: Reply(200, b"", {"content-length": "1000000"})
    endpoint = hooks.add(receiver.url)
    hooks.test(endpoint)
    receiver.next()
    [delivery] = hooks.ended(endpoint)
    assert (delivery["status"], delivery["attempts"]) == ("delivered", 1)


def test_what_a_wallet_says_comes_in_order_though_it_fails(
    api: httpx.Client, hooks: Hooks, receiver: Receiver, customer_id: str
) -> None:
    receiver.answer = fail_first(4, Reply(503))
    hooks.add(receiver.url, "wallet.low", "wallet.recovered")
    grant(api, customer_id, 20)
    api.patch(f"/v1/wallets/{customer_id}", json={"low_balance_threshold": 15})
    for _ in range(3):
        assert charge(api, customer_id, credits=10).status_code == 201
        grant(api, customer_id, 10)
    taken = []
    while len(taken) < 6:
        received = receiver.next()
        if received.id not in taken:
            taken.append(received.id)
        assert received.id == taken[-1]  # none comes before the one ahead of it has arrived
        last = received
    assert last.type == "wallet.recovered"


def test_wallets_do_not_wait_for_each_other(api: httpx.Client, hooks: Hooks, receiver: Receiver) -> None:
    customers = [f"parallel_{number}" for number in range(4)]
    together = threading.Barrier(len(customers) + 1)

    def answer(_: Received) -> Reply:
        together.wait(20)
        return Reply()

    receiver.answer = answer
    hooks.add(receiver.url, "wallet.low")
    for customer_id in customers:
        grant(api, customer_id, 20)
        api.patch(f"/v1/wallets/{customer_id}", json={"low_balance_threshold": 15})
        charge(api, customer_id, credits=10)
    together.wait(20)
    assert {received.data["customer_id"] for received in receiver.take(4)} == set(customers)


def test_an_endpoint_that_hangs_holds_up_no_other(
    api: httpx.Client, hooks: Hooks, new_receiver: Callable[[], Receiver]
) -> None:
    hanging, good = new_receiver(), new_receiver()
    hanging.answer = hanging.hang
    stuck, endpoint = hooks.add(hanging.url), hooks.add(good.url)
    for _ in range(LIMITS.deliveries_per_endpoint_at_once + 10):
        hooks.test(stuck)
    hanging.take(LIMITS.deliveries_per_endpoint_at_once)
    sent = {hooks.test(endpoint)["webhook_id"] for _ in range(20)}
    assert {received.id for received in good.take(20)} == sent
    assert hanging.is_quiet
    assert all(delivery["status"] == "pending" for delivery in hooks.deliveries(stuck))


def test_both_secrets_sign_while_a_rotation_lasts(api: httpx.Client, hooks: Hooks, receiver: Receiver) -> None:
    endpoint = hooks.add(receiver.url)
    path = f"/v1/webhook-endpoints/{endpoint['id']}/rotate"
    rotated = api.post(path).json()
    assert rotated["secret"] != endpoint["secret"]
    assert rotated["former_secret_until"] is not None
    hooks.test(endpoint)
    received = receiver.next()
    received.verify(endpoint["secret"])
    received.verify(rotated["secret"])
    ended = api.post(path, json={"overlap_seconds": 0}).json()
    assert ended["former_secret_until"] is None
    hooks.test(endpoint)
    received = receiver.next()
    received.verify(ended["secret"])
    for former in (endpoint["secret"], rotated["secret"]):
        with pytest.raises(WebhookVerificationError):
            received.verify(former)


def test_gone_disables_at_once_and_the_others_are_told(
    api: httpx.Client, hooks: Hooks, new_receiver: Callable[[], Receiver]
) -> None:
    leaving, other = new_receiver(), new_receiver()
    leaving.answer = lambda _: Reply(410)
    endpoint = hooks.add(leaving.url)
    hooks.add(other.url, "endpoint.disabled")
    hooks.test(endpoint)
    told = other.next()
    assert told.type == "endpoint.disabled"
    assert told.data == {"endpoint_id": endpoint["id"], "url": leaving.url, "reason": "It answered 410 Gone."}
    read = hooks.read(endpoint)
    assert (read["enabled"], read["disabled_reason"]) == (False, "It answered 410 Gone.")
    [delivery] = hooks.deliveries(endpoint)
    assert (delivery["status"], delivery["answer_status"]) == ("failed", 410)
    for path in ("test", f"deliveries/{delivery['id']}/retry"):
        refused = api.post(f"/v1/webhook-endpoints/{endpoint['id']}/{path}")
        assert error_of(refused, 400, "invalid_request")["field"] == "enabled"
    leaving.answer = lambda _: Reply()
    enabled = api.patch(f"/v1/webhook-endpoints/{endpoint['id']}", json={"enabled": True}).json()
    assert (enabled["enabled"], enabled["disabled_reason"]) == (True, None)
    again = api.post(f"/v1/webhook-endpoints/{endpoint['id']}/deliveries/{delivery['id']}/retry").json()
    assert (again["status"], again["webhook_id"]) == ("pending", delivery["webhook_id"])
    assert [received.id for received in leaving.take(2)] == [delivery["webhook_id"]] * 2
    assert hooks.ended(endpoint)[0]["status"] == "delivered"


def test_what_arrived_is_sent_again_when_asked(api: httpx.Client, hooks: Hooks, receiver: Receiver) -> None:
    endpoint = hooks.add(receiver.url)
    delivery = hooks.test(endpoint)
    first = receiver.next()
    hooks.ended(endpoint)
    path = f"/v1/webhook-endpoints/{endpoint['id']}/deliveries"
    assert api.post(f"{path}/{delivery['id']}/retry").status_code == 202
    again = receiver.next()
    assert (again.id, again.body) == (first.id, first.body)
    assert hooks.once(lambda: hooks.deliveries(endpoint)[0], lambda one: one["attempts"] == 2)["status"] == "delivered"
    other = hooks.add(receiver.url)
    for wrong in (f"{path}/del_none/retry", f"/v1/webhook-endpoints/{other['id']}/deliveries/{delivery['id']}/retry"):
        error_of(api.post(wrong), 404, "not_found")


def test_a_deleted_endpoint_is_sent_nothing_more(api: httpx.Client, hooks: Hooks, receiver: Receiver) -> None:
    deleted = threading.Event()

    def answer(_: Received) -> Reply:
        deleted.wait(20)
        return Reply(500)

    receiver.answer = answer
    endpoint = hooks.add(receiver.url)
    hooks.test(endpoint)
    receiver.next()
    assert api.delete(f"/v1/webhook-endpoints/{endpoint['id']}").status_code == 204
    deleted.set()
    error_of(api.get(f"/v1/webhook-endpoints/{endpoint['id']}/deliveries"), 404, "not_found")
    other = hooks.add(receiver.url)
    sent = hooks.test(other)["webhook_id"]
    assert {received.id for received in receiver.take(3)} == {sent}


def test_a_disabled_endpoint_fails_what_waits(api: httpx.Client, hooks: Hooks, receiver: Receiver) -> None:
    receiver.answer = lambda _: Reply(500)
    endpoint = hooks.add(receiver.url)
    hooks.test(endpoint)
    receiver.next()
    disabled = api.patch(f"/v1/webhook-endpoints/{endpoint['id']}", json={"enabled": False}).json()
    assert (disabled["enabled"], disabled["disabled_reason"]) == (False, "It was disabled by hand.")
    [delivery] = hooks.deliveries(endpoint)
    assert delivery["status"] == "failed"
    put_price(api)
    assert len(hooks.deliveries(endpoint)) == 1


def test_deliveries_are_listed_by_page_and_status(hooks: Hooks, api: httpx.Client, receiver: Receiver) -> None:
    endpoint = hooks.add(receiver.url)
    sent = [hooks.test(endpoint)["id"] for _ in range(5)]
    receiver.take(5)
    hooks.once(lambda: hooks.deliveries(endpoint, status="delivered"), lambda found: len(found) == 5)
    assert hooks.deliveries(endpoint, status="pending") == []
    found, cursor = [], {}
    while True:
        page = api.get(f"/v1/webhook-endpoints/{endpoint['id']}/deliveries", params={"limit": "2", **cursor}).json()
        found += [delivery["id"] for delivery in page["deliveries"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert found == sorted(sent, reverse=True)
    path = f"/v1/webhook-endpoints/{endpoint['id']}/deliveries"
    assert error_of(api.get(path, params={"status": "lost"}), 400, "invalid_request")["field"] == "status"
    assert error_of(api.get(path, params={"cursor": "6162"}), 400, "invalid_request")["field"] == "cursor"


def test_attempts_are_counted(api: httpx.Client, hooks: Hooks, receiver: Receiver) -> None:
    receiver.answer = fail_first(1, Reply(500))
    endpoint = hooks.add(receiver.url)
    hooks.test(endpoint)
    receiver.take(2)
    hooks.ended(endpoint)
    counted = httpx.get(f"{api.base_url}/metrics".replace("//metrics", "/metrics")).text
    for result in ("delivered", "pending"):
        assert f'chargly_webhook_deliveries_total{{result="{result}"}}' in counted
    assert "chargly_webhook_deliveries_pending" in counted
