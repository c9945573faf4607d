"""A post over HTTP, and what comes back, read as far as it matters."""

import asyncio
import logging
import os
import ssl

import aiohttp
import certifi
from yarl import URL

from app.config import Limits
from app.webhooks.frames import Answer, Post
from app.webhooks.network import AddressRefused, CheckedNetwork

log = logging.getLogger("chargly.webhooks")


class Poster:
    """Posts, each time over a connection of its own: one that is kept may hold an answer that nobody asked for.

    `close` ends those that are under way.

    Args:
        limits: of a delivery.
        network: where connections go.

    """

    def __init__(self, limits: Limits, network: CheckedNetwork) -> None:
        self._limits = limits
        self._network = network
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Ends its connections."""
        if self._session is not None:
            await self._session.close()

    async def post(self, post: Post) -> Answer:
        """Posts once. Whatever goes wrong is an answer too."""
        try:
            return await self._post(post)
        except Exception as error:
            wrong = self._wrong(error)
            if wrong is None:
                log.exception("a webhook could not be posted")
                wrong = "It could not be sent; the server's log says why."
            return Answer(status=None, error=self._short(wrong))

    def _wrong(self, error: Exception) -> str | None:
        """Why there was no answer; None where the fault is ours."""
        wrong = None
        match error:
            case AddressRefused():
                wrong = str(error)
            case aiohttp.ServerTimeoutError():
                wrong = f"No connection within {self._limits.delivery_connect_seconds_max:g} seconds."
            case aiohttp.ClientConnectionError():
                wrong = f"No connection: {_said(error)}"
            case TimeoutError():
                wrong = f"No answer within {self._limits.delivery_seconds_max:g} seconds."
            case aiohttp.ClientResponseError():
                wrong = f"Not HTTP: {error.message}"
            case ValueError():  # aiohttp.InvalidURL among them
                wrong = f"Nothing can be posted to this address: {error}"
        return wrong

    async def _post(self, post: Post) -> Answer:
        url = URL(post.url, encoded=True)
        async with asyncio.timeout(self._limits.delivery_seconds_max):
            response = await self._connected().post(
                url, data=post.body.encode(), headers=post.headers, allow_redirects=False
            )
        async with response:
            if 200 <= response.status < 300:  # its body says nothing more
                return Answer(status=response.status)
            said = await self._read(response)
        return Answer(
            status=response.status,
            error=self._short(said.decode("utf-8", "replace")),
            retry_after=self._short(response.headers.get("retry-after", "")) or None,
        )

    def _connected(self) -> aiohttp.ClientSession:
        """The session, made in the loop that it belongs to."""
        if self._session is None:
            limits = self._limits
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=self._network,
                    socket_factory=self._network.open_socket,
                    use_dns_cache=False,
                    ssl=trusted(),
                    limit=0,  # how many are under way is the deliverer's to say
                    force_close=True,
                ),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=limits.delivery_connect_seconds_max),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=["accept-encoding"],
                auto_decompress=False,  # what a few bytes grow to has no limit
            )
        return self._session

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """The first bytes of an answer. Its status says it all, so one that does not come to its end is as good."""
        said = b""
        try:
            async with asyncio.timeout(self._limits.delivery_answer_seconds_max):
                async for part in response.content.iter_any():
                    said += part
                    if len(said) >= self._limits.delivery_answer_bytes_max:
                        break
        except (TimeoutError, aiohttp.ClientError):
            pass
        return said[: self._limits.delivery_answer_bytes_max]

    def _short(self, text: str) -> str:
        """What of a text can be shown on one line."""
        printable = "".join(letter if letter.isprintable() else " " for letter in text)
        return " ".join(printable.split())[: self._limits.delivery_error_characters_max]


def trusted() -> ssl.SSLContext:
    """The certificates that are trusted: the system's, and Mozilla's, as a machine may have none."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _said(error: aiohttp.ClientConnectionError) -> str:
    """What the system said, which lies below what libraries made of it."""
    cause = error.__cause__ or error
    if isinstance(cause, ConnectionError) or type(cause) is OSError:
        return os.strerror(cause.errno) if cause.errno else str(cause)
    return str(cause) or type(cause).__name__
