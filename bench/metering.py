"""Events a second against a bare Starlette app and against a transaction for each request; then the push's latency."""

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from bench import programs
from bench.machine import Machine, this_machine
from bench.processes import Server
from bench.push import PushLatency, measure_push
from bench.totals import Ledger, granted
from bench.wrk import WARM_UP_SECONDS, Load, check_installed, load, write_script

WALLETS: Final = 1_000
Say = Callable[[str], None]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How long to measure: `seconds` is the length of each load, of which every round has one for each program."""

    rounds: int = 5
    seconds: int = 4
    connections: int = 64


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A program's rounds and their medians; `ratio` is its requests a second by those of the first row."""

    name: str
    requests_per_second: float
    ratio: float
    p50_ms: float
    p99_ms: float
    cpu_us: float | None
    others: float | None
    rounds: list[Load]


class Metering(msgspec.Struct, frozen=True, kw_only=True):
    """All that was measured, and on what."""

    machine: Machine
    options: Options
    rows: list[Row]
    push: PushLatency


class _Contender:
    """A running program, the script that loads it, and its ledger where answered events are to be found again."""

    def __init__(self, name: str, server: Server, script: Path, ledger: Ledger | None = None) -> None:
        self.name = name
        self.loads: list[Load] = []
        self._server = server
        self._script = script
        self._ledger = ledger

    def warm_up(self, options: Options) -> None:
        load(self._server, self._script, seconds=WARM_UP_SECONDS, connections=options.connections)

    def measure(self, options: Options) -> Load:
        before = self._ledger.totals() if self._ledger else None
        result = load(self._server, self._script, seconds=options.seconds, connections=options.connections)
        if self._ledger and before:
            self._ledger.check(before, result.requests)
        self.loads.append(result)
        return result


def measure(options: Options, say: Say) -> Metering:
    """Measures everything, on servers of its own in a temporary directory.

    Args:
        options: how long.
        say: told a line of progress now and then.

    Raises:
        BenchFailed: a request was refused or lost, or a program is missing.

    """
    check_installed()
    with tempfile.TemporaryDirectory(prefix="chargly-bench-") as name:
        directory = Path(name)
        machine = this_machine(directory)
        rows = _measure_rows(options, directory, say)
        say("push latency …")
        push = measure_push(directory / "push")
    return Metering(machine=machine, options=options, rows=rows, push=push)


def _measure_rows(options: Options, directory: Path, say: Say) -> list[Row]:
    with contextlib.ExitStack() as stack:
        contenders = _start(directory, stack)
        for contender in contenders:
            contender.warm_up(options)
        for number in range(1, options.rounds + 1):
            for contender in contenders:
                result = contender.measure(options)
                say(f"round {number}/{options.rounds}  {contender.name:<24}{result.requests_per_second:>9,.0f} /s")
    first = median(one.requests_per_second for one in contenders[0].loads)
    return [_row(contender, first) for contender in contenders]


def _start(directory: Path, stack: contextlib.ExitStack) -> list[_Contender]:
    many, one = (write_script(directory / f"{wallets}.lua", wallets) for wallets in (WALLETS, 1))
    bare = stack.enter_context(programs.bare(directory / "bare"))
    spread = stack.enter_context(programs.chargly(directory / "spread"))
    hot = stack.enter_context(programs.chargly(directory / "hot"))
    naive = stack.enter_context(programs.naive(directory / "naive", WALLETS))
    return [
        _Contender("bare", bare, many),
        _Contender(f"chargly, {WALLETS:,} wallets", spread, many, stack.enter_context(granted(spread, WALLETS))),
        _Contender("chargly, one hot wallet", hot, one, stack.enter_context(granted(hot, 1))),
        _Contender("naive", naive, many),
    ]


def _row(contender: _Contender, first: float) -> Row:
    loads = contender.loads
    rate = median(one.requests_per_second for one in loads)
    return Row(
        name=contender.name,
        requests_per_second=rate,
        ratio=round(rate / first, 3),
        p50_ms=median(one.p50_ms for one in loads),
        p99_ms=median(one.p99_ms for one in loads),
        cpu_us=_median_known([one.cpu_us for one in loads]),
        others=_median_known([one.others for one in loads]),
        rounds=loads,
    )


def _median_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
