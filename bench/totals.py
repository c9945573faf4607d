"""Chargly's ledger from outside: wallets with credits made, and what was answered compared with what was kept."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Iterator
from typing import Any, Final

import httpx
import msgspec

from bench.bare import PRICE_CREDITS
from bench.failure import BenchFailed
from bench.processes import Server
from bench.programs import API_KEY, customer

CREDITS_EACH: Final = 10**12
_SETTLE_SECONDS_MAX: Final = 10.0
_VERSIONS: Final = "SELECT coalesce(sum(version), 0) FROM wallets"


class Totals(msgspec.Struct, frozen=True):
    """All wallets together: the sum of their balances in credits, and of their versions: each entry is one."""

    balance: int
    entries: int


class Ledger:
    """A running Chargly whose wallets are numbered from 1."""

    def __init__(self, server: Server, client: httpx.Client, wallets: int) -> None:
        self._server = server
        self._client = client
        self._wallets = wallets

    def grant_each(self) -> None:
        """Gives `CREDITS_EACH` credits to every wallet."""
        for number in range(1, self._wallets + 1):
            grant = {"credits": CREDITS_EACH, "category": "promotional"}
            self._ask("POST", f"/v1/wallets/{customer(number)}/grants", json=grant)

    def token(self, customer_id: str) -> str:
        """A widget token for a wallet."""
        return str(self._ask("POST", f"/v1/wallets/{customer_id}/tokens", json={})["token"])

    def totals(self) -> Totals:
        """The totals, once nothing that was in flight moves them any more.

        Raises:
            BenchFailed: they do not come to rest.

        """
        until = time.monotonic() + _SETTLE_SECONDS_MAX
        while time.monotonic() < until:
            entries = self._entries()
            balance = self._balance()
            time.sleep(0.1)
            if self._entries() == entries:
                return Totals(balance, entries)
        raise BenchFailed("the ledger keeps moving after the load has ended.")

    def check(self, before: Totals, answered: int) -> Totals:
        """Compares the ledger with what was answered since `before`.

        Raises:
            BenchFailed: an answered event is missing, or credits and events do not agree.

        """
        after = self.totals()
        events, moved = after.entries - before.entries, before.balance - after.balance
        if moved != PRICE_CREDITS * events:
            raise BenchFailed(f"{events} events cost {moved} credits, and {PRICE_CREDITS * events} would be right.")
        if events < answered:
            raise BenchFailed(f"{answered} events were answered, and the ledger holds {events}.")
        return after

    def _entries(self) -> int:
        # Asked of the database, not of the server that is being checked.
        if self._server.postgres_url is not None:
            return asyncio.run(_sum_of_versions(self._server.postgres_url))
        with contextlib.closing(sqlite3.connect(f"file:{self._server.database}?mode=ro", uri=True)) as connection:
            return int(connection.execute(_VERSIONS).fetchone()[0])

    def _balance(self) -> int:
        if self._wallets == 1:
            return int(self._ask("GET", f"/v1/wallets/{customer(1)}")["balance"])
        total, query = 0, {"limit": "100"}
        while True:
            page = self._ask("GET", "/v1/wallets", params=query)
            total += sum(int(wallet["balance"]) for wallet in page["wallets"])
            if page["next_cursor"] is None:
                return total
            query["cursor"] = page["next_cursor"]

    def _ask(self, method: str, path: str, **rest: Any) -> Any:
        answer = self._client.request(method, path, **rest)
        if not answer.is_success:
            raise BenchFailed(f"{method} {path} answered {answer.status_code}: {answer.text[:500]}")
        return answer.json()


async def _sum_of_versions(url: str) -> int:
    import asyncpg  # noqa: PLC0415 - only there with its extra

    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval(_VERSIONS))
    finally:
        await connection.close()


@contextlib.contextmanager
def granted(server: Server, wallets: int) -> Iterator[Ledger]:
    """A running Chargly with credits in so many wallets."""
    headers = {"Authorization": f"Bearer {API_KEY}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=20, trust_env=False) as client:
        ledger = Ledger(server, client, wallets)
        ledger.grant_each()
        yield ledger
