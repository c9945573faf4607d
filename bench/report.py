"""What was measured, as text for a terminal."""

from collections.abc import Sequence

from bench import ledger, overview, postgres, size
from bench.contest import Options, Row
from bench.machine import Machine
from bench.metering import Metering
from bench.push import PushLatency, Spread
from bench.sockets import Sockets

_OTHERS = "others: the share of all cores that neither the program nor wrk used; measure again where it is much."


def metering_text(result: Metering) -> str:
    """The facts, the table, the pace of one answer and the push's latency."""
    how = f"POST /v1/events, one process each, synchronous=FULL; {_how(result.options)}"
    return "\n".join(
        [
            _facts(result.machine),
            how,
            "",
            *rows_text(result.rows),
            _OTHERS,
            "",
            "at about half of that rate:",
            *rows_text(result.pace.rows),
            f"the p99 is {result.pace.p99_more_ms:.2f} ms more than the bare app's",
            "",
            _push(result.push),
        ]
    )


def postgres_text(result: postgres.Postgres) -> str:
    """The facts and the table of PostgreSQL's."""
    how = f"POST /v1/events, PostgreSQL {result.version} on the same machine; {_how(result.options)}"
    others = "others: here it holds PostgreSQL's own processes."
    return "\n".join([_facts(result.machine), how, "", *rows_text(result.rows), others])


def size_text(result: size.Sizes) -> str:
    """The facts and the table of ledgers that get longer."""
    how = f"POST /v1/events over {size.WALLETS:,} wallets; {_how(result.options)}"
    bytes_each = f"{result.bytes_per_entry:.0f} bytes of the file for each entry"
    return "\n".join([_facts(result.machine), how, "", *rows_text(result.rows), "", bytes_each])


def sockets_text(result: Sockets) -> str:
    """The facts, frames a second, and memory."""
    frames, memory = result.frames_per_second, result.memory
    return "\n".join(
        [
            _facts(result.machine),
            f"{result.sockets:,} websockets on one wallet, frames of {result.frame_bytes} bytes, medians",
            "",
            f"{'':<28}{'bare':>12}{'chargly':>12}{'ratio':>8}",
            f"{'frames a second':<28}{frames.bare:>12,.0f}{frames.chargly:>12,.0f}{frames.ratio:>8.2f}",
            f"{'KiB for an idle one':<28}{memory.bare_kib:>12.1f}{memory.chargly_kib:>12.1f}{memory.ratio:>8.2f}",
        ]
    )


def connections_text(result: Sequence[tuple[int, Sequence[Row]]]) -> str:
    """Events a second by connections."""
    lines = [f"{'connections':<14}{'bare':>12}{'chargly':>12}{'ratio':>8}"]
    for number, (bare, chargly) in result:
        numbers = f"{bare.events_per_second:>12,.0f}{chargly.events_per_second:>12,.0f}{chargly.ratio:>8.2f}"
        lines.append(f"{number:<14}{numbers}")
    return "\n".join(lines)


def ledger_text(result: ledger.Ledgers) -> str:
    """The facts, and the table of the ledger without HTTP."""
    options = result.options
    how = (
        f"{ledger.CALLERS} callers on the writer, synchronous=FULL; medians of {options.rounds} rounds of "
        f"{options.seconds:g} s; the long wallet has {options.entries:,} entries"
    )
    head = f"{'':<44}{'a second':>12}{'ratio':>8}  to"
    rows = [
        f"{row.name:<44}{row.per_second:>12,.0f}" + ("" if row.ratio is None else f"{row.ratio:>8.2f}  {row.against}")
        for row in result.rows
    ]
    memory = f"verify took {result.verify_mib:.1f} MiB more for the long ledger than for an empty one"
    size = f"an event takes {result.bytes_per_event:.0f} bytes, {result.bytes_per_keyed_event:.0f} with a key"
    return "\n".join([_facts(result.machine), how, "", head, *rows, "", memory, size])


def overview_text(result: overview.Overviews) -> str:
    """The facts, and the table of what a dashboard asks first, in both ledgers."""
    options, few, many = result.options, result.few, result.many
    how = (
        f"a year of {few.events:,} events in {few.wallets:,} wallets, and of {many.events:,} in {many.wallets:,} "
        f"({result.bytes / 1e9:.1f} GB); {options.rounds} rounds of {options.times} times, alternating"
    )
    head = f"{'':<44}{'median':>9}{'p95 ms':>9}{'median':>11}{'p95 ms':>9}{'ratio':>8}"
    rows = [
        f"{row.name:<44}{row.few.median_ms:>9.2f}{row.few.p95_ms:>9.2f}"
        f"{row.many.median_ms:>11.2f}{row.many.p95_ms:>9.2f}{row.ratio:>8.2f}"
        for row in result.rows
    ]
    anew = f"{overview.ALL_ANEW}: once in a round"
    return "\n".join([_facts(result.machine), how, "", head, *rows, "", anew])


def rows_text(rows: Sequence[Row]) -> list[str]:
    """A table of programs."""
    head = f"{'':<50}{'events/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'CPU µs/request':>16}{'others':>8}{'ratio':>8}  to"
    return [head, *map(_row, rows)]


def _how(options: Options) -> str:
    return f"{options.connections} connections; medians of {options.rounds} rounds of {options.seconds} s"


def _facts(machine: Machine) -> str:
    return (
        f"{machine.cores} cores, {machine.system}, Python {machine.python}, SQLite {machine.sqlite}, "
        f"a page written and fsynced in {machine.sync_ms:.2f} ms"
    )


def _row(row: Row) -> str:
    cpu = "–" if row.cpu_us is None else f"{row.cpu_us:,.0f}"
    others = "–" if row.others is None else f"{row.others:.0%}"
    numbers = f"{row.events_per_second:>10,.0f}{row.p50_ms:>9.2f}{row.p99_ms:>9.2f}{cpu:>16}{others:>8}"
    return f"{row.name:<50}{numbers}{row.ratio:>8.2f}  {row.against}"


def _push(push: PushLatency) -> str:
    return "\n".join(
        [
            f"push to {push.sockets:,} websockets, {push.events:,} events at {push.events_per_second:,.0f} a second",
            f"  after the event's answer   {_spread(push.after_answer)}   ({push.earlier:.0%} came before it: 0 ms)",
            f"  after the event was sent   {_spread(push.after_request)}",
        ]
    )


def _spread(spread: Spread) -> str:
    return f"p50 {spread.p50_ms:6.2f}   p99 {spread.p99_ms:6.2f}   max {spread.max_ms:6.2f} ms"
