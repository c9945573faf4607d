"""One attempt: a message is posted, and what comes back is read as far as it matters."""

import asyncio
import logging
import time
from typing import Final
from urllib.parse import urlsplit

import httpcore

from app import __version__
from app.config import Config
from app.store.deliveries import Due
from app.webhooks.connections import Connections
from app.webhooks.network import AddressRefused, CheckedNetwork
from app.webhooks.retries import Answer
from app.webhooks.signing import signed_headers

log = logging.getLogger("chargly.webhooks")

_USER_AGENT: Final = f"Chargly/{__version__}"


class Sender:
    """Posts messages. `close` ends its connections.

    Args:
        config: `webhook_private_targets`, and the limits of a delivery.
        network: what connects; by default to public addresses alone, where the setting does not say otherwise.

    """

    def __init__(self, config: Config, network: httpcore.AsyncNetworkBackend | None = None) -> None:
        self._limits = config.limits
        self._connections = Connections(
            network
            or CheckedNetwork(
                private_targets=config.webhook_private_targets,
                connect_seconds_max=config.limits.delivery_connect_seconds_max,
            ),
            config.limits.delivery_keep_alive_seconds,
        )

    async def rest(self) -> None:
        """Ends connections that nothing was sent over for a while."""
        await self._connections.end_idle()

    async def close(self) -> None:
        """Ends its connections."""
        await self._connections.close()

    async def send(self, due: Due) -> Answer:
        """Posts a message once. Whatever goes wrong is an answer too."""
        seconds = self._limits.delivery_seconds_max
        try:
            async with asyncio.timeout(seconds):
                return await self._post(due)
        except TimeoutError:
            return Answer(status=None, error=f"No answer within {seconds:g} seconds.")
        except AddressRefused as error:
            return Answer(status=None, error=str(error))
        except (httpcore.NetworkError, httpcore.TimeoutException) as error:
            return Answer(status=None, error=self._short(f"No connection: {_said(error)}"))
        except (httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
            return Answer(status=None, error=self._short(f"Not HTTP: {_said(error)}"))
        except Exception:
            log.exception("delivery %s could not be sent", due.delivery.id)
            return Answer(status=None, error="It could not be sent; the server's log says why.")

    async def _post(self, due: Due) -> Answer:
        body = due.delivery.payload
        headers = {
            "host": urlsplit(due.endpoint.url).netloc,
            "user-agent": _USER_AGENT,
            "content-type": "application/json",
            "accept": "*/*",
            **signed_headers(due.endpoint, due.delivery.message_id, body, int(time.time())),
        }
        async with self._connections.post(due.endpoint.url, headers, body.encode()) as response:
            said = await self._read(response)
        if 200 <= response.status < 300:
            return Answer(status=response.status)
        received = {name.lower(): value for name, value in reversed(response.headers)}
        return Answer(
            status=response.status,
            error=self._short(said.decode("utf-8", "replace")),
            retry_after=received.get(b"retry-after", b"").decode("latin-1") or None,
        )

    async def _read(self, response: httpcore.Response) -> bytes:
        """The first bytes of an answer. Its status says it all, so one that does not come to its end is as good."""
        said = b""
        try:
            async with asyncio.timeout(self._limits.delivery_answer_seconds_max):
                async for part in response.aiter_stream():
                    said += part
                    if len(said) >= self._limits.delivery_answer_bytes_max:
                        break
        except (TimeoutError, httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError):
            pass
        return said[: self._limits.delivery_answer_bytes_max]

    def _short(self, text: str) -> str:
        """What of a text can be shown on one line."""
        printable = "".join(letter if letter.isprintable() else " " for letter in text)
        return " ".join(printable.split())[: self._limits.delivery_error_characters_max]


def _said(error: BaseException) -> str:
    """What the system said, which lies below what libraries made of it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__
