"""What a server counts and measures, as Prometheus reads it.

Processes of one server answer for all of them: each keeps its numbers in a file of a folder that they share, which is
prometheus-client's own way, and whichever is asked adds them up.
"""

import contextlib
import fcntl
import os
import time
from collections import Counter as Count
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

SHARED_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the shared folder; prometheus-client reads it when it is imported."""
CONTENT_TYPE: Final = CONTENT_TYPE_LATEST.encode()
_COUNTED: Final = ("counter", "histogram")
"""Kinds of metrics that are kept after their process."""
_ENDED: Final = "ended"

_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0)


class Metrics:
    """One server's metrics. What happens often is counted a batch at a time.

    Where several processes share a folder, `process_*` and `python_gc_*` are left out: they would be of whichever was
    asked.
    """

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.are_shared = bool(os.environ.get(SHARED_FOLDER))
        """Whether `text` answers for other processes too, which read what this one has sampled."""
        if not self.are_shared:
            ProcessCollector(registry=registry)
            GCCollector(registry=registry)
        self._registry = registry
        self._watched: list[tuple[Gauge, Callable[[], float]]] = []
        self._operations = Counter(
            "chargly_operations",
            "What was asked of the ledger, by kind and result: applied, replayed, or the code of a refusal.",
            ["kind", "result"],
            registry=registry,
        )
        self._batch_size = Histogram(
            "chargly_batch_operations", "Operations in one transaction.", buckets=_SIZES, registry=registry
        )
        self._batch_seconds = Histogram(
            "chargly_batch_seconds",
            "From when a transaction is handed to the database until it is answered.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.refusals = Counter("chargly_refusals", "Requests that were refused, by code.", ["code"], registry=registry)
        self.pushes = Counter("chargly_pushes", "Wallets' states sent to websockets.", registry=registry)
        self.caught_up = Counter(
            "chargly_caught_up", "Wallets read for pages that lacked what others had written.", registry=registry
        )
        self._bus_seconds = Histogram(
            "chargly_bus_seconds",
            "From another server's sending of a notice until it is heard, by the clocks of both.",
            buckets=_SECONDS,
            registry=registry,
        )

        self._deliveries = Counter(
            "chargly_webhook_deliveries",
            "Attempts to deliver a webhook: delivered, pending (tried again later) or failed (given up).",
            ["result"],
            registry=registry,
        )

    def watch(self, name: str, text: str, read: Callable[[], float], of_all: Literal["livesum", "livemin"]) -> None:
        """Adds a gauge that is read whenever the metrics are sampled; `of_all` is how processes' values become one."""
        self._watched.append((Gauge(name, text, registry=self._registry, multiprocess_mode=of_all), read))

    def sample(self) -> None:
        """Reads what is watched."""
        for gauge, read in self._watched:
            gauge.set(read())

    def batch(self, results: Sequence[tuple[str, str]], seconds: float) -> None:
        """Counts a transaction: the kind and result of each of its operations, and how long it took."""
        self._batch_size.observe(len(results))
        self._batch_seconds.observe(seconds)
        for (kind, result), count in Count(results).items():
            self._operations.labels(kind, result).inc(count)

    def delivered(self, results: Sequence[str]) -> None:
        """Counts attempts to deliver webhooks, by what their deliveries became."""
        for result, count in Count(results).items():
            self._deliveries.labels(result).inc(count)

    def heard(self, sent_at_ms: int) -> None:
        """Measures how long a notice was on its way."""
        if sent_at_ms:
            self._bus_seconds.observe(max(0.0, time.time() - sent_at_ms / 1000))

    def text(self) -> bytes:
        """All of it, in Prometheus's format; what other processes watch as they sampled it last."""
        self.sample()
        if not self.are_shared:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        with _in_turn(_folder(), fcntl.LOCK_SH):
            return generate_latest(registry)


def forget_process(pid: int) -> None:
    """Takes a process that has ended out of the gauges of those that live; what it counted stays counted.

    Its files are added to those of all that have ended before, or each replaced process would make every answer longer.
    """
    folder = _folder()
    with _in_turn(folder, fcntl.LOCK_EX):
        mark_process_dead(pid, str(folder))
        for kind in _COUNTED:
            _move_counts(folder / f"{kind}_{pid}.db", folder / f"{kind}_{_ENDED}.db")


def _move_counts(source: Path, target: Path) -> None:
    if not source.exists():
        return
    sums = MmapedDict(str(target))
    for key, value, at, _ in MmapedDict.read_all_values_from_file(str(source)):
        before, _ = sums.read_value(key)
        sums.write_value(key, before + value, at)
    sums.close()
    source.unlink()


def _folder() -> Path:
    return Path(os.environ[SHARED_FOLDER])


@contextlib.contextmanager
def _in_turn(folder: Path, way: int) -> Iterator[None]:
    """Those who read the folder may do so together; whoever moves what is in it does so alone."""
    with (folder / "turn").open("a") as file:
        fcntl.flock(file, way)
        yield
