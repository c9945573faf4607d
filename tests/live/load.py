"""A load for servers that come and go: what is not answered is sent again, until it is."""

import contextlib
import secrets
import threading
import time

import httpx
from serving import ServerProcess

CALLERS = 4


class Load:
    """Callers that meter each customer in turn, with keys, and send again what got no answer, to the next server."""

    def __init__(self, servers: list[ServerProcess], customers: list[str]) -> None:
        self._servers, self._customers = servers, customers
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(CALLERS)]
        self.answered: list[tuple[str, str]] = []
        """The customer and the key of each event."""
        self.refusals: set[int] = set()

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _call(self, number: int) -> None:
        with contextlib.ExitStack() as opened:
            clients = [opened.enter_context(server.client()) for server in self._servers]
            while not self._over.is_set():
                key, customer_id = secrets.token_hex(8), secrets.choice(self._customers)
                turn = number
                while not self._charged(clients[turn % len(clients)], customer_id, key):
                    turn += 1
                    time.sleep(0.02)  # as a caller does before it tries again

    def _charged(self, api: httpx.Client, customer_id: str, key: str) -> bool:
        body = {"customer_id": customer_id, "event": "x.y", "credits": 1, "idempotency_key": key}
        try:
            answer = api.post("/v1/events", json=body)
        except httpx.TransportError:  # the server was killed, before or after it was written
            return False
        if answer.status_code == 201:
            self.answered.append((customer_id, key))
            return True
        self.refusals.add(answer.status_code)
        return False

    def wait_for(self, more: int) -> None:
        """Until so many more events were answered."""
        wanted, deadline = len(self.answered) + more, time.monotonic() + 30
        while len(self.answered) < wanted:
            assert time.monotonic() < deadline, f"{len(self.answered)} of {wanted} were answered"
            time.sleep(0.01)
