"""The command line: one subcommand for each measurement, one for all of them, and one that draws them."""

import argparse
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import msgspec

from bench import deliveries, ledger, metering, overview, postgres, size, sockets
from bench.contest import Options, Row
from bench.failure import BenchFailed
from bench.plot import plot
from bench.report import (
    connections_text,
    ledger_text,
    metering_text,
    overview_text,
    postgres_text,
    rows_text,
    size_text,
    sockets_text,
)

_FILES: Final = 20_000
"""Open files that the measurements need: very many websockets, on both sides."""
_MANY_CONNECTIONS: Final = 256
_CONNECTIONS: Final = (1, 4, 16, 64, 256)


class All(msgspec.Struct, frozen=True, kw_only=True):
    """Every measurement of `python -m bench all`."""

    metering: metering.Metering
    metering_256: list[Row]
    postgres: postgres.Postgres
    sockets: sockets.Sockets
    sizes: size.Sizes
    connections: list[tuple[int, list[Row]]]


def main() -> None:
    """Runs the measurement that is asked for; what makes its numbers worthless ends it with a sentence and 1."""
    arguments = _parser().parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        arguments.run(arguments)
    except BenchFailed as failed:
        sys.exit(f"bench: {failed}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures Chargly on this machine.")
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, run, about in (
        ("metering", _metering, "events a second, how long one takes, and how soon a page hears of it"),
        ("postgres", _postgres, "PostgreSQL against SQLite and against a function for each request"),
        ("sockets", _sockets, "very many websockets: frames a second, and memory"),
        ("size", _size, "whether a ledger gets slower as it gets longer"),
        ("deliveries", _deliveries, "whether metering waits for webhooks to an endpoint that is slow"),
        ("all", _all, "all of these, and events a second by connections: a quarter of an hour"),
    ):
        command = commands.add_parser(name, help=about)
        defaults = Options()
        command.add_argument("--rounds", type=_positive, default=defaults.rounds, help="default %(default)s")
        if name != "sockets":  # which sends a number of frames, however long they take
            command.add_argument("--seconds", type=_positive, default=defaults.seconds, help="of a load; %(default)s")
            connections = defaults.connections
            command.add_argument("--connections", type=_positive, default=connections, help="default %(default)s")
        if name in ("size", "all"):
            longest = size.SIZES[-1]
            command.add_argument("--entries", type=_positive, default=longest, help="of the longest; %(default)s")
        command.add_argument("--out", type=Path, metavar="FILE.json", help="also write every number there")
        command.set_defaults(run=run)
    ours = ledger.Options()
    command = commands.add_parser("ledger", help="the rules and the writer without HTTP, and the audit")
    command.add_argument("--rounds", type=_positive, default=ours.rounds, help="default %(default)s")
    command.add_argument("--seconds", type=_positive, default=ours.seconds, help="of a load; default %(default)s")
    command.add_argument("--entries", type=_positive, default=ours.entries, help="of the long wallet; %(default)s")
    command.add_argument("--out", type=Path, metavar="FILE.json", help="also write every number there")
    command.set_defaults(run=_ledger)
    asked = overview.Options()
    command = commands.add_parser("overview", help="whether a dashboard gets slower as a ledger gets longer")
    command.add_argument("--rounds", type=_positive, default=asked.rounds, help="default %(default)s")
    command.add_argument("--times", type=_positive, default=asked.times, help="in a round; default %(default)s")
    command.add_argument("--events", type=_positive, default=asked.events, help="of the longer; default %(default)s")
    command.add_argument("--out", type=Path, metavar="FILE.json", help="also write every number there")
    command.set_defaults(run=_overview)
    command = commands.add_parser("plot", help="draw what `all` has written; takes the extra `bench`")
    command.add_argument("results", type=Path, metavar="RESULTS.json")
    command.add_argument("out", type=Path, metavar="FILE.svg")
    command.set_defaults(run=_plot)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("it must be at least 1")
    return number


def _options(arguments: argparse.Namespace) -> Options:
    return Options(rounds=arguments.rounds, seconds=arguments.seconds, connections=arguments.connections)


def _metering(arguments: argparse.Namespace) -> None:
    result = metering.measure(_options(arguments), say=_say)
    _show(metering_text(result), result, arguments.out)


def _postgres(arguments: argparse.Namespace) -> None:
    result = postgres.measure(_options(arguments), say=_say)
    _show(postgres_text(result), result, arguments.out)


def _sockets(arguments: argparse.Namespace) -> None:
    result = _measure_sockets(arguments)
    _show(sockets_text(result), result, arguments.out)


def _size(arguments: argparse.Namespace) -> None:
    result = _measure_size(arguments)
    _show(size_text(result), result, arguments.out)


def _deliveries(arguments: argparse.Namespace) -> None:
    result = deliveries.measure(_options(arguments), say=_say)
    _show(deliveries.text_of(result), result, arguments.out)


def _ledger(arguments: argparse.Namespace) -> None:
    options = ledger.Options(rounds=arguments.rounds, seconds=arguments.seconds, entries=arguments.entries)
    result = ledger.measure(options, say=_say)
    _show(ledger_text(result), result, arguments.out)


def _overview(arguments: argparse.Namespace) -> None:
    options = overview.Options(rounds=arguments.rounds, times=arguments.times, events=arguments.events)
    result = overview.measure(options, say=_say)
    _show(overview_text(result), result, arguments.out)


def _all(arguments: argparse.Namespace) -> None:
    options = _options(arguments)
    few = metering.measure(options, say=_say)
    print(metering_text(few), end="\n\n")
    many = metering.measure_rows(msgspec.structs.replace(options, connections=_MANY_CONNECTIONS), say=_say)
    print("\n".join([f"{_MANY_CONNECTIONS} connections", *rows_text(many)]), end="\n\n")
    of_postgres = postgres.measure(options, say=_say)
    print(postgres_text(of_postgres), end="\n\n")
    of_sockets = _measure_sockets(arguments)
    print(sockets_text(of_sockets), end="\n\n")
    sizes = _measure_size(arguments)
    print(size_text(sizes), end="\n\n")
    by_connections = metering.measure_connections(options, _CONNECTIONS, _say)
    print(connections_text(by_connections))
    result = All(
        metering=few,
        metering_256=many,
        postgres=of_postgres,
        sockets=of_sockets,
        sizes=sizes,
        connections=by_connections,
    )
    _write(arguments.out, result)


def _measure_sockets(arguments: argparse.Namespace) -> sockets.Sockets:
    with tempfile.TemporaryDirectory(prefix="chargly-bench-") as name:
        return sockets.measure_sockets(Path(name), arguments.rounds, _say)


def _measure_size(arguments: argparse.Namespace) -> size.Sizes:
    shorter = [entries for entries in size.SIZES if entries < arguments.entries]
    return size.measure(_options(arguments), [*shorter, arguments.entries], say=_say)


def _plot(arguments: argparse.Namespace) -> None:
    results = msgspec.json.decode(arguments.results.read_bytes(), type=All)
    plot(results.connections, results.sizes, arguments.out)


def _show(text: str, result: Any, out: Path | None) -> None:
    print(text)
    _write(out, result)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _write(path: Path | None, result: Any) -> None:
    if path is not None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")


if __name__ == "__main__":
    main()
