"""A past for a ledger that has none: every operation by the rules, at the time when it is said to have happened.

All of it is one transaction. Whoever is killed in the midst of it leaves the ledger as it was, so there is never half
a past, and nothing to tell it from a whole one by.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from app.config import LIMITS
from app.errors import Internal
from app.rules.costs import Cost
from app.rules.operations import Operation
from app.rules.packs import Pack
from app.rules.pricing import Catalogue
from app.store.batch import write_batch
from app.store.catalogue import (
    BUMP,
    PriceDraft,
    PriceVersion,
    catalogue_sql,
    decode_catalogue,
    price_kept,
)
from app.store.checkouts import Checkout, kept
from app.store.costs import CostDraft, CostVersion, cost_kept
from app.store.db import Database, Script
from app.store.packs import pack_kept
from app.store.wallet_cache import WalletCache
from app.store.writer import Result

Standing = Literal["fresh", "has_past", "in_use"]
"""Whether a ledger may be given a past: it has one already, or anything of its own that it was not made with."""

_MARK: Final = "past"
_SEEDED: Final = "version = 1 AND actor IS NULL"
"""Prices and packs that a ledger is made with, which nobody has set."""
_IN_USE: Final = " UNION ALL ".join(
    [
        *(f"SELECT 1 FROM {table} WHERE NOT ({_SEEDED})" for table in ("prices", "pack_versions")),
        *(
            f"SELECT 1 FROM {table}"
            for table in ("wallets", "costs", "checkouts", "recommendations", "webhook_endpoints", "api_keys")
        ),
    ]
)
_PRICED_FROM: Final = f"UPDATE prices SET created_at = ?, effective_at = ? WHERE {_SEEDED}"
"""The prices that a ledger is made with have been in force since its past begins; so have its packs."""
_SOLD_FROM: Final = f"UPDATE pack_versions SET created_at = ? WHERE {_SEEDED}"


Moment: TypeAlias = tuple[int, Operation]
"""When an operation happened, in milliseconds since 1970, and what was asked."""


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of the past: what was decided as it began, and what was asked of the ledger in it.

    Args:
        begins_at: when, in milliseconds since 1970; new prices, costs and packs hold from then on.
        prices: new versions, in force at once.
        costs: new versions.
        packs: what is on sale, new or anew.
        checkouts: purchases begun in it, before any operation moves one.
        operations: by time.

    """

    begins_at: int
    prices: Sequence[PriceDraft] = ()
    costs: Sequence[CostDraft] = ()
    packs: Sequence[Pack] = ()
    checkouts: Sequence[Checkout] = ()
    operations: Sequence[Moment] = ()


Story: TypeAlias = Generator[Slice, Sequence[Result], None]
"""A past from its beginning on. It is sent what became of a slice's operations, and goes on from there."""


async def write_past(
    db: Database, begins_at: int, story: Callable[[], Story], *, actor: str, on_slice: Callable[[], None]
) -> Standing:
    """Writes a past, whole or not at all, where the ledger is fresh; gives how it stood before.

    Usage is noted to be added up, as of any batch.

    Args:
        db: where.
        begins_at: when the past does, in milliseconds since 1970.
        story: tells it; again from its beginning where PostgreSQL rolls it back for the sake of another transaction.
        actor: who is said to have changed prices.
        on_slice: told of each slice that is through, in whichever thread the transaction runs.

    Raises:
        Internal: a rule broke on an operation; a refusal is for the story to hear of. Nothing was written.
        ChargeError: the database did not take it, and nothing was written.

    """

    def script() -> Script[Standing]:
        # Its lock on the row lets one process at a time do this.
        yield BUMP, ()
        if (standing := (yield from _standing())) != "fresh":
            return standing
        yield _PRICED_FROM, (begins_at, begins_at)
        yield _SOLD_FROM, (begins_at,)
        [[text]] = yield catalogue_sql(db.dialect), ()
        ends_at = yield from _written(db, decode_catalogue(text), story(), actor, on_slice)
        yield "INSERT INTO marks (name, at) VALUES (?, ?)", (_MARK, ends_at)
        return standing

    return await db.transact(script)


async def standing_of(db: Database) -> Standing:
    """Whether a ledger may be given a past."""
    return await db.transact(_standing)


def _standing() -> Script[Standing]:
    if (yield "SELECT 1 FROM marks WHERE name = ?", (_MARK,)):
        return "has_past"
    return "in_use" if (yield f"{_IN_USE} LIMIT 1", ()) else "fresh"


def _written(db: Database, catalogue: Catalogue, story: Story, actor: str, on_slice: Callable[[], None]) -> Script[int]:
    """Writes each slice; gives when the last began."""
    cache = WalletCache(LIMITS.history_wallets_cached_max)
    results: Sequence[Result] | None = None
    at = 0
    while True:
        try:
            one = story.send(results)  # type: ignore[arg-type]  # what a generator is sent to make it begin
        except StopIteration:
            return at
        at = one.begins_at
        catalogue = yield from _decided(catalogue, one, actor)
        for checkout in one.checkouts:
            yield kept(checkout)
        results = ()
        if one.operations:
            times, operations = zip(*one.operations, strict=True)
            committed = yield from write_batch(db.dialect, operations, catalogue, 0, cache=cache, times=times)
            results = committed.outcomes
            for result in results:
                if isinstance(result, Internal):
                    raise result
        on_slice()


def _decided(catalogue: Catalogue, one: Slice, actor: str) -> Script[Catalogue]:
    """Writes what was decided as a slice began; gives the catalogue with it."""
    prices, costs, packs = dict(catalogue.prices), dict(catalogue.costs), dict(catalogue.packs)
    for price in one.prices:
        before = prices.get(price.event)
        made = PriceVersion(
            event=price.event,
            version=before.version + 1 if before else 1,
            credits=price.credits,
            label=price.label,
            per_model=price.per_model,
            tiers=price.tiers,
            minimum=price.minimum,
            effective_at=one.begins_at,
            created_at=one.begins_at,
        )
        prices[price.event] = made
        yield price_kept(made, actor)
    for cost in one.costs:
        known = costs.get(cost.event)
        new = CostVersion(
            event=cost.event,
            version=known.version + 1 if known else 1,
            nanos=cost.nanos,
            per_model=cost.per_model,
            archived=False,
            created_at=one.begins_at,
        )
        costs[cost.event] = Cost(new.event, new.version, new.nanos, new.per_model)
        yield cost_kept(new, actor)
    for pack in one.packs:
        packs[pack.code] = pack
        yield from pack_kept(pack, one.begins_at, actor)
    return replace(catalogue, prices=prices, costs=costs, packs=packs)
