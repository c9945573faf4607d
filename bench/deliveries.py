"""Whether metering waits for webhooks: ten thousand deliveries a minute to an endpoint that is slow to answer."""

import asyncio
import contextlib
import json
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any, Final

import msgspec

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
_CROSSING_WALLETS: Final = 50
_CONNECTIONS: Final = 8
_LEAST_SHARE: Final = 0.95


class Deliveries(msgspec.Struct, frozen=True, kw_only=True):
    """Loads without and with deliveries, in turns; `ratio` is the p99 with them by the one without."""

    machine: Machine
    options: Options
    without: list[Load]
    with_them: list[Load]
    delivered_per_minute: float
    ratio: float


def measure(options: Options, say: Say) -> Deliveries:
    """Meters at a steady rate on two servers, each with as many crossings of a threshold; one of them has to tell.

    Raises:
        BenchFailed: a request was refused, a program is missing, or fewer deliveries came than were to come.

    """
    check_installed()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chargly-bench-")))
        machine = this_machine(directory)
        script = write_paced_script(directory / "paced.lua", WALLETS, options.connections, _METERED_PER_SECOND)
        receiver = stack.enter_context(_receiving())
        private = {"CHARGLY_WEBHOOK_PRIVATE_TARGETS": "true"}
        servers = [
            stack.enter_context(programs.chargly(directory / name, more=private)) for name in ("without", "with")
        ]
        for server in servers:
            stack.enter_context(granted(server, WALLETS))
            _prepare(server)
        _post(servers[1], "/v1/webhook-endpoints", {"url": receiver.url, "events": ["*"]})
        crossings = [_Crossings(server) for server in servers]
        loads: list[list[Load]] = [[], []]
        delivered: list[float] = []
        for number in range(options.rounds + 1):
            for server, crossing, found in zip(servers, crossings, loads, strict=True):
                seconds = options.seconds if number else WARM_UP_SECONDS
                before, began = receiver.count, monotonic()
                with crossing.going_on():
                    measured = load(server, script, seconds=seconds, connections=options.connections)
                if number:
                    found.append(measured)
                    if server is servers[1]:
                        delivered.append((receiver.count - before) / (monotonic() - began) * 60)
                    say(f"round {number}/{options.rounds}  p99 {measured.p99_ms:.2f} ms")
        if median(delivered) < PER_MINUTE * _LEAST_SHARE:
            raise BenchFailed(f"{median(delivered):,.0f} deliveries a minute arrived of {PER_MINUTE:,}.")
        return Deliveries(
            machine=machine,
            options=options,
            without=loads[0],
            with_them=loads[1],
            delivered_per_minute=round(median(delivered)),
            ratio=round(_p99(loads[1]) / _p99(loads[0]), 2),
        )


def _p99(loads: list[Load]) -> float:
    return median(one.p99_ms for one in loads)


def text_of(result: Deliveries) -> str:
    """The loads, for a terminal."""
    rows = [("without deliveries", result.without), ("with deliveries", result.with_them)]
    lines = [
        f"POST /v1/events at about {_METERED_PER_SECOND:,} a second, and {PER_MINUTE:,} crossings a minute",
        f"an endpoint that answers after {ANSWER_SECONDS * 1000:.0f} ms; {result.delivered_per_minute:,.0f} a minute",
        "",
        f"{'':<24}{'p50 ms':>10}{'p99 ms':>10}",
        *(f"{name:<24}{median(one.p50_ms for one in loads):>10.2f}{_p99(loads):>10.2f}" for name, loads in rows),
        f"{'ratio':<24}{'':>10}{result.ratio:>10.2f}",
    ]
    return "\n".join(lines)


def _prepare(server: Server) -> None:
    """Wallets that stand at their thresholds: each credit less or more is a crossing."""
    for number in range(_CROSSING_WALLETS):
        path = f"/v1/wallets/crossing_{number}"
        _post(server, f"{path}/grants", {"credits": 100, "category": "promotional"})
        _post(server, path, {"low_balance_threshold": 100}, method="PATCH")


def _post(server: Server, path: str, body: dict[str, Any], method: str = "POST") -> None:
    headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(), headers, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        answer.read()


class _Crossings:
    """Moves balances of a server's wallets below their thresholds and back, as often as there are to be deliveries."""

    def __init__(self, server: Server) -> None:
        self._port = int(server.url.rsplit(":", 1)[1])
        self._is_low = [False] * _CROSSING_WALLETS

    @contextlib.contextmanager
    def going_on(self) -> Iterator[None]:
        """For as long as the context lasts."""
        over = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._cross(over)))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    async def _cross(self, over: threading.Event) -> None:
        start = monotonic()

        async def share(first: int) -> None:
            number = first
            async with Poster(self._port) as poster:
                while not over.is_set():
                    await asyncio.sleep(start + number * 60 / PER_MINUTE - monotonic())
                    wallet = number % _CROSSING_WALLETS
                    credits = 1 if self._is_low[wallet] else -1
                    self._is_low[wallet] = not self._is_low[wallet]
                    body = b'{"credits":%d,"reason":"crossing"}' % credits
                    await poster.post(f"/v1/wallets/crossing_{wallet}/adjustments", body)
                    number += _CONNECTIONS

        await asyncio.gather(*(share(first) for first in range(_CONNECTIONS)))


class _Receiver:
    """An endpoint that takes its time, in a thread of its own."""

    def __init__(self, port: int) -> None:
        self.url = f"http://{HOST}:{port}/"
        self.count = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length))
                await asyncio.sleep(ANSWER_SECONDS)
                self.count += 1
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()


@contextlib.contextmanager
def _receiving() -> Iterator[_Receiver]:
    port = free_port()
    receiver = _Receiver(port)
    ready, over = threading.Event(), threading.Event()

    async def serve() -> None:
        server = await asyncio.start_server(receiver.answer, HOST, port)
        ready.set()
        await asyncio.to_thread(over.wait)
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait()
    try:
        yield receiver
    finally:
        over.set()
        thread.join()
