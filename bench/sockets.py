"""Very many websockets: what one costs while it waits, and how fast one change reaches all that show its wallet.

Both are compared with bare websockets under the same uvicorn, which know no wallet.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec
import uvloop

from bench import programs
from bench.crowd import Crowd
from bench.machine import Machine, this_machine
from bench.poster import Poster
from bench.processes import Server
from bench.totals import Ledger, granted

SOCKETS: Final = 2_000
_ROUNDS_OF_FRAMES: Final = 20
_REST_SECONDS: Final = 1.0
Say = Callable[[str], None]


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """Frames a second of a bare loop and of Chargly, medians of `rounds`, and the second by the first."""

    bare: float
    chargly: float
    ratio: float


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """KiB of memory that one idle websocket takes, bare and of Chargly, and the second by the first."""

    bare_kib: float
    chargly_kib: float
    ratio: float


class Sockets(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured; `sockets` is how many were open."""

    machine: Machine
    sockets: int
    frame_bytes: int
    frames_per_second: Rate
    memory: Memory
    opened_per_second: float


def measure_sockets(directory: Path, rounds: int, say: Say) -> Sockets:
    """Measures on servers of its own.

    Raises:
        BenchFailed: a websocket was refused, or a frame never came.

    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(directory, rounds, say))


class _Side:
    """One of the two servers, with its websockets open."""

    def __init__(self, name: str, server: Server, send_one: Callable[[], Awaitable[object]]) -> None:
        self.name = name
        self.server = server
        self.crowd = Crowd(server.port)
        self.kib = 0.0
        self.opened_per_second = 0.0
        self.rates: list[float] = []
        self._send_one = send_one

    async def open(self, path: str, messages: Sequence[bytes | None], *, first_frames: bool) -> None:
        before = self.server.memory_kib()
        began = time.perf_counter()
        await self.crowd.open(path, messages)
        if first_frames:
            await self.crowd.reach(len(messages))
        self.opened_per_second = len(messages) / (time.perf_counter() - began)
        await asyncio.sleep(_REST_SECONDS)
        self.kib = (self.server.memory_kib() - before) / len(messages)

    async def measure(self) -> float:
        began, before = time.perf_counter(), self.crowd.frames
        for number in range(1, _ROUNDS_OF_FRAMES + 1):
            await self._send_one()
            await self.crowd.reach(before + number * SOCKETS)
        self.rates.append(_ROUNDS_OF_FRAMES * SOCKETS / (time.perf_counter() - began))
        return self.rates[-1]


async def _measure(directory: Path, rounds: int, say: Say) -> Sockets:
    with (
        programs.bare_socket(directory / "bare_socket") as bare,
        programs.chargly(directory / "sockets") as chargly,
        granted(chargly, 1) as ledger,
    ):
        frame = _example(ledger)
        async with Poster(bare.port) as to_bare, Poster(chargly.port) as to_chargly:
            customer_id = programs.customer(1)
            sides = [
                _Side("bare loop", bare, lambda: to_bare.post("/broadcast", frame)),
                _Side("chargly", chargly, lambda: to_chargly.event(customer_id)),
            ]
            await sides[0].open("/live", [None] * SOCKETS, first_frames=False)
            subscribe = json.dumps({"type": "subscribe", "token": ledger.token(customer_id)}).encode()
            await sides[1].open("/v1/live", [subscribe] * SOCKETS, first_frames=True)
            for side in sides:
                say(f"{side.name:<24}{side.kib:>9.1f} KiB for each of {SOCKETS:,} websockets")
            for number in range(1, rounds + 1):
                for side in sides:
                    say(f"round {number}/{rounds}  {side.name:<24}{await side.measure():>9,.0f} frames/s")
            for side in sides:
                side.crowd.close()
    return _result(*sides, machine=this_machine(directory), frame_bytes=len(frame))


def _result(bare: _Side, chargly: _Side, *, machine: Machine, frame_bytes: int) -> Sockets:
    rates = median(bare.rates), median(chargly.rates)
    return Sockets(
        machine=machine,
        sockets=SOCKETS,
        frame_bytes=frame_bytes,
        frames_per_second=Rate(bare=rates[0], chargly=rates[1], ratio=round(rates[1] / rates[0], 3)),
        memory=Memory(
            bare_kib=round(bare.kib, 1), chargly_kib=round(chargly.kib, 1), ratio=round(chargly.kib / bare.kib, 2)
        ),
        opened_per_second=round(chargly.opened_per_second, 1),
    )


def _example(ledger: Ledger) -> bytes:
    """A text of the length of a push, as far as it matters."""
    entry: dict[str, Any] = {"id": "evt_" + "0" * 26, "kind": "event", "description": "Chat reply", "credits": -8}
    entry |= {"balance": 10**12, "held": 0, "available": 10**12, "version": 1, "created_at": "2026-01-01T00:00:00.000Z"}
    entry |= {"event": "chat.reply", "model": None, "member": None, "quantity": 1}
    state: dict[str, Any] = {"type": "wallet", "epoch": "0" * 16, "customer_id": programs.customer(1)}
    state |= {"balance": 10**12, "held": 0, "available": 10**12, "version": 1, "low": False, "entries": [entry]}
    state |= {"gap": False, "prices": 1, "at": "2026-01-01T00:00:00.000Z"}
    return json.dumps(state, separators=(",", ":")).encode()
