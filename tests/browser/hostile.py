"""What stands between a page and a server, and does it ill: a network that fails, and a peer that garbles the order."""

import asyncio
import contextlib
import json
import random
import socket
import struct
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Self

import websockets
from serving import ServerProcess

_CHUNK = 65_536
_RESET = struct.pack("ii", 1, 0)
"""For SO_LINGER: a connection is ended by RST, and what was to be sent is thrown away."""
PROTOCOL = websockets.Subprotocol("chargly.v1")


class Network:
    """A way to a server's port, by TCP, which misbehaves at command and heals at command."""

    def __init__(self, server: ServerProcess) -> None:
        self.server_port = server.port
        self._place = socket.socket()  # keeps the port ours while nobody listens on it
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._place.bind(("127.0.0.1", 0))
        self.port: int = self._place.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.delay_seconds = (0.0, 0.0)
        """Within this each chunk is held back."""
        self.flows = asyncio.Event()
        self.takes = asyncio.Event()
        self._links: set[_Link] = set()
        self._listening: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.heal()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        await asyncio.gather(*(link.task for link in self._links), return_exceptions=True)
        self._place.close()

    def delay(self, low_seconds: float, high_seconds: float) -> None:
        """Every chunk is late, one more than another; none overtakes."""
        self.delay_seconds = (low_seconds, high_seconds)

    def stall(self) -> None:
        """All bytes are held, both ways; connections stay, and are still taken."""
        self.flows.clear()

    def cut(self) -> None:
        """Every connection is reset, and none is taken."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        for link in self._links:
            link.task.cancel()

    def swallow(self) -> None:
        """What is sent from now on is lost. Connections die without a word, and new ones get no answer.

        Those that are still asked for when the network heals are taken then, as the next SYN would be.
        """
        self.takes.clear()
        for link in self._links:
            link.is_dead = True

    async def heal(self) -> None:
        """All is well again, but for the connections that have died: of those the server's TCP gives up its end."""
        self.delay_seconds = (0.0, 0.0)
        for link in self._links:
            if link.is_dead:
                link.forget_server()
        self.flows.set()
        self.takes.set()
        if self._listening is None:
            self._listening = await asyncio.start_server(
                self._on_connection, "127.0.0.1", self.port, reuse_port=True, backlog=1_000
            )

    def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(self, reader, writer)
        self._links.add(link)
        link.task.add_done_callback(lambda _: self._links.discard(link))


class _Link:
    """One connection through the network."""

    def __init__(self, network: Network, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.is_dead = False
        self._network = network
        self._browser = (reader, writer)
        self._server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.task = asyncio.create_task(self._run())

    def forget_server(self) -> None:
        if self._server is not None:
            self._server[1].transport.abort()

    async def _run(self) -> None:
        reader, writer = self._browser
        try:
            await self._network.takes.wait()
            self.is_dead = False
            self._server = await asyncio.open_connection("127.0.0.1", self._network.server_port)
            await asyncio.gather(self._carry(reader, self._server[1]), self._carry(self._server[0], writer))
        except OSError:
            pass  # one side has gone, or there is no server: neither shall have the other
        finally:
            for _, end in filter(None, (self._browser, self._server)):
                if not end.is_closing():
                    end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        network = self._network
        while True:
            chunk = await reader.read(_CHUNK)
            await asyncio.sleep(random.uniform(*network.delay_seconds))
            await network.flows.wait()
            if self.is_dead:
                await asyncio.Future()  # its end is not told either
            if not chunk:
                break
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()


class Peer:
    """Speaks `chargly.v1` to pages, by a real server, whose messages it doubles, shuffles and says again.

    It also slips in some of another epoch. What it leaves alone is the first message on a socket, which is the truth by
    definition, and that the newest message arrives.
    """

    _GATHER_SECONDS = 0.02

    def __init__(self, server: ServerProcess, *, strangers: int, seed: int) -> None:
        self._server_url = f"ws://127.0.0.1:{server.port}/v1/live"
        self._random = random.Random(seed)
        self.strangers_left = strangers
        """Messages of another epoch that are still to come. A page may come anew after each, so they end."""
        self.lies = 0
        """Messages sent that the server had not sent then."""
        self.port = 0
        self.address = ""

    async def __aenter__(self) -> Self:
        self._listening = await websockets.serve(self._relay, "127.0.0.1", 0, subprotocols=[PROTOCOL])
        self.port = next(iter(self._listening.sockets)).getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listening.close()
        await self._listening.wait_closed()

    async def _relay(self, page: websockets.ServerConnection) -> None:
        async with websockets.connect(self._server_url, subprotocols=[PROTOCOL]) as server:
            with contextlib.suppress(websockets.ConnectionClosed):
                await _first_of(self._ask(page, server), self._answer(server, page))

    async def _ask(self, page: websockets.ServerConnection, server: websockets.ClientConnection) -> None:
        async for text in page:
            await server.send(text)

    async def _answer(self, server: websockets.ClientConnection, page: websockets.ServerConnection) -> None:
        said = [str(await server.recv())]
        await page.send(said[0])
        async for text in server:
            fresh = [str(text), *[str(more) async for more in self._soon(server)]]
            said += fresh
            lies = [*fresh, *self._random.choices(said, k=3)]
            if self.strangers_left and self._random.random() < 0.5:
                self.strangers_left -= 1
                lies += [self._stranger(said), *self._random.choices(said, k=3)]
            self.lies += len(lies) - len(fresh)
            self._random.shuffle(lies)
            for lie in lies:
                await page.send(lie)

    async def _soon(self, server: websockets.ClientConnection) -> AsyncIterator[str]:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._GATHER_SECONDS):
                while True:
                    yield str(await server.recv())

    def _stranger(self, said: list[str]) -> str:
        message: dict[str, Any] = json.loads(self._random.choice(said))
        version = self._random.choice([1, message.get("version", 0) + 1_000])
        return json.dumps(message | {"epoch": "0" * 16, "balance": 7, "version": version})


async def _first_of(*works: Coroutine[Any, Any, None]) -> None:
    """Runs them together until one has ended."""
    tasks = [asyncio.create_task(work) for work in works]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
