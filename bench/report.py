"""What was measured, as text for a terminal."""

from bench.metering import Metering, Row
from bench.push import PushLatency, Spread


def metering_text(result: Metering) -> str:
    """The facts, the table and the push's latency."""
    machine, options = result.machine, result.options
    facts = (
        f"{machine.cores} cores, {machine.system}, Python {machine.python}, SQLite {machine.sqlite}, "
        f"a page written and fsynced in {machine.sync_ms:.2f} ms"
    )
    how = (
        f"POST /v1/events over {options.connections} connections, one process each, synchronous=FULL; "
        f"medians of {options.rounds} rounds of {options.seconds} s"
    )
    head = f"{'':<24}{'requests/s':>12}{'ratio':>8}{'p50 ms':>9}{'p99 ms':>9}{'CPU µs/request':>17}{'others':>9}"
    last = "others: the share of all cores that neither the program nor wrk used; measure again where it is much."
    return "\n".join([facts, how, "", head, *map(_row, result.rows), last, "", _push(result.push)])


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
