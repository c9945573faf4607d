"""Servers that deliver to this machine and try again soon, receivers, and endpoints that end with their test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from serving import ServerProcess, StartServer, with_limits
from webhooks.receiver import Hooks, Receiver

from app.config import Config
from app.store.migrate import migrate

QUICK = {"deliveries_seconds_between": 0.05, "delivery_retry_seconds_min": 0.1, "upkeep_seconds_between": 0.2}
PRIVATE = {"CHARGLY_WEBHOOK_PRIVATE_TARGETS": "true"}


@pytest.fixture(scope="session")
def server(new_database: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The shared server of these tests."""
    folder = tmp_path_factory.mktemp("server")
    running = ServerProcess(
        folder, DATABASE_URL=new_database(folder), **PRIVATE, **with_limits(folder, **QUICK)
    ).start()
    yield running
    running.stop()


@pytest.fixture
def hooks(api: httpx.Client) -> Iterator[Hooks]:
    """Endpoints of one test on the shared server."""
    made = Hooks(api)
    yield made
    made.remove()


@pytest.fixture
def quick_server(new_server: StartServer, tmp_path: Path) -> Callable[..., ServerProcess]:
    """Starts a server of one test's own that delivers to this machine, with further limits."""
    return lambda **limits: new_server(**PRIVATE, **with_limits(tmp_path, **QUICK | limits))


@pytest.fixture
def new_receiver() -> Iterator[Callable[[], Receiver]]:
    """Makes receivers; all end with the test."""
    made: list[Receiver] = []

    def make() -> Receiver:
        made.append(Receiver())
        return made[-1]

    yield make
    for receiver in made:
        receiver.close()


@pytest.fixture
def receiver(new_receiver: Callable[[], Receiver]) -> Receiver:
    return new_receiver()


@pytest.fixture
def config(engine: str, database_url: str) -> Config:
    """A ledger without a server."""
    made = Config(database_url=database_url)
    if engine == "sqlite":
        migrate(made)
    return made
