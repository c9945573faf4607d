"""Connections to endpoints, kept open for a moment after an answer.

httpcore's own pool looks at all of its connections, for each of them, whenever a request begins or ends: with dozens
under way that takes more time than the requests. Here each origin has a stack of those that are idle.
"""

import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Final, TypeAlias

import httpcore

_Key: TypeAlias = tuple[bytes, bytes, int | None]
_DEFAULT_PORTS: Final = {b"http": 80, b"https": 443}


class Connections:
    """As many as are asked for at a time. `close` ends those that are idle.

    Args:
        network: what connects.
        keep_alive_seconds: how long one stays idle.

    """

    def __init__(self, network: httpcore.AsyncNetworkBackend, keep_alive_seconds: float) -> None:
        self._network = network
        self._keep_alive_seconds = keep_alive_seconds
        self._tls: ssl.SSLContext | None = None
        self._idle: dict[_Key, list[httpcore.AsyncHTTPConnection]] = {}

    @contextlib.asynccontextmanager
    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> AsyncIterator[httpcore.Response]:
        """Posts a body; the answer's own is read while the context lasts, as far as one likes.

        Raises:
            What httpcore and the network do.

        """
        parsed = httpcore.URL(url)
        key = (parsed.scheme, parsed.host, parsed.port or _DEFAULT_PORTS.get(parsed.scheme))
        connection = await self._take(key) or self._new(parsed)
        try:
            async with connection.stream("POST", parsed, headers=list(headers.items()), content=body) as response:
                yield response
        finally:
            if connection.is_closed() or not connection.is_idle():
                await connection.aclose()
            else:
                self._idle.setdefault(key, []).append(connection)

    async def end_idle(self) -> None:
        """Ends those that were idle for long enough, or were closed by the other side."""
        for key, idle in list(self._idle.items()):
            expired = [one for one in idle if one.has_expired()]
            self._idle[key] = [one for one in idle if one not in expired]
            if not self._idle[key]:
                del self._idle[key]
            for one in expired:
                await one.aclose()

    async def close(self) -> None:
        """Ends those that are idle."""
        for idle in self._idle.values():
            for one in idle:
                await one.aclose()
        self._idle = {}

    async def _take(self, key: _Key) -> httpcore.AsyncHTTPConnection | None:
        while idle := self._idle.get(key):
            connection = idle.pop()
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return None

    def _new(self, url: httpcore.URL) -> httpcore.AsyncHTTPConnection:
        return httpcore.AsyncHTTPConnection(
            url.origin,
            ssl_context=self._trusted() if url.scheme == b"https" else None,
            keepalive_expiry=self._keep_alive_seconds,
            network_backend=self._network,
        )

    def _trusted(self) -> ssl.SSLContext:
        """The certificates that are trusted; reading them takes a while, so it is done once, when they are needed."""
        if self._tls is None:
            self._tls = httpcore.default_ssl_context()
        return self._tls
