"""How answers leave: one write for what a turn of the loop has to say."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.connection import Connection, JoinedWrites
from app.api.http import Refusals, RequestIds
from app.metrics import Metrics

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@contextlib.asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[tuple[str, int]]:
    """The address at which an app answers, on our connections."""
    server = uvicorn.Server(uvicorn.Config(app, http=Connection, lifespan="off", log_level="warning"))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        yield listening.getsockname()
        server.should_exit = True
        await serving


class Wire(asyncio.Transport):
    """A transport that keeps what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[bytes | str] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.told.append(bytes(data))

    def close(self) -> None:
        self.told.append("close")
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


async def test_what_is_written_in_one_turn_leaves_in_one_write() -> None:
    wire = Wire()
    joined = JoinedWrites(wire, asyncio.get_running_loop())
    joined.write(b"head ")
    joined.write(b"body")
    assert wire.told == []
    await asyncio.sleep(0)
    joined.write(b"next")
    await asyncio.sleep(0)
    assert wire.told == [b"head body", b"next"]


async def test_a_connection_closes_after_what_it_had_to_say_and_says_nothing_afterwards() -> None:
    wire = Wire()
    joined = JoinedWrites(wire, asyncio.get_running_loop())
    joined.write(b"last words")
    joined.close()
    joined.write(b"too late")
    await asyncio.sleep(0)
    assert wire.told == [b"last words", "close"]


async def test_a_client_that_leaves_is_told_to_the_request_that_runs_though_another_was_sent_behind_it() -> None:
    running, told = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        running.set()
        while (await receive())["type"] != "http.disconnect":
            pass
        told.set()

    async with served(app) as address, asyncio.timeout(10):
        _, writer = await asyncio.open_connection(*address)
        writer.write(REQUEST * 2)
        await running.wait()
        writer.transport.abort()
        await told.wait()


async def test_a_client_that_sends_on_and_reads_nothing_is_read_no_further() -> None:
    answered = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal answered
        answered += 1
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})
        await send({"type": "http.response.body", "body": b"x" * 1000})

    async with served(app) as address:
        _, writer = await asyncio.open_connection(*address)
        writer.transport.set_write_buffer_limits(0)
        sent = 0
        while True:
            writer.write(REQUEST * 1000)
            try:
                async with asyncio.timeout(2):
                    await writer.drain()
            except TimeoutError:
                break
            sent += 1000
            assert sent < 500_000, "it is read on and on"
        writer.transport.abort()
        assert answered < 50_000


async def test_requests_sent_ahead_are_answered_in_their_order() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0)
        body = scope["path"].encode()
        length = str(len(body)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": body})

    async with served(app) as address, asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(3000)))
        for number in range(3000):
            await reader.readuntil(b"\r\n\r\n")
            path = b"/%d" % number
            assert await reader.readexactly(len(path)) == path
        writer.close()


async def test_a_request_that_the_stopping_server_gives_up_is_told_that_its_outcome_is_unknown() -> None:
    sent: list[Message] = []

    async def hanging(_scope: Scope, _receive: Receive, _send: Send) -> None:
        await asyncio.Event().wait()

    async def keep(message: Message) -> None:
        sent.append(message)

    async def nothing() -> Message:
        raise AssertionError

    app = RequestIds(Refusals(hanging, 1000, Metrics()))
    call = asyncio.create_task(app({"type": "http", "method": "POST", "path": "/", "headers": []}, nothing, keep))
    await asyncio.sleep(0)
    call.cancel()
    await call
    assert sent[0]["status"] == 503
    assert b"may still have been written" in sent[1]["body"]
