"""How answers leave: one write for what a turn of the loop has to say."""

import asyncio
import socket

import uvicorn
from starlette.types import Message, Receive, Scope, Send

from app.api.connection import Connection, JoinedWrites
from app.api.http import Refusals, RequestIds
from app.metrics import Metrics


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

    config = uvicorn.Config(app, http=Connection, lifespan="off", log_level="warning")
    server = uvicorn.Server(config)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        _, writer = await asyncio.open_connection(*listening.getsockname())
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        async with asyncio.timeout(10):
            await running.wait()
            writer.transport.abort()
            await told.wait()
            server.should_exit = True
            await serving


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
