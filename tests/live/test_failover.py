"""Two servers under load while their PostgreSQL, and their Redis, go away and come back."""

import asyncio
import contextlib
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import postgres as postgres_server
import pytest
from ledgers import check_ledger
from postgres import PostgresServer
from redis_server import RedisServer
from serving import ServerProcess, grant, next_wallet

CALLERS = 4
FUNDS = 10**6


@pytest.fixture
def durable() -> Iterator[PostgresServer]:
    """A PostgreSQL of this test's own, which keeps what it has committed."""
    running = postgres_server.started(quick=False)
    yield running
    running.end()


class Load:
    """Callers that meter with keys, and send again what got no answer, to either server."""

    def __init__(self, servers: list[ServerProcess], customer_id: str) -> None:
        self._servers, self._customer_id = servers, customer_id
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(CALLERS)]
        self.answered: list[str] = []
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
                key = secrets.token_hex(8)
                turn = number
                while not self._charged(clients[turn % len(clients)], key):
                    turn += 1
                    time.sleep(0.02)  # as a caller does before it tries again

    def _charged(self, api: httpx.Client, key: str) -> bool:
        body = {"customer_id": self._customer_id, "event": "x.y", "credits": 1, "idempotency_key": key}
        answer = api.post("/v1/events", json=body)
        if answer.status_code == 201:
            self.answered.append(key)
            return True
        self.refusals.add(answer.status_code)
        return False

    def wait_for(self, more: int) -> None:
        """Until so many more events were answered."""
        wanted, deadline = len(self.answered) + more, time.monotonic() + 30
        while len(self.answered) < wanted:
            assert time.monotonic() < deadline, f"{len(self.answered)} of {wanted} were answered"
            time.sleep(0.01)


def wait_until_ready(api: httpx.Client, *, ready: bool) -> dict[str, object]:
    deadline = time.monotonic() + 30
    while True:
        answer = api.get("/readyz")
        if (answer.status_code == 200) is ready:
            return answer.json()
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)


@pytest.mark.postgresql
@pytest.mark.parametrize("bus", ["postgres", "redis"])
async def test_nothing_answered_is_lost_or_doubled_and_pages_heal(
    engine: str, durable: PostgresServer, bus: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    redis: RedisServer | None = request.getfixturevalue("redis") if bus == "redis" else None
    env = {"DATABASE_URL": durable.new_database()} | ({"CHARGLY_BUS_URL": redis.url} if redis else {})
    servers = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        servers.append(ServerProcess(tmp_path / name, **env).start())
    try:
        with contextlib.ExitStack() as opened:
            apis = [opened.enter_context(server.client()) for server in servers]
            grant(apis[0], "u", FUNDS)
            async with servers[0].live(servers[0].token("u")) as here, servers[1].live(servers[1].token("u")) as there:
                with Load(servers, "u") as load:
                    await asyncio.to_thread(load.wait_for, 50)
                    durable.stop()
                    if redis is not None:
                        redis.stop()
                    for api in apis:
                        told = await asyncio.to_thread(wait_until_ready, api, ready=False)
                        assert told["status"] == "not ready"
                    durable.start()
                    if redis is not None:
                        redis.start()
                    for api in apis:
                        await asyncio.to_thread(wait_until_ready, api, ready=True)
                    await asyncio.to_thread(load.wait_for, 50)
                assert load.refusals == {503}
                left = FUNDS - len(load.answered)
                for page in (here, there):
                    async with asyncio.timeout(20):
                        while (await next_wallet(page, 20))["balance"] != left:
                            pass
            entries = check_ledger(apis[1], "u")
    finally:
        for server in servers:
            server.stop()
    events = [entry["idempotency_key"] for entry in entries if entry["kind"] == "event"]
    assert sorted(events) == sorted(load.answered)
