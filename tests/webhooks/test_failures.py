"""What outlives a killed server, and what ends: endpoints that fail for long, deliveries that are given up."""

import signal
import socket
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import ServerProcess, StartServer, charge, grant, with_limits
from webhooks.conftest import PRIVATE, QUICK
from webhooks.receiver import Hooks, Received, Receiver, Reply

QuickServer = Callable[..., ServerProcess]


def test_an_endpoint_that_failed_for_long_is_disabled_and_the_others_are_told(
    quick_server: QuickServer, new_receiver: Callable[[], Receiver]
) -> None:
    failing, other = new_receiver(), new_receiver()
    failing.answer = lambda _: Reply(500, b"broken")
    server = quick_server(endpoint_failing_seconds_max=0.5)
    with server.client() as api:
        hooks = Hooks(api)
        endpoint = hooks.add(failing.url)
        hooks.add(other.url, "endpoint.disabled")
        hooks.test(endpoint)
        told = other.next()
        assert told.type == "endpoint.disabled"
        assert told.data["endpoint_id"] == endpoint["id"]
        read = hooks.read(endpoint)
        assert (read["enabled"], read["disabled_reason"]) == (False, told.data["reason"])
        assert told.data["reason"] == f"Nothing has arrived since {read['failing_since']}."
        [delivery] = hooks.deliveries(endpoint, status="failed")
        assert delivery["error"] == f"The endpoint is disabled. {told.data['reason']}"
    assert f"webhook endpoint {endpoint['id']} is disabled" in server.log.read_text()


def test_a_success_in_between_keeps_an_endpoint(quick_server: QuickServer, receiver: Receiver) -> None:
    """One message is refused for ever, others arrive."""
    refused: list[str] = []

    def answer(received: Received) -> Reply:
        if not refused:
            refused.append(received.id)
        return Reply(500) if received.id in refused else Reply()

    receiver.answer = answer
    server = quick_server(endpoint_failing_seconds_max=2.0, delivery_retry_seconds_max=0.3)
    with server.client() as api:
        hooks = Hooks(api)
        endpoint = hooks.add(receiver.url)
        hooks.test(endpoint)
        attempts = 0
        while attempts < 12:
            attempts += receiver.next().id in refused
            hooks.test(endpoint)
        assert hooks.read(endpoint)["enabled"]


def test_a_delivery_is_given_up_and_the_next_one_follows(
    quick_server: QuickServer, receiver: Receiver, customer_id: str
) -> None:
    refused: list[str] = []

    def answer(received: Received) -> Reply:
        if not refused:
            refused.append(received.id)
        return Reply(500, b"never") if received.id in refused else Reply()

    receiver.answer = answer
    server = quick_server(delivery_tries_seconds_max=1.0, delivery_tries_min=3, delivery_retry_seconds_max=0.3)
    with server.client() as api:
        hooks = Hooks(api)
        endpoint = hooks.add(receiver.url, "wallet.low", "wallet.recovered")
        grant(api, customer_id, 20)
        api.patch(f"/v1/wallets/{customer_id}", json={"low_balance_threshold": 15})
        charge(api, customer_id, credits=10)
        grant(api, customer_id, 10)
        while (received := receiver.next()).id in refused:
            assert received.type == "wallet.low"
        assert received.type == "wallet.recovered"
        [failed] = hooks.deliveries(endpoint, status="failed")
        assert (failed["webhook_id"], failed["error"]) == (refused[0], "never")
        assert failed["attempts"] >= 3
        assert failed["ended_at"] is not None
        assert failed["next_attempt_at"] is None


def test_what_was_received_and_not_recorded_is_sent_again(quick_server: QuickServer, receiver: Receiver) -> None:
    killed = threading.Event()

    def answer(_: Received) -> Reply:
        killed.wait(20)
        return Reply()

    receiver.answer = answer
    server = quick_server()
    with server.client() as api:
        hooks = Hooks(api)
        endpoint = hooks.add(receiver.url)
        hooks.test(endpoint)
    first = receiver.next()
    server.stop(signal.SIGKILL)
    killed.set()
    server.start()
    again = receiver.next(60)  # on PostgreSQL the lease of the one that was killed has to end
    assert (again.id, again.body) == (first.id, first.body)
    again.verify(endpoint["secret"])
    with server.client() as api:
        assert Hooks(api).ended(endpoint)[0]["status"] == "delivered"


def test_a_server_that_stops_waits_for_what_is_under_way(quick_server: QuickServer, receiver: Receiver) -> None:
    server = quick_server(deliveries_stop_seconds_max=20.0)
    stopping = threading.Event()

    def answer(_: Received) -> Reply:
        stopping.wait(20)
        return Reply()

    receiver.answer = answer
    with server.client() as api:
        endpoint = Hooks(api).add(receiver.url)
        Hooks(api).test(endpoint)
    receiver.next()
    assert server.process is not None
    server.process.send_signal(signal.SIGTERM)
    while listens(server):
        stopping.wait(0.01)
    stopping.set()
    server.stop()
    server.start()
    with server.client() as api:
        [delivery] = Hooks(api).ended(endpoint)
        assert (delivery["status"], delivery["attempts"]) == ("delivered", 1)


def listens(server: ServerProcess) -> bool:
    """Whether it takes connections; one that stops ceases to before anything else."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", server.port)) == 0


@pytest.mark.postgresql
def test_two_servers_deliver_once(new_server: StartServer, tmp_path: Path, receiver: Receiver) -> None:
    settings = PRIVATE | with_limits(tmp_path, **QUICK)
    first, second = new_server(**settings), new_server(**settings)
    with first.client() as api, second.client() as other:
        endpoint = Hooks(api).add(receiver.url)
        sent = [Hooks(one).test(endpoint)["webhook_id"] for _ in range(20) for one in (api, other)]
        assert sorted(received.id for received in receiver.take(len(sent))) == sorted(sent)
        first.stop()
        last = Hooks(other).test(endpoint)["webhook_id"]
        assert receiver.next().id == last


def test_a_grant_that_expires_soon_is_told_of_once(
    quick_server: QuickServer, receiver: Receiver, customer_id: str
) -> None:
    server = quick_server(grant_expiring_seconds=1.5)
    with server.client() as api:
        hooks = Hooks(api)
        endpoint = hooks.add(receiver.url, "grant.expiring")
        now = api.post("/v1/wallets", json={"customer_id": customer_id}).json()["created_at"]
        made = grant_until(api, customer_id, now, seconds=4)
        grant_until(api, customer_id, now, seconds=2.9)  # lives for less than twice the time
        told = receiver.next()
        assert told.data == {
            "customer_id": customer_id,
            "grant_id": made["id"],
            "category": "promotional",
            "credits_remaining": 70,
            "expires_at": made["expires_at"],
        }
        hooks.once(lambda: api.get(f"/v1/wallets/{customer_id}").json()["balance"], lambda left: left == 0)
        assert len(hooks.deliveries(endpoint)) == 1
        assert receiver.is_quiet


def grant_until(api: httpx.Client, customer_id: str, now: str, seconds: float) -> dict[str, Any]:
    until = (datetime.fromisoformat(now) + timedelta(seconds=seconds)).isoformat()
    answer = api.post(
        f"/v1/wallets/{customer_id}/grants", json={"credits": 70, "category": "promotional", "expires_at": until}
    )
    assert answer.status_code == 201, answer.text
    return answer.json()
