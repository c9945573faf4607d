"""A server for tests of time."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from api.timed import TimedServer
from postgres import PostgresServer


@pytest.fixture(scope="session")
def timed(
    engine: str,
    new_database: Callable[[Path], str],
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[TimedServer]:
    """A server that tests of time share, each with customers of its own."""
    folder = tmp_path_factory.mktemp("timed")
    postgres: PostgresServer | None = request.getfixturevalue("postgres") if engine == "postgresql" else None
    running = TimedServer(folder, new_database(folder), postgres)
    yield running
    running.stop()
