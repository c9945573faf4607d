"""What a server and the process that posts for it say to each other, over a pipe each way.

A frame is its length in four bytes, and msgpack. The server begins with a `Setup`; then it sends lists of `Post`, and
is sent lists of `Answered`.
"""

import asyncio
from typing import Any, Final

import msgspec

from app.config import Limits

_LENGTH_BYTES: Final = 4
_encode: Final = msgspec.msgpack.Encoder().encode


class Setup(msgspec.Struct, frozen=True, array_like=True):
    """What the process has to know: whether posts may go to private addresses, and the limits of deliveries."""

    private_targets: bool
    limits: Limits


class Post(msgspec.Struct, frozen=True, array_like=True):
    """A body to post to a URL, with its headers; `number` is that of its answer."""

    number: int
    url: str
    headers: dict[str, str]
    body: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """How an endpoint answered: its `status`, None where there was none, and why that is no success.

    `retry_after` is the header of that name.
    """

    status: int | None
    error: str | None = None
    retry_after: str | None = None

    @property
    def is_success(self) -> bool:
        """Whether it has the message."""
        return self.status is not None and 200 <= self.status < 300


class Answered(msgspec.Struct, frozen=True, array_like=True):
    """The answer to a post."""

    number: int
    answer: Answer


setup_in: Final = msgspec.msgpack.Decoder(Setup).decode
posts_in: Final = msgspec.msgpack.Decoder(list[Post]).decode
answers_in: Final = msgspec.msgpack.Decoder(list[Answered]).decode


def frame(message: Any) -> bytes:
    """A message as it goes over the pipe."""
    content = _encode(message)
    return len(content).to_bytes(_LENGTH_BYTES, "big") + content


async def next_frame(reader: asyncio.StreamReader) -> bytes | None:
    """The content of the next frame; None where the other side has ended."""
    try:
        length = await reader.readexactly(_LENGTH_BYTES)
        return await reader.readexactly(int.from_bytes(length, "big"))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
