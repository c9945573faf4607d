"""Very many websockets of one process, of which only the frames are counted: the measured server is to be the slow one.

A library that reads each message would take longer over a frame than the server that sends it.
"""

import asyncio
import base64
import os
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from bench.failure import BenchFailed
from bench.processes import HOST

_AT_ONCE: Final = 50
_SECONDS_MAX: Final = 60.0


class _Socket(asyncio.Protocol):
    """One websocket: its handshake, one message, and then a count of what it is sent."""

    def __init__(self, handshake: bytes, first: bytes | None, on_frame: Callable[[], None]) -> None:
        self._handshake = handshake
        self._first = first
        self._on_frame = on_frame
        self._left = b""
        self._upgraded = False
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport = transport  # type: ignore[assignment]
        self.transport.write(self._handshake)

    def data_received(self, data: bytes) -> None:
        data = self._left + data
        if not self._upgraded:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._left = head
                return
            self._upgraded = head.startswith(b"HTTP/1.1 101 ")
            if not self._upgraded:
                self.opened.set_exception(BenchFailed(f"a handshake was answered {head[:200]!r}"))
                return
            if self._first is not None:
                self.transport.write(_frame(self._first))
            self.opened.set_result(None)
        self._left = self._count(data)

    def _count(self, data: bytes) -> bytes:
        """Counts the whole frames that carry a text, and gives back the rest."""
        while len(data) >= 2:
            length, start = data[1], 2
            if length == 126:
                if len(data) < 4:
                    break
                length, start = int.from_bytes(data[2:4]), 4
            if len(data) < start + length:
                break
            if data[0] & 15 == 1:
                self._on_frame()
            data = data[start + length :]
        return data

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(BenchFailed(f"a websocket was closed in its handshake: {exc!r}"))


class Crowd:
    """Websockets to one server."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._sockets: list[_Socket] = []
        self._wanted = 0
        self._reached = asyncio.Event()
        self.frames = 0
        """Texts that all of them together have been sent."""

    async def open(self, path: str, messages: Sequence[bytes | None]) -> None:
        """Opens a websocket for each of some messages, which it sends first.

        Raises:
            BenchFailed: one was refused.

        """
        loop = asyncio.get_running_loop()
        key = base64.b64encode(os.urandom(16)).decode()
        handshake = (
            f"GET {path} HTTP/1.1\r\nHost: {HOST}:{self._port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ).encode()
        for start in range(0, len(messages), _AT_ONCE):
            made = []
            for first in messages[start : start + _AT_ONCE]:
                make = partial(_Socket, handshake, first, self._counted)
                made.append(await loop.create_connection(make, HOST, self._port))
            sockets = [socket for _, socket in made]
            await asyncio.gather(*(socket.opened for socket in sockets))
            self._sockets += sockets

    async def reach(self, frames: int) -> None:
        """Waits until all together have been sent so many texts.

        Raises:
            BenchFailed: they are not.

        """
        self._wanted = frames
        self._reached.clear()
        if self.frames >= frames:
            return
        try:
            async with asyncio.timeout(_SECONDS_MAX):
                await self._reached.wait()
        except TimeoutError:
            raise BenchFailed(f"{self.frames} frames came, and {frames} were awaited.") from None

    def close(self) -> None:
        """Closes all."""
        for socket in self._sockets:
            socket.transport.abort()

    def _counted(self) -> None:
        self.frames += 1
        if self.frames >= self._wanted:
            self._reached.set()


def _frame(text: bytes) -> bytes:
    """A client's frame; its mask is all zeros, which leaves the text as it is."""
    head = struct.pack("!BB", 0x81, 0x80 | len(text)) if len(text) < 126 else struct.pack("!BBH", 0x81, 0xFE, len(text))
    return head + bytes(4) + text
