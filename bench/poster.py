"""Posts over connections of our own, which cost this process little: by one, or events at a steady rate."""

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import Final, Self

import msgspec

from bench.failure import BenchFailed
from bench.processes import HOST
from bench.programs import API_KEY

_CONNECTIONS: Final = 16
_ANSWER_SECONDS_MAX: Final = 10.0


class Posted(msgspec.Struct, frozen=True):
    """An event's version, when it was sent and when its answer had come, in seconds of `time.monotonic()`."""

    customer_id: str
    version: int
    sent_at: float
    answered_at: float


class _Answer(msgspec.Struct):
    customer_id: str
    version: int


_decode = msgspec.json.Decoder(_Answer).decode


class Poster:
    """One connection, which waits for each answer; an async context."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(HOST, self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def event(self, customer_id: str) -> Posted:
        """Posts a `chat.reply`.

        Raises:
            BenchFailed: it was refused.

        """
        body = b'{"customer_id":"%s","event":"chat.reply"}' % customer_id.encode()
        sent_at = monotonic()
        content = await self.post("/v1/events", body)
        answered_at = monotonic()
        answer = _decode(content)
        return Posted(answer.customer_id, answer.version, sent_at, answered_at)

    async def post(self, path: str, body: bytes) -> bytes:
        """Posts a body of JSON, and gives the answer's.

        Raises:
            BenchFailed: it was refused.

        """
        self._writer.write(
            b"POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (path.encode(), HOST.encode(), API_KEY.encode(), len(body), body)
        )
        async with asyncio.timeout(_ANSWER_SECONDS_MAX):
            status, content = await self._read_answer()
        if not status.startswith(b"2"):
            raise BenchFailed(f"{path} answered {status.decode()}: {content[:500].decode(errors='replace')}")
        return content

    async def _read_answer(self) -> tuple[bytes, bytes]:
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
        return head.split(b" ", 2)[1], await self._reader.readexactly(int(length))


async def post_events(
    port: int, customers: Sequence[str], per_second: int, seconds: int, connections: int = _CONNECTIONS
) -> list[Posted]:
    """Posts `per_second` events a second for some seconds, to each customer in turn, over a few connections.

    An event goes at its time whether or not those of other connections have been answered.

    Raises:
        BenchFailed: an event was refused.

    """
    start = monotonic() + 0.1

    async def post_share(first: int) -> list[Posted]:
        posted = []
        async with Poster(port) as poster:
            for number in range(first, per_second * seconds, connections):
                await asyncio.sleep(start + number / per_second - monotonic())
                posted.append(await poster.event(customers[number % len(customers)]))
        return posted

    shares = await asyncio.gather(*(post_share(first) for first in range(connections)))
    return [event for share in shares for event in share]
