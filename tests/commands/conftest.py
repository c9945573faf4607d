"""Commands run as they are installed, on a database of the test's own."""

from pathlib import Path

import pytest
from serving import ServerProcess


@pytest.fixture
def command(database_url: str, tmp_path: Path) -> ServerProcess:
    """Runs commands; no server is started."""
    return ServerProcess(tmp_path, DATABASE_URL=database_url)
