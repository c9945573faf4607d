"""What a server does by itself, in loops that outlive their failures."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

from app.api.services import Services
from app.errors import ChargeError
from app.store.leases import Lease
from app.store.reads import due_wallets
from app.store.settled import settling_of

log = logging.getLogger("chargly.jobs")


@contextlib.asynccontextmanager
async def running(services: Services) -> AsyncIterator[None]:
    """Runs every job for as long as the context lasts."""
    limits = services.config.limits
    settling = Lease(services.db, "settling", services.name, limits)
    loops = (
        _every(limits.settle_seconds_between, "settling", partial(settle_due_wallets, services, settling)),
        _every(limits.metrics_seconds_between, "sampling", partial(sample_metrics, services)),
    )
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(ChargeError):  # the database is away; the lease ends by itself
            await settling.give_back()


async def settle_due_wallets(services: Services, lease: Lease) -> None:
    """Brings what time has brought to wallets that nobody touches: expiries, grants that start, holds that run out.

    One process does it for all, while it has the lease. What two settle, the second finds done.
    """
    most = services.config.limits.settle_wallets_at_once
    while await lease.held() and (due := await due_wallets(services.db, most)):
        results = await services.writer.submit_all([settling_of(customer_id) for customer_id in due])
        failed = [(id, one) for id, one in zip(due, results, strict=True) if isinstance(one, ChargeError)]
        for customer_id, error in failed:
            log.error("wallet %s could not be settled: %r", customer_id, error)
        if failed or len(due) < most:  # those would come again at once
            return


async def sample_metrics(services: Services) -> None:
    """Lets the other processes of this server answer for what this one watches."""
    if services.metrics.are_shared:
        services.metrics.sample()


async def _every(seconds: float, name: str, job: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await job()
        except ChargeError as error:  # the database is away or busy, and /readyz says so
            log.warning("%s: %r", name, error)
        except Exception:
            log.exception("%s failed", name)
        await asyncio.sleep(seconds)
