"""Waiting for what a server does by itself."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SECONDS_MAX = 20.0


def eventually(look: Callable[[], T], *, seconds_max: float = SECONDS_MAX) -> T:
    """What a look gives, once it is something: it is repeated until then."""
    deadline = time.monotonic() + seconds_max
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.03)
    return found
