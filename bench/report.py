"""What was measured, as text for a terminal."""

from bench import ledger
from bench.machine import Machine
from bench.metering import Metering, Row
from bench.push import PushLatency, Spread


def metering_text(result: Metering) -> str:
    """The facts, the table and the push's latency."""
    options = result.options
    facts = _facts(result.machine)
    how = (
        f"POST /v1/events over {options.connections} connections, one process each, synchronous=FULL; "
        f"medians of {options.rounds} rounds of {options.seconds} s"
    )
    head = f"{'':<24}{'requests/s':>12}{'ratio':>8}{'p50 ms':>9}{'p99 ms':>9}{'CPU µs/request':>17}{'others':>9}"
    last = "others: the share of all cores that neither the program nor wrk used; measure again where it is much."
    return "\n".join([facts, how, "", head, *map(_row, result.rows), last, "", _push(result.push)])


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
    return "\n".join([_facts(result.machine), how, "", head, *rows, "", memory])


def _facts(machine: Machine) -> str:
    return (
        f"{machine.cores} cores, {machine.system}, Python {machine.python}, SQLite {machine.sqlite}, "
        f"a page written and fsynced in {machine.sync_ms:.2f} ms"
    )


def _row(row: Row) -> str:
    cpu = "–" if row.cpu_us is None else f"{row.cpu_us:,.0f}"
    others = "–" if row.others is None else f"{row.others:.0%}"
    numbers = f"{row.requests_per_second:>12,.0f}{row.ratio:>8.2f}{row.p50_ms:>9.2f}{row.p99_ms:>9.2f}"
    return f"{row.name:<24}{numbers}{cpu:>17}{others:>9}"


def _push(push: PushLatency) -> str:
    return "\n".join(
        [
            f"push to {push.sockets} websockets, {push.events:,} events at {push.events_per_second:.0f} a second",
            f"  after the event's answer   {_spread(push.after_answer)}   ({push.earlier:.0%} came before it: 0 ms)",
            f"  after the event was sent   {_spread(push.after_request)}",
        ]
    )


def _spread(spread: Spread) -> str:
    return f"p50 {spread.p50_ms:6.2f}   p99 {spread.p99_ms:6.2f}   max {spread.max_ms:6.2f} ms"
