"""Says how far the random histories went, also where workers run the tests and nothing else is shown of them."""

import sys

from rules.steps import STEPS


def pytest_unconfigure() -> None:
    """Writes it to this process's own stderr, which a worker shares with the run that started it."""
    if STEPS.taken:
        sys.stderr.write(f"\nrandom histories of the ledger: {STEPS.taken} steps\n")
