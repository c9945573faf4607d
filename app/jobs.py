"""What a server does by itself, in loops that outlive their failures."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from app.api.services import Services
from app.errors import ChargeError
from app.store.reads import due_wallets
from app.store.settled import settling_of

log = logging.getLogger("chargly.jobs")


@contextlib.asynccontextmanager
async def running(services: Services) -> AsyncIterator[None]:
    """Runs every job for as long as the context lasts."""
    seconds = services.config.limits.settle_seconds_between
    tasks = [asyncio.create_task(_every(seconds, settle_due_wallets, services), name="settling")]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def settle_due_wallets(services: Services) -> None:
    """Brings what time has brought to wallets that nobody touches: expiries, grants that start, holds that run out.

    Several processes may do it at once: what one has settled, another finds done.
    """
    most = services.config.limits.settle_wallets_at_once
    while due := await due_wallets(services.db, most):
        results = await services.writer.submit_all([settling_of(customer_id) for customer_id in due])
        failed = [(id, one) for id, one in zip(due, results, strict=True) if isinstance(one, ChargeError)]
        for customer_id, error in failed:
            log.error("wallet %s could not be settled: %r", customer_id, error)
        if failed or len(due) < most:  # those would come again at once
            return


async def _every(seconds: float, job: Callable[[Services], Awaitable[None]], services: Services) -> None:
    while True:
        try:
            await job(services)
        except ChargeError as error:  # the database is away or busy, and /readyz says so
            log.warning("%s: %r", job.__name__, error)
        except Exception:
            log.exception("%s failed", job.__name__)
        await asyncio.sleep(seconds)
