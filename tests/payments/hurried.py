"""A server that buys at the stand-in, and does not wait as long as it comes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from payments.stripe_stand_in import StripeStandIn
from serving import ServerProcess, with_limits


def served(
    new_database: Callable[[Path], str],
    temporary: pytest.TempPathFactory,
    stripe: StripeStandIn,
    limits: dict[str, float],
    **settings: str,
) -> Iterator[ServerProcess]:
    """For a fixture named `server` of a file with limits of its own: it runs until the tests have ended."""
    folder = temporary.mktemp("server")
    env = stripe.env | settings | with_limits(folder, **limits)
    running = ServerProcess(folder, DATABASE_URL=new_database(folder), **env).start()
    yield running
    running.stop()
