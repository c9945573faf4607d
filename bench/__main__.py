"""The command line: one subcommand for each measurement."""

import argparse
import sys
from pathlib import Path

import msgspec

from bench import ledger, metering
from bench.failure import BenchFailed
from bench.report import ledger_text, metering_text


def main() -> None:
    """Runs the measurement that is asked for; what makes its numbers worthless ends it with a sentence and 1."""
    arguments = _parser().parse_args()
    try:
        arguments.run(arguments)
    except BenchFailed as failed:
        sys.exit(f"bench: {failed}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures Chargly on this machine.")
    commands = parser.add_subparsers(required=True, metavar="command")
    defaults = metering.Options()
    command = commands.add_parser("metering", help="events a second, and how soon a page hears of one")
    command.add_argument("--rounds", type=_positive, default=defaults.rounds, help="default %(default)s")
    command.add_argument("--seconds", type=_positive, default=defaults.seconds, help="of a load; default %(default)s")
    command.add_argument("--connections", type=_positive, default=defaults.connections, help="default %(default)s")
    command.add_argument("--out", type=Path, metavar="FILE.json", help="also write every number there")
    command.set_defaults(run=_metering)
    ours = ledger.Options()
    command = commands.add_parser("ledger", help="the rules and the writer without HTTP, and the audit")
    command.add_argument("--rounds", type=_positive, default=ours.rounds, help="default %(default)s")
    command.add_argument("--seconds", type=_positive, default=ours.seconds, help="of a load; default %(default)s")
    command.add_argument("--entries", type=_positive, default=ours.entries, help="of the long wallet; %(default)s")
    command.add_argument("--out", type=Path, metavar="FILE.json", help="also write every number there")
    command.set_defaults(run=_ledger)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("it must be at least 1")
    return number


def _metering(arguments: argparse.Namespace) -> None:
    options = metering.Options(rounds=arguments.rounds, seconds=arguments.seconds, connections=arguments.connections)
    result = metering.measure(options, say=_say)
    print(metering_text(result))
    _write(arguments.out, result)


def _ledger(arguments: argparse.Namespace) -> None:
    options = ledger.Options(rounds=arguments.rounds, seconds=arguments.seconds, entries=arguments.entries)
    result = ledger.measure(options, say=_say)
    print(ledger_text(result))
    _write(arguments.out, result)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _write(path: Path | None, result: msgspec.Struct) -> None:
    if path is not None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")


if __name__ == "__main__":
    main()
