"""A server whose clock can be moved, and the database's with it."""

import datetime as dt
from pathlib import Path

from forked import RUN_FIRST
from postgres import PostgresServer
from serving import ServerProcess

_MOVED_CLOCK = """
import time

_time_ns = time.time_ns

def time_ns():
    with open({path!r}) as moved:
        return _time_ns() + int(moved.read() or 0)

time.time_ns = time_ns
time.time = lambda: time_ns() / 10**9
"""
"""Run before the server reads any clock."""
_MOVED_CLOCK_OF_POSTGRESQL = """
CREATE SCHEMA clock;
CREATE TABLE clock.moved (by interval NOT NULL);
INSERT INTO clock.moved VALUES ('0');
CREATE FUNCTION clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
    AS 'SELECT pg_catalog.clock_timestamp() + by FROM clock.moved';
CREATE FUNCTION clock.statement_timestamp() RETURNS timestamptz LANGUAGE sql STABLE
    AS 'SELECT pg_catalog.statement_timestamp() + by FROM clock.moved';
ALTER DATABASE {database} SET search_path = public, clock, pg_catalog
"""


class TimedServer:
    """A server with an hour hand."""

    def __init__(self, folder: Path, database_url: str, postgres: PostgresServer | None) -> None:
        self._moved = dt.timedelta()
        self._file = folder / "moved"
        self._file.write_text("0")
        self._url, self._postgres = database_url, postgres
        first = folder / "moved_clock.py"
        first.write_text(_MOVED_CLOCK.format(path=str(self._file)))
        if postgres is not None:
            database = database_url.partition("@/")[2].partition("?")[0]
            for statement in _MOVED_CLOCK_OF_POSTGRESQL.format(database=database).split(";"):
                postgres.execute(statement, database_url)
        self.server = ServerProcess(folder, DATABASE_URL=database_url, **{RUN_FIRST: str(first)}).start()
        self.api = self.server.client()

    def move(self, **by: float) -> None:
        """Moves the clock, by what `timedelta` takes: on, or back."""
        self._moved += dt.timedelta(**by)
        seconds = self._moved.total_seconds()
        written = self._file.with_suffix(".new")
        written.write_text(str(round(seconds * 10**9)))
        if self._postgres is not None:
            self._postgres.execute(f"UPDATE clock.moved SET by = make_interval(secs => {seconds})", self._url)
        written.rename(self._file)

    def now(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC) + self._moved

    def soon(self, **after: float) -> str:
        """The time that far from now on this clock, as the contract writes it."""
        at = self.now() + dt.timedelta(**after)
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def stop(self) -> None:
        self.api.close()
        self.server.stop()
