"""How an answer leaves: in one write.

uvicorn writes the head of an answer and its body one after the other, and each write is a system call at once, which
wakes the reader too. What one turn of the event loop writes to a connection goes out together here.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle


class JoinedWrites:
    """A transport whose writes wait for the end of the event loop's turn; all else is the transport's own."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.transport = transport
        self._call_soon = loop.call_soon
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Takes bytes to be sent."""
        if not self._parts:
            self._call_soon(self.flush)
        self._parts.append(data)

    def flush(self) -> None:
        """Sends what was taken."""
        parts, self._parts = self._parts, []
        if parts and not self.transport.is_closing():
            self.transport.write(b"".join(parts))

    def close(self) -> None:
        """Closes the connection after what was taken."""
        self.flush()
        self.transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)


class Connection(HttpToolsProtocol):
    """uvicorn's HTTP protocol over joined writes. A client that leaves is told to every request that it had sent.

    uvicorn tells the one that was read last, so a long answer would be read to its end for nobody when another request
    had been sent behind it.
    """

    _running: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(JoinedWrites(transport, self.loop))  # type: ignore[arg-type]

    def connection_lost(self, exc: Exception | None) -> None:
        """A client has left: those of its requests that were not begun are not."""
        self.pipeline.clear()
        if (running := self._running) is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def handle_websocket_upgrade(self) -> None:
        """A websocket takes over, on the transport itself: its frames are whole writes already."""
        if self._running is not None and not self._running.response_complete:
            self.transport.close()  # an answer is on its way, and would come into the websocket's frames
            return
        joined = self.transport
        if isinstance(joined, JoinedWrites):
            joined.flush()
            self.transport = joined.transport
        super().handle_websocket_upgrade()
