"""Draws throughput against connections, and against the length of the ledger."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.contest import Row
from bench.failure import BenchFailed
from bench.size import Sizes

_BARE, _OURS = "#8a8f98", "#4f46e5"


def plot(connections: Sequence[tuple[int, Sequence[Row]]], sizes: Sizes, out: Path) -> None:
    """Draws both, side by side.

    Args:
        connections: the rows of a bare app and of Chargly, by the number of connections.
        sizes: the rows of ledgers that get longer.
        out: the picture's file; its ending says of which kind.

    Raises:
        BenchFailed: matplotlib is not installed.

    """
    try:
        import matplotlib as mpl  # noqa: PLC0415 - only there with the extra `bench`
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError:
        raise BenchFailed("matplotlib draws and is not installed: in the checkout, pip install '.[bench]'.") from None
    # The same numbers give the same file.
    style: Any = {"svg.hashsalt": "chargly", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    with mpl.rc_context(style):
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        numbers = [number for number, _ in connections]
        bare = [rows[0].events_per_second for _, rows in connections]
        ours = [rows[1].events_per_second for _, rows in connections]
        _line(left, numbers, bare, _BARE, "bare Starlette, nothing kept")
        _line(left, numbers, ours, _OURS, "Chargly, each event on disk")
        left.set(title="by connections", xlabel="connections", ylabel="events/s", xscale="log", ylim=0)
        left.set_xticks(numbers, [str(number) for number in numbers])
        left.legend(frameon=False)
        rates = [row.events_per_second for row in sizes.rows]
        _line(right, sizes.entries, rates, _OURS, "Chargly")
        right.set(title="by entries in the ledger", xlabel="entries", xscale="log", ylim=(0, 1.25 * max(rates)))
        figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)


def _line(axes: Any, x: Sequence[float], y: Sequence[float], color: str, label: str) -> None:
    axes.plot(x, y, color=color, label=label, marker="o", markersize=4)
    axes.minorticks_off()
    axes.grid(visible=True, alpha=0.25)
