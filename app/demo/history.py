"""A year of history for the demo's ledger, so that an operator's dashboard has something to show."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Final, TypeAlias

from msgspec.structs import replace

from app.config import Config
from app.demo.history_cast import DAYS, OPERATOR
from app.demo.history_year import year
from app.rules.periods import DAY_MS
from app.store.db import Database
from app.store.ids import now_ms
from app.store.past import Standing, standing_of, write_past
from app.store.usage import UsageStore

STEPS: Final = DAYS + 1
"""Days, today among them."""

Showing: TypeAlias = Callable[[], AbstractContextManager[Callable[[], None]]]
"""Shows that a history is being written; what it gives is called after each of the `STEPS`, from any thread."""

_TOLD: Final[dict[Standing, str]] = {
    "fresh": "The ledger begins with a year of history.",
    "has_past": "The ledger has its year of history already, and goes on from there.",
    "in_use": (
        "No history was added: it is for a new ledger, and this one has been used. "
        "To begin with a history, delete it or name a new one in DATABASE_URL."
    ),
}


def patient(config: Config) -> Config:
    """A configuration whose database may take long over one transaction."""
    # All of it is one transaction, which on a slow machine takes longer than a server's may.
    limits = config.limits
    return replace(config, limits=replace(limits, write_wait_seconds_max=limits.history_seconds_max))


async def begin_with_history(db: Database, config: Config, showing: Showing, *, now: int | None = None) -> str:
    """Gives a ledger that is fresh a year that ends now, with its usage added up; says what became of it.

    Args:
        db: opened with a `patient` configuration.
        config: its rates of currencies count, and its limits.
        showing: begun where there is something to write.
        now: in milliseconds since 1970, where it is not the clock's.

    Raises:
        ChargeError: the database did not take it, and nothing was written.

    """
    if (standing := await standing_of(db)) != "fresh":
        return _TOLD[standing]
    now = now_ms() if now is None else now
    first_day = now // DAY_MS - DAYS
    story = partial(year, first_day, now, config.usd_rates)
    with showing() as step:
        standing = await write_past(db, first_day * DAY_MS, story, actor=OPERATOR, on_slice=step)
    usage = UsageStore(db, config.limits)
    for _ in range(config.limits.history_catch_ups_max):  # what is left then is added up by the server's own job
        if await usage.catch_up():
            break
    return _TOLD[standing]
