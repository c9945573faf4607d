"""Where the log goes: lines on standard error."""

import logging
from typing import Final

_QUIET: Final = ("httpx", "stripe", "alembic", "databases")
"""Libraries that tell of each call at the level of our own news."""


def set_up_logging() -> None:
    """Sets up the log of this process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
