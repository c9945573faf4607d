"""Nothing that was answered is lost, and nothing happens twice: killed, stopped, or left by its callers."""

import concurrent.futures
import contextlib
import json
import secrets
import signal
import socket
import threading
import time

import httpx
import pytest
from serving import ADMIN_KEY, ServerProcess, StartServer, charge, grant, whole_ledger

CALLERS = 16
CUSTOMERS = [f"user_{number}" for number in range(4)]


class Load:
    """Callers that send keyed events until the server goes, and remember which were answered and which were not."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._over = threading.Event()
        self.answered: dict[str, dict[str, object]] = {}
        self.unanswered: dict[str, str] = {}

    def run_until(self, answers: int, then: int) -> None:
        """Sends until there are that many answers, then ends the server with a signal while callers go on."""
        with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
            callers = [pool.submit(self._call, number) for number in range(CALLERS)]
            deadline = time.monotonic() + 20
            while len(self.answered) < answers and time.monotonic() < deadline:
                time.sleep(0.002)
            self._server.stop(then)
            self._over.set()
            for caller in callers:
                caller.result()
        assert len(self.answered) >= answers

    def _call(self, number: int) -> None:
        with self._server.client() as api:
            while not self._over.is_set():
                key, customer = secrets.token_hex(8), CUSTOMERS[number % len(CUSTOMERS)]
                try:
                    answer = charge(api, customer, "x.y", credits=1, idempotency_key=key)
                except httpx.HTTPError:
                    self.unanswered[key] = customer
                    return
                if answer.status_code == 201:
                    self.answered[key] = answer.json()
                else:
                    assert answer.status_code == 503, answer.text
                    self.unanswered[key] = customer


def check_ledgers(api: httpx.Client, load: Load) -> None:
    """Every key of the load is in exactly one entry, every version is there, every balance is the sum."""
    keys: list[str] = []
    for customer in CUSTOMERS:
        entries = whole_ledger(api, customer)[::-1]
        assert [one["version"] for one in entries] == list(range(1, len(entries) + 1))
        sums = 0
        for entry in entries:
            sums += entry["credits"]
            assert entry["balance"] == sums
        assert api.get(f"/v1/wallets/{customer}").json()["balance"] == sums
        keys += [one["idempotency_key"] for one in entries if one["kind"] == "event"]
    assert len(keys) == len(set(keys))
    assert set(keys) == load.answered.keys() | load.unanswered.keys()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_a_server_that_goes_during_load_has_every_answered_event_and_the_rest_can_be_sent_again(
    new_server: StartServer, how: int
) -> None:
    server = new_server()
    with server.client() as api:
        for customer in CUSTOMERS:
            grant(api, customer, 100_000)
    load = Load(server)
    load.run_until(300, how)
    server.start()
    with server.client() as api:
        for key, first in load.answered.items():
            again = charge(api, str(first["customer_id"]), "x.y", credits=1, idempotency_key=key)
            assert again.json() == first
            assert again.headers["idempotent-replayed"] == "true"
        for key, customer in load.unanswered.items():
            assert charge(api, customer, "x.y", credits=1, idempotency_key=key).status_code == 201
        check_ledgers(api, load)


def test_a_server_told_to_stop_does_so_in_good_time_and_with_no_fault(new_server: StartServer) -> None:
    server = new_server()
    with server.client() as api:
        grant(api, "u", 10)
        begun = time.monotonic()
        server.stop()
    assert time.monotonic() - begun < 10
    assert server.process is not None
    assert server.process.returncode in (0, -signal.SIGTERM)
    assert "Traceback" not in server.log.read_text()


def test_callers_that_leave_before_their_answer_take_effect_once(
    server: ServerProcess, api: httpx.Client, customer: str
) -> None:
    keys = [secrets.token_hex(8) for _ in range(60)]
    for number, key in enumerate(keys):
        body = json.dumps({"customer_id": customer, "event": "x.y", "credits": 1, "idempotency_key": key})
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            request = (
                f"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_KEY}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
            )
            connection.sendall(request.encode())
            if number % 3:
                connection.settimeout(0.001 * (number % 3))
                with contextlib.suppress(TimeoutError):
                    connection.recv(1)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        statuses = pool.map(
            lambda key: charge(api, customer, "x.y", credits=1, idempotency_key=key).status_code, keys * 2
        )
        assert set(statuses) == {201}
    entries = whole_ledger(api, customer)
    assert sorted(one["idempotency_key"] for one in entries[:-1]) == sorted(keys)
    assert entries[0]["balance"] == 40


def test_a_restart_keeps_wallets_keys_prices_and_tokens(new_server: StartServer) -> None:
    server = new_server()
    with server.client() as api:
        grant(api, "u", 20)
        api.put("/v1/prices/scan.page", json={"credits": 3, "label": "Scan"})
        first = charge(api, "u", "scan.page", idempotency_key="k").json()
        token = server.token("u")
    server.stop()
    server.start()
    with server.client() as api, server.client(token) as browser:
        assert browser.get("/v1/wallets/u").json()["balance"] == 17
        assert charge(api, "u", "scan.page", idempotency_key="k").json() == first
        assert charge(api, "u", "scan.page").json()["balance"] == 14
