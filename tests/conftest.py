"""Fixtures that every test may use: a real `chargly serve` process, and clients that speak to it."""

import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from serving import ServerProcess, StartServer, grant


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that many tests share, each with customers of its own."""
    running = ServerProcess(tmp_path_factory.mktemp("server")).start()
    yield running
    running.stop()


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers of one test's own; all are ended with it."""
    running: list[ServerProcess] = []

    def start(command: str = "serve", **env: str) -> ServerProcess:
        made = ServerProcess(tmp_path, command, **env)
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
