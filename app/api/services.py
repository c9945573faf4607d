"""What the routes call, built once by `main.create_app` and handed to each of them."""

import msgspec

from app.api.auth import Authenticator
from app.config import Config
from app.live.addresses import Addresses
from app.live.hub import Hub
from app.live.relay import Relay
from app.live.sockets import Socket, Sockets
from app.metrics import Metrics
from app.payments.auto_top_up import AutoTopUps
from app.payments.checkout import Checkouts
from app.payments.gateway import Gateway
from app.payments.signals import Signals
from app.store.catalogue import CatalogueStore
from app.store.costs import CostStore
from app.store.db import Database
from app.store.packs import PackStore
from app.store.recommendations import RecommendationStore
from app.store.standings import StandingsStore
from app.store.usage import UsageStore
from app.store.writer import Writer


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of one running process, and its name among those that share a database."""

    name: str
    config: Config
    db: Database
    catalogue: CatalogueStore
    costs: CostStore
    packs: PackStore
    usage: UsageStore
    standings: StandingsStore
    recommendations: RecommendationStore
    writer: Writer
    hub: Hub[Socket]
    relay: Relay
    sockets: Sockets
    addresses: Addresses
    gateway: Gateway
    checkouts: Checkouts
    signals: Signals
    auto_top_ups: AutoTopUps
    auth: Authenticator
    metrics: Metrics
    schema_revision: str
