"""The one place where the parts are built and joined."""

import contextlib
import gc
import secrets
from collections.abc import AsyncIterator, Callable, Sequence

from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from app import jobs
from app.api.auth import Authenticator
from app.api.http import Cors, Refusals, RequestIds
from app.api.reports import BALANCES
from app.api.routes import Router, starlette_routes
from app.api.services import Services
from app.config import Config
from app.demo import Demo
from app.errors import StartRefused
from app.live.addresses import Addresses
from app.live.channels import open_channel
from app.live.hub import Hub
from app.live.relay import Relay
from app.live.sockets import Socket, Sockets
from app.metrics import Metrics
from app.payments.auto_top_up import AutoTopUps
from app.payments.checkout import Checkouts
from app.payments.gateway import Gateway
from app.payments.landing import Landing
from app.payments.signals import Signals
from app.payments.subscriptions import Subscriptions
from app.store.catalogue import CatalogueStore
from app.store.costs import CostStore
from app.store.db import Database
from app.store.instance import read_instance, read_revision
from app.store.packs import PackStore
from app.store.recommendations import RecommendationStore
from app.store.schema import REVISION
from app.store.standings import StandingsStore
from app.store.usage import UsageStore
from app.store.writer import Writer

MoreRoutes = Callable[[Services], Sequence[BaseRoute]]
Background = Callable[[Services], contextlib.AbstractAsyncContextManager[None]]


def create_app(
    config: Config, *, more_routes: MoreRoutes | None = None, background: Background | None = None
) -> ASGIApp:
    """The server as an ASGI app. Everything it is made of is built in its lifespan, and closed there.

    The database must have this version's schema: `store.migrate` brings it there.

    Args:
        config: the settings and limits.
        more_routes: routes that only some command has (a demo's), before all others.
        background: what runs beside the server for as long as it does.

    """

    @contextlib.asynccontextmanager
    async def lifespan(_: Router) -> AsyncIterator[None]:
        async with _services(config, metrics) as services:
            router.serve([*(more_routes(services) if more_routes else ()), *starlette_routes(services)])
            async with (
                services.relay.running(),
                services.sockets.running(),
                jobs.running(services),
                background(services) if background else contextlib.nullcontext(),
            ):
                # What start-up made lives as long as the process. Left among the young, every full collection walks
                # through it while requests wait.
                gc.collect()
                gc.freeze()
                yield

    metrics = Metrics()
    # Starlette's Router under our own layers: the Starlette class would add an error layer of its own at either end.
    router = Router(lifespan=lifespan)
    return RequestIds(
        Cors(
            Refusals(router, config.limits.headers_bytes_max, metrics),
            allow_origins=config.allowed_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["authorization", "content-type", "idempotency-key", "x-api-key", "x-request-id"],
            expose_headers=["x-request-id", "idempotent-replayed", "retry-after"],
            max_age=600,
        )
    )


def create_demo_app(config: Config) -> ASGIApp:
    """The server of `chargly demo`: with a demo wallet, its page, agents, and a Stripe sandbox where one is set."""
    demo = Demo(config)
    return create_app(config, more_routes=demo.routes, background=demo.running)


@contextlib.asynccontextmanager
async def _services(config: Config, metrics: Metrics) -> AsyncIterator[Services]:
    hub: Hub[Socket] = Hub(config.limits)
    db = Database(config)
    await db.open()
    gateway = Gateway(config)
    try:
        if (revision := await read_revision(db)) != REVISION:  # a worker is started again long after the migration
            raise StartRefused(
                f"The ledger's schema is at {revision} and this version's at {REVISION}: restart it all."
            )
        instance = await read_instance(db)
        catalogue = CatalogueStore(db, config.limits)
        hub.epoch = instance.epoch
        hub.generation = (await catalogue.fresh()).generation
        auth = Authenticator(db, config, config.token_secret or instance.token_secret)
        name = secrets.token_hex(8)
        channel = open_channel(config, instance.epoch)
        relay = Relay(db, hub, catalogue, channel, name, config.limits, metrics)
        relay.on_keys_changed = auth.forget_keys
        sockets = Sockets(config.limits, metrics)
        usage = UsageStore(db, config.limits)
        packs = PackStore(db, catalogue, config.limits)
        writer = Writer(db, catalogue, config, relay.publish, metrics)
        landing = Landing(db, writer, gateway, config)
        pages = Checkouts(db, writer, catalogue, gateway, landing, config)
        metrics.watch(
            "chargly_queue_operations", "Operations not answered yet.", lambda: writer.operations_waiting, "livesum"
        )
        metrics.watch("chargly_sockets", "Open websockets.", lambda: len(sockets), "livesum")
        metrics.watch(
            "chargly_bus_connected",
            "1 where other servers are told and heard.",
            lambda: relay.bus.is_connected,
            "livemin",
        )
        try:
            yield Services(
                name=name,
                config=config,
                db=db,
                catalogue=catalogue,
                usage=usage,
                standings=StandingsStore(db, BALANCES, config.limits),
                recommendations=RecommendationStore(db, catalogue, usage),
                costs=CostStore(db, catalogue, config.limits),
                packs=packs,
                writer=writer,
                hub=hub,
                relay=relay,
                sockets=sockets,
                addresses=Addresses(config.sockets_per_address, config.limits),
                gateway=gateway,
                checkouts=pages,
                signals=Signals(db, gateway, landing, Subscriptions(db, packs, gateway, landing), config),
                auto_top_ups=AutoTopUps(db, gateway, landing, pages, config),
                auth=auth,
                metrics=metrics,
                schema_revision=REVISION,
            )
        finally:
            await writer.close()
    finally:
        await gateway.close()
        await db.close()
