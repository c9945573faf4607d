"""One server to a SQLite file, held by the kernel so that even `kill -9` frees it; on PostgreSQL any number may run.

`flock` from the standard library, on a file beside the database: a lock on the database itself would be lost when any
other handle on it closes, and a library would wrap these three lines.
"""

import fcntl
from pathlib import Path
from typing import IO, Self

from app.errors import StartRefused
from app.store.dialect import dialect_of
from app.store.migrate import check_folder
from app.store.sqlite import sqlite_path


class ServerLock:
    """Held while a server runs. Commands beside it do not take it."""

    def __init__(self, database_url: str) -> None:
        self._database = sqlite_path(database_url) if dialect_of(database_url).is_sqlite else None
        self._file: IO[str] | None = None

    @property
    def path(self) -> Path | None:
        """The lock's file; None where none is needed."""
        return self._database and self._database.with_name(self._database.name + ".server-lock")

    def __enter__(self) -> Self:
        if self._database is None or self.path is None:
            return self
        check_folder(self._database)
        try:
            self._file = self.path.open("w")
        except OSError as error:
            raise StartRefused(f"DATABASE_URL: {self.path} cannot be written ({error.strerror}).") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise StartRefused(
                f"Another Chargly server already runs on {self._database.name}: "
                "stop it, or give this one its own file in DATABASE_URL."
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
