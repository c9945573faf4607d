"""Fixtures that every test may use: both databases, a real `chargly serve` process, and clients that speak to it."""

import os
import secrets
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import postgres as postgres_server
import pytest
from postgres import PostgresServer
from serving import ServerProcess, StartServer, grant

from app.config import Config
from app.store.migrate import migrate

ENGINES = ("sqlite", "postgresql")
WORKERS_MIN = 4


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A worker waits for its servers much of the time, so a small machine has more of them than cores."""
    return max(WORKERS_MIN, os.cpu_count() or 1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs each test that touches a database on both; those of a file, and of the browser, on SQLite alone."""
    if "engine" in metafunc.fixturenames:
        alone = next((name for name in ENGINES if metafunc.definition.get_closest_marker(name)), None)
        if metafunc.definition.get_closest_marker("browser"):
            alone = "sqlite"
        metafunc.parametrize("engine", [alone] if alone else ENGINES, scope="session")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The test process's PostgreSQL, started when the first test asks for it."""
    running = postgres_server.started()
    yield running
    running.end()


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL of one test's own, which it may stop."""
    running = postgres_server.started()
    yield running
    running.end()


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a ledger's tables, to copy: a migration for each test would take longer than most tests."""
    file = tmp_path_factory.mktemp("migrated") / "ledger.db"
    migrate(Config(database_url=f"sqlite:///{file}"))
    return file


@pytest.fixture(scope="session")
def new_database(engine: str, request: pytest.FixtureRequest) -> Callable[[Path], str]:
    """Makes the address of a migrated database of one's own: a file in the given folder, or one of PostgreSQL's.

    PostgreSQL's goes with the test process.
    """
    if engine == "sqlite":
        migrated: Path = request.getfixturevalue("migrated_file")

        def copied(folder: Path) -> str:
            shutil.copyfile(migrated, folder / "ledger.db")
            return f"sqlite:///{folder}/ledger.db"

        return copied
    server: PostgresServer = request.getfixturevalue("postgres")
    return lambda _folder: server.new_database()


@pytest.fixture
def database_url(
    engine: str, new_database: Callable[[Path], str], tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[str]:
    """The address of one test's own database."""
    url = new_database(tmp_path)
    server: PostgresServer | None = request.getfixturevalue("postgres") if engine == "postgresql" else None
    yield url
    if server is not None:
        server.drop(url)


@pytest.fixture(scope="session")
def server(new_database: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that many tests share, each with customers of its own."""
    folder = tmp_path_factory.mktemp("server")
    running = ServerProcess(folder, DATABASE_URL=new_database(folder)).start()
    yield running
    running.stop()


@pytest.fixture
def new_server(database_url: str, tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers of one test's own, on one database; all are ended with it."""
    running: list[ServerProcess] = []

    def start(command: str = "serve", **env: str) -> ServerProcess:
        made = ServerProcess(tmp_path, command, **{"DATABASE_URL": database_url} | env)
        running.append(made)
        return made.start()

    yield start
    for one in running:
        one.stop(signal.SIGKILL)


@pytest.fixture
def api(server: ServerProcess) -> Iterator[httpx.Client]:
    """A client of the shared server with an admin key."""
    with server.client() as client:
        yield client


@pytest.fixture
def customer_id() -> str:
    """A customer whom nobody has seen."""
    return f"user_{secrets.token_hex(6)}"


@pytest.fixture
def customer(api: httpx.Client, customer_id: str) -> str:
    """A customer with 100 promotional credits."""
    grant(api, customer_id, 100)
    return customer_id
