"""The listening process: one websocket for each token, and the moment at which each state came."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from multiprocessing.connection import Connection
from time import monotonic
from typing import Final

import msgspec
import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from bench.processes import HOST

_QUIET_SECONDS: Final = 1.0
_STATE_SECONDS_MAX: Final = 5.0


class Heard(msgspec.Struct, frozen=True):
    """A wallet's version and when its frame came, in seconds of `time.monotonic()`."""

    version: int
    at: float


class _Frame(msgspec.Struct):
    type: str
    customer_id: str = ""
    version: int = 0


_decode = msgspec.json.Decoder(_Frame).decode


def listen(pipe: Connection, port: int, tokens: Sequence[str]) -> None:
    """Listens until told to stop: sends how many first states never came, and at the end what it heard of each wallet.

    Args:
        pipe: to the measuring process.
        port: of the server on this machine.
        tokens: one for each wallet.

    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_listen(pipe, port, tokens))


async def _listen(pipe: Connection, port: int, tokens: Sequence[str]) -> None:
    heard: dict[str, list[Heard]] = {}
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        sockets = [await _subscribed(stack, port, token) for token in tokens]
        told = await asyncio.gather(*(_hear_first(socket, heard) for socket in sockets))
        pipe.send(told.count(False))
        readers = [group.create_task(_read(socket, heard)) for socket in sockets]
        await asyncio.to_thread(pipe.recv)
        await asyncio.sleep(_QUIET_SECONDS)
        for reader in readers:
            reader.cancel()
    pipe.send(heard)


async def _subscribed(stack: AsyncExitStack, port: int, token: str) -> ClientConnection:
    uri = f"ws://{HOST}:{port}/v1/live"
    socket = await stack.enter_async_context(connect(uri, subprotocols=[Subprotocol("chargly.v1")], proxy=None))
    await socket.send(msgspec.json.encode({"type": "subscribe", "token": token}).decode())
    return socket


async def _hear_first(socket: ClientConnection, heard: dict[str, list[Heard]]) -> bool:
    """Whether the socket is sent its wallet's state."""
    try:
        async with asyncio.timeout(_STATE_SECONDS_MAX):
            _hear(heard, await socket.recv(decode=False))
    except TimeoutError:
        return False
    return True


async def _read(socket: ClientConnection, heard: dict[str, list[Heard]]) -> None:
    while True:
        _hear(heard, await socket.recv(decode=False))


def _hear(heard: dict[str, list[Heard]], text: bytes) -> None:
    at = monotonic()
    frame = _decode(text)
    if frame.type == "wallet":
        heard.setdefault(frame.customer_id, []).append(Heard(frame.version, at))
