"""Events a second against a bare Starlette app and against a transaction for each request, and how long one takes."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench import programs
from bench.contest import Contender, Options, Row, Say, hold
from bench.machine import Machine, this_machine
from bench.push import PushLatency, measure_push
from bench.totals import granted
from bench.wrk import check_installed, write_batch_script, write_paced_script, write_script

WALLETS: Final = 1_000
BATCH_EVENTS: Final = 1_000
_BATCH_CONNECTIONS: Final = 1


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How long an answer takes at about half of the events a second that Chargly can do."""

    rows: list[Row]
    p99_more_ms: float


class Metering(msgspec.Struct, frozen=True, kw_only=True):
    """All that was measured, and on what."""

    machine: Machine
    options: Options
    rows: list[Row]
    pace: Pace
    push: PushLatency


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
        with _field(directory) as contenders:
            rows = hold(contenders, options, say)
        pace = _measure_pace(directory, round(rows[1].events_per_second / 2), options, say)
        say("push latency …")
        push = measure_push(directory / "push")
    return Metering(machine=machine, options=options, rows=rows, pace=pace, push=push)


def measure_rows(options: Options, say: Say) -> list[Row]:
    """Measures events a second alone. Takes and raises what `measure` does."""
    check_installed()
    with tempfile.TemporaryDirectory(prefix="chargly-bench-") as name, _field(Path(name)) as contenders:
        return hold(contenders, options, say)


@contextlib.contextmanager
def _field(directory: Path) -> Iterator[list[Contender]]:
    with contextlib.ExitStack() as stack:
        many, one = (write_script(directory / f"{wallets}.lua", wallets) for wallets in (WALLETS, 1))
        batches = write_batch_script(directory / "batch.lua", WALLETS, BATCH_EVENTS)
        bare = stack.enter_context(programs.bare(directory / "bare"))
        spread_out = stack.enter_context(programs.chargly(directory / "spread"))
        hot = stack.enter_context(programs.chargly(directory / "hot"))
        batched = stack.enter_context(programs.chargly(directory / "batched"))
        naive = stack.enter_context(programs.naive(directory / "naive", WALLETS))
        first = f"chargly, {WALLETS:,} wallets"
        yield [
            Contender("bare", bare, many),
            Contender(first, spread_out, many, stack.enter_context(granted(spread_out, WALLETS))),
            Contender("chargly, one hot wallet", hot, one, stack.enter_context(granted(hot, 1)), against=first),
            Contender(
                f"chargly, batches of {BATCH_EVENTS:,}",
                batched,
                batches,
                stack.enter_context(granted(batched, WALLETS)),
                events=BATCH_EVENTS,
                against=first,
                connections=_BATCH_CONNECTIONS,
            ),
            Contender("naive", naive, many, against=first),
        ]


def measure_connections(options: Options, connections: Sequence[int], say: Say) -> list[tuple[int, list[Row]]]:
    """Events a second of a bare app and of Chargly over several numbers of connections, each as long as `options` says.

    Raises:
        BenchFailed: a request was refused or lost, or a program is missing.

    """
    check_installed()
    with tempfile.TemporaryDirectory(prefix="chargly-bench-") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        script = write_script(directory / "many.lua", WALLETS)
        bare = stack.enter_context(programs.bare(directory / "bare"))
        chargly = stack.enter_context(programs.chargly(directory / "chargly"))
        ledger = stack.enter_context(granted(chargly, WALLETS))
        found = []
        for number in connections:
            say(f"{number} connections")
            contenders = [Contender("bare", bare, script), Contender("chargly", chargly, script, ledger)]
            found.append((number, hold(contenders, msgspec.structs.replace(options, connections=number), say)))
        return found


def _measure_pace(directory: Path, per_second: int, options: Options, say: Say) -> Pace:
    script = write_paced_script(directory / "paced.lua", WALLETS, options.connections, per_second)
    with (
        programs.bare(directory / "paced_bare") as bare,
        programs.chargly(directory / "paced") as chargly,
        granted(chargly, WALLETS) as ledger,
    ):
        contenders = [Contender("bare, paced", bare, script), Contender("chargly, paced", chargly, script, ledger)]
        rows = hold(contenders, options, say)
    return Pace(rows=rows, p99_more_ms=round(rows[1].p99_ms - rows[0].p99_ms, 2))
