"""A Redis that a test may stop."""

from collections.abc import Iterator

import pytest
import redis_server
from redis_server import RedisServer


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    running = redis_server.started()
    yield running
    running.stop()
