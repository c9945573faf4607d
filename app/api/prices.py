"""What each action costs, in versions that never change."""

from collections.abc import Mapping
from typing import Annotated

import msgspec

from app.api import fields
from app.api.auth import Access
from app.api.fields import Name, Quantity, Strict, UnitCredits
from app.api.http import Answer, Call, Route
from app.config import Limits
from app.errors import InvalidRequest, NotFound, VersionConflict
from app.rules.pricing import Tier, check_tiers
from app.rules.times import rfc3339
from app.store.catalogue import PriceDraft, PriceStatus, PriceVersion


class TierRequest(Strict, frozen=True, kw_only=True):
    """What each unit costs up to the `up_to`th; null is for all the rest."""

    up_to: Quantity | None
    credits: UnitCredits


class PriceRequest(Strict, frozen=True, kw_only=True):
    """A new version of a price: credits for one unit, and for one unit by a model's name.

    With `tiers`, `credits` is that of the first; an action costs `minimum` at least. It is in force at once, or from
    `effective_at` on.
    """

    credits: UnitCredits
    label: Name | None = None
    per_model: dict[Name, UnitCredits] = {}
    tiers: list[TierRequest] | None = None
    minimum: UnitCredits = 0
    effective_at: str | None = None
    expected_version: Annotated[int, msgspec.Meta(ge=0)] | None = None


class TierAnswer(msgspec.Struct, frozen=True):
    """What each unit costs up to the `up_to`th."""

    up_to: int | None
    credits: int


class PriceAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a price. One that is `archived` ends it."""

    event: str
    version: int
    credits: int
    label: str
    per_model: Mapping[str, int]
    tiers: list[TierAnswer] | None
    minimum: int
    archived: bool
    status: PriceStatus
    effective_at: str
    created_at: str


class PricesAnswer(msgspec.Struct, frozen=True):
    """The prices in force, and those that come into force later."""

    prices: list[PriceAnswer]
    upcoming: list[PriceAnswer]
    generation: int


class VersionsAnswer(msgspec.Struct, frozen=True):
    """Every version of a price, newest first."""

    versions: list[PriceAnswer]


def price_answer(price: PriceVersion, status: PriceStatus) -> PriceAnswer:
    """A price as the contract shows it."""
    return PriceAnswer(
        event=price.event,
        version=price.version,
        credits=price.credits,
        label=price.label,
        per_model=price.per_model,
        tiers=[TierAnswer(tier.up_to, tier.credits) for tier in price.tiers] or None,
        minimum=price.minimum,
        archived=price.archived,
        status=status,
        effective_at=rfc3339(price.effective_at),
        created_at=rfc3339(price.created_at),
    )


async def list_prices(call: Call) -> Answer:
    """The prices in force, and those to come."""
    # The generation first: a change in between makes the list newer than it says, which is safe to cache.
    generation = (await call.services.catalogue.fresh()).generation
    in_force, upcoming = await call.services.catalogue.prices()
    return Answer(
        PricesAnswer(
            [price_answer(price, "in_force") for price in in_force],
            [price_answer(price, "scheduled") for price in upcoming],
            generation,
        )
    )


async def read_price(call: Call) -> Answer:
    """An event's price in force."""
    return Answer(price_answer(await call.services.catalogue.price(_event(call)), "in_force"))


async def list_versions(call: Call) -> Answer:
    """Every version that an event's price has had."""
    versions = await call.services.catalogue.versions(_event(call))
    if not versions:
        raise NotFound("This event never had a price.")
    return Answer(VersionsAnswer([price_answer(version, status) for version, status in versions]))


async def put_price(call: Call) -> Answer:
    """Makes a new version of a price. Balances do not move."""
    body: PriceRequest = call.body
    made = await call.services.catalogue.put_price(
        draft_of(_event(call), body, call.services.config.limits),
        expected_version=body.expected_version,
        actor=call.actor,
    )
    tell_of_prices(call)
    status: PriceStatus = "in_force" if body.effective_at is None else "scheduled"
    return Answer(price_answer(made, status), 201 if made.version == 1 else 200)


def draft_of(event: str, price: PriceRequest, limits: Limits) -> PriceDraft:
    """The price that somebody asks for, checked.

    Raises:
        InvalidRequest: names the field.

    """
    if len(price.per_model) > limits.models_per_price_max:
        raise InvalidRequest(f"per_model: {limits.models_per_price_max} models at most.", field="per_model")
    for model in price.per_model:
        fields.printable(model, "per_model")
    tiers = tuple(Tier(tier.up_to, tier.credits) for tier in price.tiers or ())
    if len(tiers) > limits.tiers_per_price_max:
        raise InvalidRequest(f"tiers: {limits.tiers_per_price_max} at most.", field="tiers")
    check_tiers(price.credits, tiers)
    return PriceDraft(
        event=event,
        credits=price.credits,
        label=fields.printable(price.label, "label") or event,
        per_model=price.per_model,
        tiers=tiers,
        minimum=price.minimum,
        effective_at=fields.time_of(price.effective_at, "effective_at"),
    )


async def withdraw_price(call: Call) -> Answer:
    """Takes back a version that has not come into force."""
    text = call.params["version"]
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise InvalidRequest("version: a whole number.", field="version")
    await call.services.catalogue.withdraw_price(_event(call), int(text))
    tell_of_prices(call)
    return Answer(b"", 204)


async def archive_price(call: Call) -> Answer:
    """Ends an event's price, and what was to come of it; what it has priced keeps it."""
    await call.services.catalogue.archive_price(_event(call), actor=call.actor)
    tell_of_prices(call)
    return Answer(b"", 204)


def tell_of_prices(call: Call) -> None:
    """Lets live pages know that quotes are stale."""
    call.services.relay.publish([], call.services.catalogue.current.generation)


def _event(call: Call) -> str:
    return fields.event_name(call.params["event"], flat_rate=True)


_READ = Access("meter", also="prices")
_CHANGE = Access("prices")

ROUTES = (
    Route(
        method="GET",
        path="/v1/prices",
        access=_READ,
        handler=list_prices,
        summary="List prices",
        answers={200: PricesAnswer},
    ),
    Route(
        method="GET",
        path="/v1/prices/{event}",
        access=_READ,
        handler=read_price,
        summary="Read a price",
        answers={200: PriceAnswer},
        errors=(NotFound,),
    ),
    Route(
        method="PUT",
        path="/v1/prices/{event}",
        access=_CHANGE,
        handler=put_price,
        summary="Make a new version of a price",
        request=PriceRequest,
        answers={200: PriceAnswer, 201: PriceAnswer},
        errors=(VersionConflict,),
    ),
    Route(
        method="DELETE",
        path="/v1/prices/{event}",
        access=_CHANGE,
        handler=archive_price,
        summary="Archive a price",
        answers={204: None},
        errors=(NotFound,),
    ),
    Route(
        method="GET",
        path="/v1/prices/{event}/versions",
        access=_READ,
        handler=list_versions,
        summary="List a price's versions",
        answers={200: VersionsAnswer},
        errors=(NotFound,),
    ),
    Route(
        method="DELETE",
        path="/v1/prices/{event}/versions/{version}",
        access=_CHANGE,
        handler=withdraw_price,
        summary="Withdraw a version that is not in force yet",
        answers={204: None},
        errors=(NotFound,),
    ),
)
