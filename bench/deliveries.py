"""Whether metering waits for webhooks: ten thousand deliveries a minute to an endpoint that is slow to answer."""

import asyncio
import contextlib
import json
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any, Final, cast

import msgspec
import uvloop

from app.config import Config
from app.store.deliveries import Delivery, Due
from app.store.webhooks import Endpoint
from app.webhooks.sending import Sender
from app.webhooks.signing import new_secret
from bench import programs
from bench.contest import Options, Say
from bench.failure import BenchFailed
from bench.machine import Machine, this_machine
from bench.metering import WALLETS
from bench.poster import Poster
from bench.processes import HOST, Server, free_port
from bench.programs import API_KEY
from bench.totals import granted
from bench.wrk import WARM_UP_SECONDS, Load, check_installed, load, write_paced_script

PER_MINUTE: Final = 10_000
ANSWER_SECONDS: Final = 0.15
_METERED_PER_SECOND: Final = 300
_CONNECTIONS: Final = 8
_LEAST_SHARE: Final = 0.95
_LAG_SECONDS_MAX: Final = 2.0
_SECRET: Final = new_secret()


class Deliveries(msgspec.Struct, frozen=True, kw_only=True):
    """Loads without deliveries, with as many posts by another program, and with deliveries, in turns.

    `ratio` is the p99 with deliveries by the one without them, and `beside_ratio` that beside the other program, which
    is what so many connections cost everyone on the machine.
    """

    machine: Machine
    options: Options
    without: list[Load]
    beside: list[Load]
    with_them: list[Load]
    delivered_per_minute: float
    beside_ratio: float
    ratio: float


def measure(options: Options, say: Say) -> Deliveries:
    """Meters at a steady rate on three servers, and empties wallets on all; one of them has to tell of each.

    Beside another one, the process that posts is at work too, and told what to post by this program.

    Raises:
        BenchFailed: a request was refused, a program is missing, or fewer deliveries came than were to come.

    """
    check_installed()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chargly-bench-")))
        machine = this_machine(directory)
        script = write_paced_script(directory / "paced.lua", WALLETS, options.connections, _METERED_PER_SECOND)
        receiver = stack.enter_context(_receiving())
        # A new wallet has what two events cost: the second leaves it depleted.
        settings = {"CHARGLY_WEBHOOK_PRIVATE_TARGETS": "true", "CHARGLY_WELCOME_CREDITS": "16"}
        without, beside, with_them = servers = [
            stack.enter_context(programs.chargly(directory / name, more=settings))
            for name in ("without", "beside", "with")
        ]
        for server in servers:
            stack.enter_context(granted(server, WALLETS))
        _post(with_them, "/v1/webhook-endpoints", {"url": receiver.url, "events": ["*"]})
        crossings = [
            _Crossings(without),
            _Crossings(beside, posts_to=receiver.url),
            _Crossings(with_them),
        ]
        loads: list[list[Load]] = [[], [], []]
        delivered: list[float] = []
        told = 0
        for number in range(options.rounds + 1):
            for server, crossing, found in zip(servers, crossings, loads, strict=True):
                seconds = options.seconds if number else WARM_UP_SECONDS
                began = monotonic()
                with crossing.going_on():
                    measured = load(server, script, seconds=seconds, connections=options.connections)
                passed = monotonic() - began
                if server is not without:
                    told += crossing.emptied
                    receiver.await_count(told)
                if server is with_them:
                    delivered.append(crossing.emptied / passed * 60)
                if number:
                    found.append(measured)
                    say(f"round {number}/{options.rounds}  p99 {measured.p99_ms:.2f} ms")
        if median(delivered[1:]) < PER_MINUTE * _LEAST_SHARE:
            raise BenchFailed(f"{median(delivered[1:]):,.0f} deliveries a minute arrived of {PER_MINUTE:,}.")
        return Deliveries(
            machine=machine,
            options=options,
            without=loads[0],
            beside=loads[1],
            with_them=loads[2],
            delivered_per_minute=round(median(delivered[1:])),
            beside_ratio=round(_p99(loads[1]) / _p99(loads[0]), 2),
            ratio=round(_p99(loads[2]) / _p99(loads[0]), 2),
        )


def _p99(loads: list[Load]) -> float:
    return median(one.p99_ms for one in loads)


def text_of(result: Deliveries) -> str:
    """The loads, for a terminal."""
    rows = [
        ("without deliveries", result.without, 1.0),
        ("beside as many posts", result.beside, result.beside_ratio),
        ("with deliveries", result.with_them, result.ratio),
    ]
    lines = [
        f"POST /v1/events at about {_METERED_PER_SECOND:,} a second, and {PER_MINUTE:,} wallets emptied a minute",
        f"an endpoint that answers after {ANSWER_SECONDS * 1000:.0f} ms; {result.delivered_per_minute:,.0f} a minute",
        "",
        f"{'':<24}{'p50 ms':>10}{'p99 ms':>10}{'ratio':>10}",
        *(
            f"{name:<24}{median(one.p50_ms for one in loads):>10.2f}{_p99(loads):>10.2f}{ratio:>10.2f}"
            for name, loads, ratio in rows
        ),
    ]
    return "\n".join(lines)


def _post(server: Server, path: str, body: dict[str, Any], method: str = "POST") -> None:
    headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(), headers, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        answer.read()


class _Crossings:
    """Empties as many new wallets as there are to be deliveries, each with two events of its own.

    Args:
        server: whose wallets.
        posts_to: where a message for each is posted by this program, None for none.

    """

    def __init__(self, server: Server, posts_to: str | None = None) -> None:
        self._port = int(server.url.rsplit(":", 1)[1])
        self._posts_to = posts_to
        self._made = 0
        self.emptied = 0
        """How many, while it went on last."""

    @contextlib.contextmanager
    def going_on(self) -> Iterator[None]:
        """For as long as the context lasts."""
        self.emptied = 0
        over = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._empty(over)))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    async def _empty(self, over: threading.Event) -> None:
        sender = Sender(Config(webhook_private_targets=True))
        if self._posts_to is not None:
            await sender.start()
        try:
            await asyncio.gather(*(self._empty_share(over, first, sender) for first in range(_CONNECTIONS)))
            await asyncio.sleep(_LAG_SECONDS_MAX / 2 if self._posts_to is not None else 0)
        finally:
            await sender.close()

    async def _empty_share(self, over: threading.Event, first: int, sender: Sender) -> None:
        start, wallets = monotonic(), 0
        async with Poster(self._port) as poster:
            while not over.is_set():
                due = start + (first / _CONNECTIONS + wallets) * _CONNECTIONS * 60 / PER_MINUTE
                await asyncio.sleep(due - monotonic())
                name = f"new_{self._made}"
                self._made += 1
                for _ in range(2):
                    await poster.event(name)
                if self._posts_to is not None:
                    sender.send(_message(name, self._posts_to), lambda *_: None)
                self.emptied += 1
                wallets += 1


def _message(customer_id: str, url: str) -> Due:
    """What a server would say of a wallet that is empty."""
    payload = {
        "type": "wallet.depleted",
        "timestamp": "2026-01-01T00:00:00.000Z",
        "data": {"customer_id": customer_id, "low_balance_threshold": 20, "balance": 0, "available": 0},
    }
    delivery = Delivery(
        id=f"del_{customer_id}",
        endpoint_id="whe_",
        message_id=f"msg_{customer_id}",
        customer_id=customer_id,
        position=2,
        type="wallet.depleted",
        payload=json.dumps(payload),
        status="pending",
        attempts=0,
        next_at=0,
        created_at=0,
        ended_at=None,
        answer_status=None,
        error=None,
    )
    return Due(delivery, Endpoint(id="whe_", url=url, events=("*",), secret=_SECRET, created_at=0, updated_at=0))


class _Receiver:
    """An endpoint that takes its time, in a thread of its own, and little of the machine's."""

    def __init__(self, port: int) -> None:
        self.url = f"http://{HOST}:{port}/"
        self._ids: set[bytes] = set()

    def received(self, id: bytes) -> None:
        """Notes a message, which counts once however often it comes."""
        self._ids.add(id)

    def await_count(self, count: int) -> None:
        """Waits until so many messages have come.

        Raises:
            BenchFailed: they do not come.

        """
        deadline = monotonic() + _LAG_SECONDS_MAX
        while len(self._ids) < count:
            if monotonic() > deadline:
                raise BenchFailed(f"{len(self._ids):,} deliveries arrived of {count:,}.")
            time.sleep(0.01)


class _Receiving(asyncio.Protocol):
    """One of its connections: requests one after another, of which only the length is read."""

    def __init__(self, receiver: _Receiver) -> None:
        self._receiver = receiver
        self._received = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's are no subclass

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's own
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, _, body = self._received.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if length and len(body) >= int(length):
            self._received = body[int(length) :]
            self._receiver.received(head.lower().partition(b"webhook-id:")[2].partition(b"\r\n")[0])
            asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._answer)

    def _answer(self) -> None:
        if self._transport is not None:
            self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


@contextlib.contextmanager
def _receiving() -> Iterator[_Receiver]:
    port = free_port()
    receiver = _Receiver(port)
    ready, over = threading.Event(), threading.Event()

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: _Receiving(receiver), HOST, port)
        ready.set()
        await asyncio.to_thread(over.wait)
        server.close()

    thread = threading.Thread(target=lambda: uvloop.run(serve()))
    thread.start()
    ready.wait()
    try:
        yield receiver
    finally:
        over.set()
        thread.join()
