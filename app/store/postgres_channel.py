"""PostgreSQL as the bus's channel: LISTEN and NOTIFY on a connection of its own, outside of every transaction."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import asyncpg

from app.config import Config
from app.store.postgres import FAILURES, connect_arguments

_NOTIFY: Final = "SELECT pg_notify($1, text) FROM unnest($2::text[]) AS text"


class PostgresChannel:
    """One connection that listens and sends.

    Args:
        config: names the database, and has the limits `bus_*`.
        name: of the channel; those who share a ledger share it.

    """

    failures: tuple[type[Exception], ...] = (*FAILURES, TimeoutError)

    def __init__(self, config: Config, name: str) -> None:
        self._arguments = connect_arguments(config)
        self._limits = config.limits
        self._name = name
        self._connection: Any = None
        self._closed = asyncio.Event()
        self._turn = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def connected(self, receive: Callable[[str], None]) -> AsyncIterator[Callable[[list[str]], Awaitable[None]]]:
        """Connects and listens."""
        connection = await asyncpg.connect(**self._arguments)
        try:
            self._connection, self._closed = connection, asyncio.Event()
            connection.add_termination_listener(lambda _connection: self._closed.set())
            await connection.add_listener(self._name, lambda _from, _pid, _name, text: receive(text))

            async def publish(texts: list[str]) -> None:
                async with self._turn:
                    await connection.execute(_NOTIFY, self._name, texts)

            yield publish
        finally:
            connection.terminate()

    async def listen(self) -> None:
        """Waits for the end of the connection, and asks now and then: a server that has vanished says nothing."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._limits.bus_ping_seconds):
                    await self._closed.wait()
                raise ConnectionResetError("PostgreSQL closed the connection")
            async with self._turn, asyncio.timeout(self._limits.bus_send_seconds_max):
                await self._connection.execute("SELECT 1")
