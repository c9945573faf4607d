"""Programs loaded in turns, round after round, so that what disturbs the machine disturbs all of them."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import msgspec

from bench.processes import Server
from bench.totals import Ledger
from bench.wrk import WARM_UP_SECONDS, Load, load

Say = Callable[[str], None]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How long to measure: `seconds` is the length of each load, of which every round has one for each program."""

    rounds: int = 5
    seconds: int = 4
    connections: int = 64


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A program's rounds and their medians; `ratio` is its events a second by those of the row `against`."""

    name: str
    events_per_second: float
    ratio: float
    against: str
    p50_ms: float
    p99_ms: float
    cpu_us: float | None
    others: float | None
    rounds: list[Load]


class Contender:
    """A running program, and how it is loaded.

    Args:
        name: as the table has it.
        server: the program.
        script: wrk's.
        ledger: where answered events are to be found again.
        events: in one request.
        against: the name of the row that its own is compared with; the first one's by default.
        connections: where it is loaded over others than the rest.

    """

    def __init__(
        self,
        name: str,
        server: Server,
        script: Path,
        ledger: Ledger | None = None,
        *,
        events: int = 1,
        against: str | None = None,
        connections: int | None = None,
    ) -> None:
        self.name = name
        self.against = against
        self.events = events
        self.loads: list[Load] = []
        self._server = server
        self._script = script
        self._ledger = ledger
        self._connections = connections

    def warm_up(self, options: Options) -> None:
        """Loads it for a moment."""
        self._load(WARM_UP_SECONDS, options)

    def measure(self, options: Options) -> Load:
        """Loads it for a round, and looks for what was answered.

        Raises:
            BenchFailed: a request was refused, or an answered event is not there.

        """
        before = self._ledger.totals() if self._ledger else None
        result = self._load(options.seconds, options)
        if self._ledger and before:
            self._ledger.check(before, result.requests * self.events)
        self.loads.append(result)
        return result

    @property
    def rate(self) -> float:
        """Events a second, the median of its rounds."""
        return median(one.requests_per_second for one in self.loads) * self.events

    def _load(self, seconds: int, options: Options) -> Load:
        os.sync()  # what the one before has left to be written is not to be this one's load
        connections = self._connections or options.connections
        return load(self._server, self._script, seconds=seconds, connections=connections)


def hold(contenders: Sequence[Contender], options: Options, say: Say) -> list[Row]:
    """Loads each in turn, and gives a row for each.

    Args:
        contenders: the first is what the others are compared with, unless they say otherwise.
        options: how long.
        say: told a line for each load.

    Raises:
        BenchFailed: a request was refused or lost.

    """
    for contender in contenders:
        contender.warm_up(options)
    for number in range(1, options.rounds + 1):
        for contender in contenders:
            rate = contender.measure(options).requests_per_second * contender.events
            say(f"round {number}/{options.rounds}  {contender.name:<40}{rate:>9,.0f} /s")
    rates = {contender.name: contender.rate for contender in contenders}
    return [_row(contender, contender.against or contenders[0].name, rates) for contender in contenders]


def _row(contender: Contender, against: str, rates: dict[str, float]) -> Row:
    loads = contender.loads
    return Row(
        name=contender.name,
        events_per_second=round(contender.rate, 1),
        ratio=round(contender.rate / rates[against], 3),
        against=against,
        p50_ms=median(one.p50_ms for one in loads),
        p99_ms=median(one.p99_ms for one in loads),
        cpu_us=_median_known([one.cpu_us for one in loads]),
        others=_median_known([one.others for one in loads]),
        rounds=loads,
    )


def _median_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
