"""The catalogue: what each action costs, in versions that never change; and the packs on sale."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec

from app.api import fields
from app.api.auth import Access
from app.api.fields import Credits, Currency, Days, MinorUnits, Name, Quantity, Strict, StripeId, UnitCredits
from app.api.http import Answer, Call, Route
from app.config import Limits
from app.errors import InvalidRequest, NotFound, VersionConflict
from app.rules.packs import Pack, check_amount
from app.rules.pricing import Tier, check_tiers
from app.rules.times import rfc3339
from app.store.catalogue import PriceDraft, PriceStatus, PriceVersion

_CODE: Final = re.compile(r"[A-Za-z0-9_-]{1,100}\Z")


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


class AmountRange(Strict, frozen=True, kw_only=True):
    """What a buyer may choose to pay, in minor units of the pack's currency."""

    min: MinorUnits
    max: MinorUnits


class PackRequest(Strict, frozen=True, kw_only=True):
    """Credits to sell: `amount` in minor units of `currency`, and in others by `currencies`.

    `bonus_credits` come on top and last for `bonus_days`. With `custom_amount` the buyer chooses the amount, at the
    rate of the pack. A paid invoice over `stripe_price` grants it too.
    """

    name: Name
    credits: Credits
    amount: MinorUnits
    currency: Currency = "usd"
    bonus_credits: UnitCredits = 0
    bonus_days: Days | None = None
    currencies: dict[Currency, MinorUnits] = {}
    custom_amount: AmountRange | None = None
    stripe_price: StripeId | None = None
    expires_with_period: bool = True


class PackAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A pack, as buyers see it."""

    code: str
    name: str
    credits: int
    amount: int
    currency: str
    bonus_credits: int
    bonus_days: int | None
    currencies: Mapping[str, int]
    custom_amount: AmountRange | None


class WholePackAnswer(PackAnswer, frozen=True, kw_only=True):
    """A pack, as its operator sees it."""

    stripe_price: str | None
    expires_with_period: bool


class PacksAnswer(msgspec.Struct, frozen=True):
    """The packs on sale."""

    packs: Sequence[PackAnswer]


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
    _tell(call)
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
    _tell(call)
    return Answer(b"", 204)


async def archive_price(call: Call) -> Answer:
    """Ends an event's price, and what was to come of it; what it has priced keeps it."""
    await call.services.catalogue.archive_price(_event(call), actor=call.actor)
    _tell(call)
    return Answer(b"", 204)


async def list_packs(call: Call) -> Answer:
    """The packs on sale."""
    packs = await call.services.catalogue.packs()
    shown = _buyers_pack if call.credential.customer_id is not None else _whole_pack
    return Answer(PacksAnswer([shown(pack) for pack in packs]))


async def put_pack(call: Call) -> Answer:
    """Sets a pack. Checkouts made before keep what they were made with."""
    body: PackRequest = call.body
    custom = body.custom_amount
    if custom is not None and custom.min > custom.max:
        raise InvalidRequest("custom_amount.min: it is above custom_amount.max.", field="custom_amount.min")
    if body.bonus_days is not None and not body.bonus_credits:
        raise InvalidRequest("bonus_days: there are no bonus_credits that could expire.", field="bonus_days")
    check_amount(body.amount, body.currency, "amount")
    if custom is not None:
        check_amount(custom.min, body.currency, "custom_amount.min")
        check_amount(custom.max, body.currency, "custom_amount.max")
    currencies_max = call.services.config.limits.currencies_per_pack_max
    if len(body.currencies) > currencies_max:
        raise InvalidRequest(f"currencies: {currencies_max} at most.", field="currencies")
    for currency, amount in body.currencies.items():
        check_amount(amount, currency, f"currencies.{currency}")
    pack = Pack(
        code=_code(call),
        name=fields.printable(body.name, "name") or "",
        credits=body.credits,
        amount=body.amount,
        currency=body.currency,
        bonus_credits=body.bonus_credits,
        bonus_days=body.bonus_days,
        currencies={name: amount for name, amount in body.currencies.items() if name != body.currency},
        amount_min=custom.min if custom else None,
        amount_max=custom.max if custom else None,
        stripe_price=body.stripe_price,
        expires_with_period=body.expires_with_period,
    )
    await call.services.catalogue.put_pack(pack)
    _tell(call)
    return Answer(_whole_pack(pack))


def _buyers_pack(pack: Pack) -> PackAnswer:
    return PackAnswer(**_as_seen(pack))


def _whole_pack(pack: Pack) -> WholePackAnswer:
    return WholePackAnswer(
        **_as_seen(pack), stripe_price=pack.stripe_price, expires_with_period=pack.expires_with_period
    )


def _as_seen(pack: Pack) -> dict[str, Any]:
    custom = None
    if pack.amount_min is not None and pack.amount_max is not None:
        custom = AmountRange(min=pack.amount_min, max=pack.amount_max)
    same = ("code", "name", "credits", "amount", "currency", "bonus_credits", "bonus_days", "currencies")
    return {name: getattr(pack, name) for name in same} | {"custom_amount": custom}


async def archive_pack(call: Call) -> Answer:
    """Takes a pack off sale."""
    await call.services.catalogue.archive_pack(_code(call))
    _tell(call)
    return Answer(b"", 204)


def _tell(call: Call) -> None:
    """Lets live pages know that quotes are stale."""
    call.services.relay.publish([], call.services.catalogue.current.generation)


def _event(call: Call) -> str:
    return fields.event_name(call.params["event"], flat_rate=True)


def _code(call: Call) -> str:
    code = call.params["code"]
    if not _CODE.match(code):
        raise InvalidRequest("code: letters, digits, '_' and '-', up to 100.", field="code")
    return code


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
    Route(
        method="GET",
        path="/v1/packs",
        access=Access("meter", "read", also="prices"),
        handler=list_packs,
        summary="List packs",
        answers={200: PacksAnswer},
    ),
    Route(
        method="PUT",
        path="/v1/packs/{code}",
        access=_CHANGE,
        handler=put_pack,
        summary="Set a pack",
        request=PackRequest,
        answers={200: WholePackAnswer},
    ),
    Route(
        method="DELETE",
        path="/v1/packs/{code}",
        access=_CHANGE,
        handler=archive_pack,
        summary="Take a pack off sale",
        answers={204: None},
        errors=(NotFound,),
    ),
)
