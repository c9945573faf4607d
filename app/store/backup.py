"""A whole copy of a SQLite ledger, made beside a running server."""

import contextlib
import shutil
import sqlite3
from pathlib import Path

from app.config import Config
from app.store.sqlite import sqlite_path


class NotWhole(Exception):
    """A copy that SQLite finds damaged."""


def copy_ledger(config: Config, to: Path) -> None:
    """Writes the ledger as of one moment, compact and in one file. Whoever meters meanwhile does not wait.

    Args:
        config: names the ledger.
        to: where to; nothing may be there, or an empty file.

    Raises:
        sqlite3.Error: it cannot be read or written.

    """
    path = sqlite_path(config.database_url)
    for beside in ("-wal", "-shm", "-journal"):  # of a copy that was interrupted: SQLite would take them for this one's
        to.with_name(to.name + beside).unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA busy_timeout = {config.limits.sqlite_busy_wait_ms}")
        connection.execute("VACUUM INTO ?", (str(to),))
    shutil.copymode(path, to)  # it holds the same secrets


def check_file(path: Path) -> None:
    """Reads a copy from end to end.

    Raises:
        NotWhole: SQLite finds it damaged; the first damage is told.
        sqlite3.Error: it cannot be read.

    """
    with contextlib.closing(sqlite3.connect(path)) as connection:
        found = connection.execute("PRAGMA integrity_check(1)").fetchall()
    if found != [("ok",)]:
        raise NotWhole(str(found[0][0]))
