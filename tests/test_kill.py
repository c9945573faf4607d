"""Twenty times `kill -9` at a random moment under load: nothing answered is lost, and nothing happens twice."""

import concurrent.futures
import random
import secrets
import signal
import threading
import time
from typing import Any

import httpx
import msgspec
import pytest
from serving import ServerProcess, StartServer, grant

ROUNDS = 20
CALLERS = 4
CUSTOMERS = [f"user_{number}" for number in range(3)]
FUNDS = 10**6


class Call(msgspec.Struct, frozen=True):
    """A request that may be sent again: it carries its key."""

    path: str
    body: dict[str, Any]

    def send(self, api: httpx.Client) -> httpx.Response:
        return api.post(self.path, json=self.body)


class Load:
    """Callers that meter, hold, capture and send batches until the server goes."""

    def __init__(self, server: ServerProcess, seed: int) -> None:
        self._server = server
        self._seed = seed
        self._over = threading.Event()
        self.answered: list[tuple[Call, Any]] = []
        self.unanswered: list[Call] = []

    def run_until_killed(self, seconds: float) -> None:
        with concurrent.futures.ThreadPoolExecutor(CALLERS) as pool:
            callers = [pool.submit(self._call, number) for number in range(CALLERS)]
            time.sleep(seconds)  # the moment of the kill is the point, and nothing tells of it
            self._server.stop(signal.SIGKILL)
            self._over.set()
            for caller in callers:
                caller.result()

    def _call(self, number: int) -> None:
        chance = random.Random(self._seed * CALLERS + number)
        with self._server.client() as api:
            while not self._over.is_set():
                for call in self._calls(chance):
                    if (answer := self._send(api, call)) is None:
                        return
                    if call.path == "/v1/holds":
                        capture = {"credits": chance.randint(1, 9), "idempotency_key": secrets.token_hex(8)}
                        if self._send(api, Call(f"/v1/holds/{answer['id']}/capture", capture)) is None:
                            return

    def _calls(self, chance: random.Random) -> list[Call]:
        customer = chance.choice(CUSTOMERS)
        event = {"customer_id": customer, "event": "x.y", "credits": chance.randint(1, 9)}
        held = {"customer_id": customer, "credits": chance.randint(1, 9)}
        batch = [event | {"idempotency_key": secrets.token_hex(8)} for _ in range(chance.randint(1, 20))]
        return [
            Call("/v1/events", event | {"idempotency_key": secrets.token_hex(8)}),
            Call("/v1/holds", held | {"idempotency_key": secrets.token_hex(8)}),
            Call("/v1/events/batch", {"events": batch}),
        ]

    def _send(self, api: httpx.Client, call: Call) -> Any | None:
        try:
            answer = call.send(api)
        except httpx.HTTPError:
            self.unanswered.append(call)
            return None
        if answer.status_code == 503:
            self.unanswered.append(call)
            return None
        assert answer.status_code in (200, 201), answer.text
        self.answered.append((call, answer.json()))
        return answer.json()


def as_first_answered(answer: Any) -> Any:
    """An answer without what tells a replay from a first answer."""
    if "results" not in answer:
        return answer
    return [{name: one[name] for name in one if name != "replayed"} for one in answer["results"]]


@pytest.mark.sqlite
def test_twenty_kills_lose_nothing_answered_and_double_nothing(new_server: StartServer) -> None:
    server = new_server()
    with server.client() as api:
        for customer in CUSTOMERS:
            grant(api, customer, FUNDS)
    seed = secrets.randbits(32)
    moments = random.Random(seed)
    answers = 0
    for number in range(ROUNDS):
        load = Load(server, seed + number)
        load.run_until_killed(moments.uniform(0.05, 0.4))
        with concurrent.futures.ThreadPoolExecutor(1) as beside:
            verifying = beside.submit(server.run, "verify")
            server.start()
        assert verifying.result().returncode == 0, f"seed {seed}, round {number}: {verifying.result()}"
        check(server, load, f"seed {seed}, round {number}")
        answers += len(load.answered)
    assert answers > ROUNDS * 10
    assert server.run("verify").returncode == 0


def check(server: ServerProcess, load: Load, where: str) -> None:
    """Each answered call replays its answer, each unanswered one takes effect now or has: together they are all."""
    with server.client() as api:
        for call, first in random.sample(load.answered, min(40, len(load.answered))):
            again = call.send(api)
            assert as_first_answered(again.json()) == as_first_answered(first), f"{where}: {call}"
        for call in load.unanswered:
            once, twice = call.send(api), call.send(api)
            assert once.status_code in (200, 201), f"{where}: {call} {once.text}"
            assert as_first_answered(twice.json()) == as_first_answered(once.json()), f"{where}: {call}"
