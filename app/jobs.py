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
from app.webhooks.delivery import Deliverer
from app.webhooks.upkeep import Upkeep

log = logging.getLogger("chargly.jobs")


@contextlib.asynccontextmanager
async def running(services: Services) -> AsyncIterator[None]:
    """Runs every job for as long as the context lasts."""
    limits = services.config.limits
    settling = Lease(services.db, "settling", services.name, limits)
    deliverer = Deliverer(services.db, services.config, services.metrics)
    upkeep = Upkeep(services.db, limits)
    services.metrics.watch(
        "chargly_webhook_deliveries_pending",
        "Webhooks that wait to be delivered, as of the last minute.",
        lambda: upkeep.pending,
        "livesum",
    )
    charging = Lease(services.db, "charging", services.name, limits)
    asking = Lease(services.db, "asking", services.name, limits)
    delivering = Lease(services.db, "deliveries", services.name, limits)
    adding_up = Lease(services.db, "usage", services.name, limits)
    keeping = Lease(services.db, "upkeep", services.name, limits)
    loops = (
        _every(limits.settle_seconds_between, "settling", partial(settle_due_wallets, services, settling)),
        _every(limits.prices_seconds_between, "prices", partial(announce_prices, services)),
        _every(limits.auto_top_up_seconds_between, "charging", partial(charge_due, services, charging)),
        _every(limits.stripe_asks_seconds_between, "asking", partial(ask_stripe, services, asking)),
        _every(limits.deliveries_seconds_between, "delivering", partial(deliver_webhooks, delivering, deliverer)),
        _every(limits.usage_seconds_between, "usage", partial(add_up_usage, services, adding_up)),
        _every(limits.upkeep_seconds_between, "upkeep", partial(keep_up, keeping, upkeep)),
        _every(limits.metrics_seconds_between, "sampling", partial(sample_metrics, services)),
    )
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await deliverer.close()
        for lease in (settling, charging, asking, delivering, adding_up, keeping):
            with contextlib.suppress(ChargeError):  # the database is away; the lease ends by itself
                await lease.give_back()


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


async def announce_prices(services: Services) -> None:
    """Lets live pages know of prices that have come into force: their quotes are stale."""
    if await services.catalogue.announce_due():
        services.relay.publish([], services.catalogue.current.generation)


async def charge_due(services: Services, lease: Lease) -> None:
    """Charges saved cards for automatic top-ups. What two charge, Stripe charges once: an attempt has one key."""
    while services.gateway.is_open and await lease.held() and await services.auto_top_ups.charge_due():
        pass


async def ask_stripe(services: Services, lease: Lease) -> None:
    """Asks Stripe about payments of which nothing was heard."""
    if services.gateway.is_open and await lease.held():
        await services.signals.ask()


async def deliver_webhooks(lease: Lease, deliverer: Deliverer) -> None:
    """Sends what the outbox has, while this process has the lease. What two send, an endpoint knows by its id."""
    while await lease.held():
        if not await deliverer.turn():
            return
    await deliverer.settle()


async def add_up_usage(services: Services, lease: Lease) -> None:
    """Adds up usage. What two add up counts once."""
    while await lease.held():
        if await services.usage.catch_up():
            return


async def keep_up(lease: Lease, upkeep: Upkeep) -> None:
    """Tells of grants that expire soon, and takes old deliveries away. One process does it for all."""
    if await lease.held():
        await upkeep.run()
    else:
        upkeep.pending = 0


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
