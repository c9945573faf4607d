"""Two servers under load while their PostgreSQL, and their Redis, go away and come back."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import postgres as postgres_server
import pytest
from ledgers import check_ledger
from live.load import Load
from postgres import PostgresServer
from redis_server import RedisServer
from serving import ServerProcess, grant, next_wallet

FUNDS = 10**6


@pytest.fixture
def durable() -> Iterator[PostgresServer]:
    """A PostgreSQL of this test's own, which keeps what it has committed."""
    running = postgres_server.started(quick=False)
    yield running
    running.end()


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
                with Load(servers, ["u"]) as load:
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
    assert sorted(events) == sorted(key for _, key in load.answered)
