"""What the numbers were measured on."""

import os
import platform
import sqlite3
import statistics
import time
from pathlib import Path

import msgspec

_SYNCS = 50
_PAGE_BYTES = 4096


class Machine(msgspec.Struct, frozen=True):
    """The facts of a machine that a benchmark depends on; `sync_ms` is one page of 4 KiB written and fsynced."""

    cores: int
    system: str
    python: str
    sqlite: str
    sync_ms: float


def this_machine(directory: Path) -> Machine:
    """The facts of this machine.

    Args:
        directory: where the databases are going to be, so that its disk is the one that is measured.

    """
    return Machine(
        cores=os.cpu_count() or 1,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        sqlite=sqlite3.sqlite_version,
        sync_ms=round(_sync_seconds(directory / "sync") * 1000, 3),
    )


def busy_seconds() -> float | None:
    """Processor time that all programs have used, and other machines on this hardware have taken, on all cores.

    None where there is no `/proc`.
    """
    try:
        first_line = Path("/proc/stat").read_text().partition("\n")[0]
    except FileNotFoundError:
        return None
    user, nice, system, _idle, _iowait, _irq, _softirq, steal = map(int, first_line.split()[1:9])
    return (user + nice + system + steal) / os.sysconf("SC_CLK_TCK")


def _sync_seconds(path: Path) -> float:
    taken = []
    with path.open("wb", buffering=0) as file:
        for _ in range(_SYNCS):
            started = time.perf_counter()
            file.write(bytes(_PAGE_BYTES))
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - started)
    return statistics.median(taken)
