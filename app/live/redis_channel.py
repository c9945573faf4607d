"""Redis as the bus's channel: pub/sub by redis-py's client for asyncio."""

import contextlib
from collections.abc import AsyncIterator, Callable

import redis.asyncio as redis
from redis.exceptions import RedisError

from app.config import Limits
from app.live.bus import Publish


class RedisChannel:
    """One connection that listens, and others from a pool that send.

    Args:
        url: `redis://…` or `rediss://…`.
        name: of the channel; those who share a ledger share it.
        limits: `bus_*`.

    """

    failures: tuple[type[Exception], ...] = (RedisError, OSError, TimeoutError)

    def __init__(self, url: str, name: str, limits: Limits) -> None:
        self._url = url
        self._name = name
        self._limits = limits
        self._listening: redis.client.PubSub | None = None
        self._receive: Callable[[str | bytes], None] = lambda _text: None

    @contextlib.asynccontextmanager
    async def connected(self, receive: Callable[[str | bytes], None]) -> AsyncIterator[Publish]:
        """Subscribes to the channel."""
        client = redis.Redis.from_url(
            self._url,
            socket_connect_timeout=self._limits.bus_send_seconds_max,
            health_check_interval=self._limits.bus_ping_seconds,
        )
        try:
            async with client.pubsub() as listening:
                await listening.subscribe(self._name)
                self._listening, self._receive = listening, receive

                async def publish(texts: list[str]) -> None:
                    async with client.pipeline(transaction=False) as pipeline:
                        for text in texts:
                            pipeline.publish(self._name, text)
                        await pipeline.execute()

                yield publish
        finally:
            self._listening = None
            await client.aclose()

    async def listen(self) -> None:
        """Hands on what is heard until the connection is lost."""
        assert self._listening is not None
        while True:
            # The timeout makes the client ping between messages, so that a peer that has vanished is noticed.
            message = await self._listening.get_message(
                ignore_subscribe_messages=True, timeout=self._limits.bus_ping_seconds
            )
            if message is not None:
                self._receive(message["data"])
