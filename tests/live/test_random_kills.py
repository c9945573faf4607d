"""Servers that are killed at random under load: every page ends at the true balance, and nothing is lost or doubled."""

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
import websockets
from live.load import Load
from serving import ServerProcess, balance, grant, whole_ledger

SECONDS = float(os.environ.get("CHARGLY_TESTS_KILL_SECONDS", "8"))
"""How long servers are killed; `.ci/run` also takes a minute, alone on the machine."""
SERVERS, PAGES, WALLETS = 3, 200, 20
FUNDS = 10**6
HEAL_SECONDS_MAX = 30.0


class Page:
    """An open page: it comes back to any server that takes it, and resumes from the version that it knows."""

    def __init__(self, servers: list[ServerProcess], customer_id: str, token: str) -> None:
        self._servers, self._token = servers, token
        self.customer_id = customer_id
        self.version = self.balance = -1
        self.versions_fell = self.opened = 0
        self._epoch = ""

    async def run(self) -> None:
        while True:
            try:
                server = random.choice(self._servers)
                resume = {"since": self.version, "epoch": self._epoch} if self._epoch else {}
                async with server.live(self._token, **resume) as ws:
                    self.opened += 1
                    async for text in ws:
                        self._take(json.loads(text))
            except (OSError, websockets.WebSocketException):
                await asyncio.sleep(random.uniform(0.05, 0.5))

    def _take(self, message: dict[str, object]) -> None:
        if message["type"] == "wallet":
            self.versions_fell += int(str(message["version"])) < self.version
            self.version, self.balance = int(str(message["version"])), int(str(message["balance"]))
            self._epoch = str(message["epoch"])


@pytest.mark.postgresql
async def test_every_page_ends_at_the_true_balance_whatever_was_killed(database_url: str, tmp_path: Path) -> None:
    servers = []
    for number in range(SERVERS):
        (tmp_path / str(number)).mkdir()
        servers.append(ServerProcess(tmp_path / str(number), DATABASE_URL=database_url).start())
    customers = [f"user_{number}" for number in range(WALLETS)]
    try:
        with servers[0].client() as api:
            for customer_id in customers:
                grant(api, customer_id, FUNDS)
        tokens = {customer_id: servers[0].token(customer_id, expires_in=3600) for customer_id in customers}
        pages = [Page(servers, customer_id, tokens[customer_id]) for customer_id in customers * (PAGES // WALLETS)]
        showing = [asyncio.create_task(page.run()) for page in pages]
        with Load(servers, customers) as load:
            await asyncio.to_thread(load.wait_for, 50)
            kills = await asyncio.to_thread(kill_at_random, servers)
            await asyncio.to_thread(load.wait_for, 50)
        assert kills >= SECONDS / 4
        with servers[0].client() as api:
            true = {customer_id: balance(api, customer_id) for customer_id in customers}
            await until_shown(pages, true)
            answered = Counter(customer_id for customer_id, _ in load.answered)
            for customer_id in customers:
                entries = whole_ledger(api, customer_id, kind="event")
                keys = [entry["idempotency_key"] for entry in entries]
                assert len(keys) == len(set(keys))
                assert {key for id, key in load.answered if id == customer_id} == set(keys)
                assert true[customer_id] == FUNDS - answered[customer_id]
        assert [page.versions_fell for page in pages] == [0] * PAGES
        assert sum(page.opened for page in pages) > PAGES
        for task in showing:
            task.cancel()
        await asyncio.gather(*showing, return_exceptions=True)
        verified = await asyncio.to_thread(servers[0].run, "verify")
        assert verified.returncode == 0, verified.stdout
    finally:
        for server in servers:
            server.stop(signal.SIGKILL)


def kill_at_random(servers: list[ServerProcess]) -> int:
    """Kills one after the other, each time any of them, and starts it again."""
    until, kills = time.monotonic() + SECONDS, 0
    while time.monotonic() < until:
        time.sleep(random.uniform(0, 1))
        victim = random.choice(servers)
        victim.stop(signal.SIGKILL)
        kills += 1
        victim.start()
    return kills


async def until_shown(pages: list[Page], true: dict[str, int]) -> None:
    deadline = time.monotonic() + HEAL_SECONDS_MAX
    while wrong := [page for page in pages if page.balance != true[page.customer_id]]:
        assert time.monotonic() < deadline, f"{len(wrong)} of {len(pages)} pages show another balance"
        await asyncio.sleep(0.05)
