"""Whether an overview gets slower as a ledger gets longer: what the dashboard asks first, after much or little.

The page asks for all of it at once, each over a kept connection of its own, and here also for one after the other.
"""

import contextlib
import http.client
import os
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Final
from urllib.parse import urlencode

import msgspec

from app.config import LIMITS
from app.rules.periods import DAY_MS, HOUR_MS
from app.rules.times import rfc3339
from app.store.ids import now_ms
from bench import programs
from bench.contest import Say
from bench.failure import BenchFailed
from bench.machine import Machine, this_machine
from bench.processes import HOST, Server
from bench.year import Year, write_year

EVENTS: Final = 10_000_000
WALLETS: Final = 100_000
FEW: Final = Year(10_000, 1_000)
ALL: Final = "all of them at once"
ALL_ANEW: Final = "the same, wallets counted anew"
_DAYS: Final = 30
_TIMEOUT_SECONDS: Final = 30.0


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How much to ask: every round asks each ledger for each answer so many times."""

    rounds: int = 5
    times: int = 20
    events: int = EVENTS


class Answer(msgspec.Struct, frozen=True):
    """How long an answer took, in milliseconds."""

    median_ms: float
    p95_ms: float


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked, in both ledgers; `ratio` is the longer one's median by the other's."""

    name: str
    few: Answer
    many: Answer
    ratio: float


class Overviews(msgspec.Struct, frozen=True, kw_only=True):
    """All that was measured, and on what. `bytes` is the longer ledger's file."""

    machine: Machine
    options: Options
    few: Year
    many: Year
    bytes: int
    rows: list[Row]


def measure(options: Options, say: Say) -> Overviews:
    """Measures on two ledgers of its own.

    Args:
        options: how much.
        say: told a line now and then.

    Raises:
        BenchFailed: an answer was refused.

    """
    many = Year(options.events, max(1, min(WALLETS, options.events // 10)))
    with tempfile.TemporaryDirectory(prefix="chargly-bench-") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        askers, size = [], 0
        for place, year in (("few", FEW), ("many", many)):
            say(f"writing a ledger of {year.events:,} events in {year.wallets:,} wallets …")
            path = directory / f"{place}.db"
            size = write_year(path, year)
            server = stack.enter_context(programs.chargly(directory / place, f"sqlite:///{path}"))
            askers.append(stack.enter_context(_asking(server)))
        os.sync()  # what was written is not to be the load of what is asked
        for number in range(1, options.rounds + 1):
            # What is known of wallets from the round before is too old by then.
            time.sleep(LIMITS.standings_seconds_max)
            for asker in askers:
                asker.measure(options.times)
                say(f"round {number}/{options.rounds}  {ALL}: {asker.median(ALL):.1f} ms")
        few, longer = askers
        return Overviews(
            machine=this_machine(directory),
            options=options,
            few=FEW,
            many=many,
            bytes=size,
            rows=[_row(what, few.taken[what], longer.taken[what]) for what in few.taken],
        )


def _row(name: str, few: Sequence[float], many: Sequence[float]) -> Row:
    return Row(name=name, few=_answer(few), many=_answer(many), ratio=round(median(many) / median(few), 2))


def _answer(taken: Sequence[float]) -> Answer:
    p95 = quantiles(taken, n=20, method="inclusive")[-1] if len(taken) > 1 else taken[0]
    return Answer(round(median(taken), 2), round(p95, 2))


class _Asker:
    """Asks a server as a dashboard does, over connections that it keeps."""

    def __init__(self, server: Server, paths: Mapping[str, str]) -> None:
        self._paths = paths
        self._kept = {name: http.client.HTTPConnection(HOST, server.port, timeout=_TIMEOUT_SECONDS) for name in paths}
        self.taken: dict[str, list[float]] = {name: [] for name in (*paths, ALL, ALL_ANEW)}
        """Milliseconds, by what was asked for."""

    def median(self, name: str) -> float:
        """Of what was taken so far, in milliseconds."""
        return median(self.taken[name])

    def measure(self, times: int) -> None:
        """Asks for all of it first, when wallets have to be counted anew; then for each answer and for all in turns."""
        self._ask(ALL_ANEW, self._paths)
        for _ in range(times):
            for name in self._paths:
                self._ask(name, [name])
            self._ask(ALL, self._paths)

    def _ask(self, what: str, names: Collection[str]) -> None:
        """Asks for some at once, and keeps how long it took until all were answered."""
        started = time.perf_counter()
        for name in names:
            self._kept[name].request("GET", self._paths[name], headers={"Authorization": f"Bearer {programs.API_KEY}"})
        for name in names:
            self._read(name)
        self.taken[what].append((time.perf_counter() - started) * 1000)

    def _read(self, name: str) -> None:
        answer = self._kept[name].getresponse()
        body = answer.read()
        if answer.status != 200:
            raise BenchFailed(f"GET {self._paths[name]} answered {answer.status}: {body[:500]!r}")

    def close(self) -> None:
        """Ends its connections."""
        for kept in self._kept.values():
            kept.close()


@contextlib.contextmanager
def _asking(server: Server) -> Iterator[_Asker]:
    """An asker, once there is advice to be read."""
    now = now_ms()
    asker = _Asker(server, _paths(now))
    try:
        _advise(server)
        asker.measure(1)
        for taken in asker.taken.values():
            taken.clear()
        yield asker
    finally:
        asker.close()


def _paths(now: int) -> dict[str, str]:
    """What is asked for, by its name in the table: whole days in UTC, the last of them so far."""
    until = -(-now // HOUR_MS) * HOUR_MS
    since = until // DAY_MS * DAY_MS - (_DAYS - 1) * DAY_MS
    before = {"from": rfc3339(since - (until - since)), "to": rfc3339(since)}
    last = {"from": rfc3339(since), "to": rfc3339(until)}
    by_event = urlencode(last | {"interval": "day", "group_by": "event", "top": "40"})
    return {
        f"overview of {_DAYS} days": f"/v1/overview?{urlencode(last)}",
        f"overview of the {_DAYS} days before": f"/v1/overview?{urlencode(before)}",
        f"credits and money of {_DAYS} days by day": f"/v1/flows?{urlencode(last | {'interval': 'day'})}",
        f"usage of {_DAYS} days by day and event": f"/v1/usage?{by_event}",
        f"how each event went in {_DAYS} days": f"/v1/usage/events?{urlencode(last)}",
        "wallets that are low": "/v1/wallets?state=low&limit=6",
        "recommendations that are pending": "/v1/pricing/recommendations?status=pending&limit=100",
        "webhook endpoints": "/v1/webhook-endpoints",
    }


def _advise(server: Server) -> None:
    """Lets the server make advice, so that there is some."""
    kept = http.client.HTTPConnection(HOST, server.port, timeout=_TIMEOUT_SECONDS)
    with contextlib.closing(kept):
        headers = {"Authorization": f"Bearer {programs.API_KEY}", "Content-Type": "application/json"}
        kept.request("POST", "/v1/pricing/recommendations", body="{}", headers=headers)
        answer = kept.getresponse()
        body = answer.read()
    if answer.status >= 300:
        raise BenchFailed(f"POST /v1/pricing/recommendations answered {answer.status}: {body[:500]!r}")
