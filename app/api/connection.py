"""Connections: uvicorn's, with fewer writes and with bounds on what one peer may send ahead.

uvicorn writes the head of an answer and its body one after the other, and each write is a system call at once, which
wakes the reader too. What one turn of the event loop writes to a connection goes out together here.
"""

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode

from app.config import LIVE_FRAMES_PER_SECOND_MAX

if TYPE_CHECKING:
    from websockets.frames import Frame


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
    had been sent behind it. It also reads on after each answer, however many requests wait for theirs; here they are
    all answered before more is read.
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

    def on_response_complete(self) -> None:
        """An answer has been given; requests that were read with it come next."""
        waiting = bool(self.pipeline)
        super().on_response_complete()
        if waiting:
            self.flow.pause_reading()

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


class Websocket(WebSocketsSansIOProtocol):
    """uvicorn's websocket protocol, which ends a peer that floods it, and refuses handshakes as they are refused here.

    A ping is answered at once, whether the answers are read or not, and pieces of a message are kept until its last:
    more of them than `LIVE_FRAMES_PER_SECOND_MAX` are no use of ours.
    """

    _frames_since = 0.0
    _frames = 0

    def handle_ping(self) -> None:
        """Answers a ping."""
        if self._may_go_on():
            super().handle_ping()

    def handle_cont(self, event: "Frame") -> None:
        """Takes a piece of a message."""
        if self._may_go_on():
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        """Hands on a message that is whole; one that is no UTF-8 ends the socket, without a traceback in our log."""
        if self.curr_msg_data_type == "text":
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.frames = []
                self.conn.send_close(CloseCode.INVALID_DATA)
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    def _may_go_on(self) -> bool:
        now = self.loop.time()
        if now - self._frames_since >= 1:
            self._frames_since, self._frames = now, 0
        self._frames += 1
        if self._frames > LIVE_FRAMES_PER_SECOND_MAX and not self.transport.is_closing():
            self.transport.abort()
        return not self.transport.is_closing()

    async def send(self, message: Any) -> None:
        """Sends a message; an answer that refuses the handshake completes it, which uvicorn misses and logs."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True

    def shutdown(self) -> None:
        """The server stops: a handshake that waits is told to come back."""
        if self.handshake_complete or self.close_sent:
            super().shutdown()
            return
        response = self.conn.reject(HTTPStatus.SERVICE_UNAVAILABLE, "The server is stopping.\n")
        response.headers["Retry-After"] = "1"
        self.conn.send_response(response)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.transport.close()
