"""Posts events at a steady rate, whether or not the ones before have been answered."""

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import Final

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


async def post_events(port: int, customers: Sequence[str], per_second: int, seconds: int) -> list[Posted]:
    """Posts `per_second` events a second for some seconds, to each customer in turn, over a few connections.

    Raises:
        BenchFailed: an event was refused.

    """
    start = monotonic() + 0.1

    async def post_share(first: int) -> list[Posted]:
        reader, writer = await asyncio.open_connection(HOST, port)
        posted = []
        for number in range(first, per_second * seconds, _CONNECTIONS):
            await asyncio.sleep(start + number / per_second - monotonic())
            posted.append(await _post(reader, writer, customers[number % len(customers)]))
        writer.close()
        return posted

    shares = await asyncio.gather(*(post_share(first) for first in range(_CONNECTIONS)))
    return [event for share in shares for event in share]


async def _post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, customer_id: str) -> Posted:
    body = b'{"customer_id":"%s","event":"chat.reply"}' % customer_id.encode()
    sent_at = monotonic()
    writer.write(
        b"POST /v1/events HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
        % (HOST.encode(), API_KEY.encode(), len(body), body)
    )
    async with asyncio.timeout(_ANSWER_SECONDS_MAX):
        status, content = await _read_answer(reader)
    answered_at = monotonic()
    if status != b"201":
        raise BenchFailed(f"an event was answered with {status.decode()}: {content[:500].decode(errors='replace')}")
    answer = _decode(content)
    return Posted(answer.customer_id, answer.version, sent_at, answered_at)


async def _read_answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
    return head.split(b" ", 2)[1], await reader.readexactly(int(length))
