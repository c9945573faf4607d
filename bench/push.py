"""How soon a page hears of an event: this process posts events, another one listens on websockets.

Both read `time.monotonic()`, which is one clock for the whole system on Linux.
"""

import asyncio
import math
import multiprocessing
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop

from bench import programs
from bench.failure import BenchFailed
from bench.listener import Heard, listen
from bench.poster import Posted, post_events
from bench.processes import Server
from bench.totals import granted

EVENTS_PER_SECOND: Final = 1_000
SECONDS: Final = 10
WALLETS: Final = 1_000
_LISTENER_SECONDS_MAX: Final = 30.0
_RATE_KEPT_MIN: Final = 0.95


class Spread(msgspec.Struct, frozen=True):
    """Some times in milliseconds."""

    p50_ms: float
    p99_ms: float
    max_ms: float


class PushLatency(msgspec.Struct, frozen=True, kw_only=True):
    """When the frame with an event's version came: after the event's HTTP answer, and after the event was sent.

    A frame that came before the answer counts as 0 after it; `earlier` is the share of those.
    """

    events: int
    events_per_second: float
    sockets: int
    after_answer: Spread
    after_request: Spread
    earlier: float


def measure_push(directory: Path) -> PushLatency:
    """Measures on a Chargly of its own, with one websocket for each wallet.

    Raises:
        BenchFailed: an event was refused, its frame never came, or the events could not be sent in time.

    """
    customers = [programs.customer(number) for number in range(1, WALLETS + 1)]
    with programs.chargly(directory) as server, granted(server, WALLETS) as ledger:
        tokens = [ledger.token(customer) for customer in customers]
        posted, heard = _post_and_listen(server, customers, tokens)
    return _latency(posted, heard)


def _post_and_listen(
    server: Server, customers: Sequence[str], tokens: Sequence[str]
) -> tuple[list[Posted], Mapping[str, list[Heard]]]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    listener = context.Process(target=listen, args=(theirs, server.port, tokens), daemon=True)
    listener.start()
    theirs.close()
    try:
        silent = _receive(ours)
        if silent:
            raise BenchFailed(f"{silent} of {len(tokens)} websockets were not sent their wallet's state.")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            posted = runner.run(post_events(server.port, customers, EVENTS_PER_SECOND, SECONDS))
        ours.send("done")
        heard: dict[str, list[Heard]] = _receive(ours)
        return posted, heard
    finally:
        listener.terminate()
        listener.join()


def _receive(pipe: Connection) -> Any:
    if not pipe.poll(_LISTENER_SECONDS_MAX):
        raise BenchFailed("the listening process does not answer.")
    try:
        return pipe.recv()
    except EOFError:
        raise BenchFailed("the listening process ended; its error is above.") from None


def _latency(posted: Sequence[Posted], heard: Mapping[str, list[Heard]]) -> PushLatency:
    came_at = _first_frames(heard)
    missing = sum((event.customer_id, event.version) not in came_at for event in posted)
    if missing:
        raise BenchFailed(f"{missing} of {len(posted)} events were never pushed.")
    took = max(event.answered_at for event in posted) - min(event.sent_at for event in posted)
    rate = len(posted) / took
    if rate < _RATE_KEPT_MIN * EVENTS_PER_SECOND:
        raise BenchFailed(f"{EVENTS_PER_SECOND} events a second were wanted, and only {rate:.0f} could be sent.")
    after_answer = [came_at[event.customer_id, event.version] - event.answered_at for event in posted]
    return PushLatency(
        events=len(posted),
        events_per_second=round(rate, 1),
        sockets=len(heard),
        after_answer=spread([max(0.0, seconds) for seconds in after_answer]),
        after_request=spread([came_at[event.customer_id, event.version] - event.sent_at for event in posted]),
        earlier=round(sum(seconds < 0 for seconds in after_answer) / len(posted), 3),
    )


def _first_frames(heard: Mapping[str, list[Heard]]) -> dict[tuple[str, int], float]:
    """When each version of each wallet was known: at the first frame of that version or a later one."""
    came_at = {}
    for customer_id, frames in heard.items():
        known = frames[0].version
        for frame in frames[1:]:
            for version in range(known + 1, frame.version + 1):
                came_at[customer_id, version] = frame.at
            known = max(known, frame.version)
    return came_at


def spread(seconds: Sequence[float]) -> Spread:
    """Some times in seconds, as their median, ninety-ninth of a hundred, and longest."""
    ordered = sorted(seconds)

    def at(share: float) -> float:
        return round(ordered[math.ceil(share * len(ordered)) - 1] * 1000, 3)

    return Spread(at(0.5), at(0.99), at(1))
