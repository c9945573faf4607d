"""What customers can buy."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec

from app.api import fields
from app.api.auth import Access
from app.api.fields import Credits, Currency, Days, MinorUnits, Name, Strict, StripeId, UnitCredits
from app.api.http import Answer, Call, Route
from app.api.prices import tell_of_prices
from app.errors import InvalidRequest, NotFound, VersionConflict
from app.rules.packs import Pack, check_amount
from app.rules.times import rfc3339

_CODE: Final = re.compile(r"[A-Za-z0-9_-]{1,100}\Z")


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
    expected_version: Annotated[int, msgspec.Meta(ge=0)] | None = None


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
    version: int


class PackVersionAnswer(WholePackAnswer, frozen=True, kw_only=True):
    """What a pack was from a time on; `archived` is off sale."""

    archived: bool
    created_at: str


class PackVersionsAnswer(msgspec.Struct, frozen=True):
    """Every version of a pack, newest first."""

    versions: list[PackVersionAnswer]


class PacksAnswer(msgspec.Struct, frozen=True):
    """The packs on sale."""

    packs: Sequence[PackAnswer]


async def list_packs(call: Call) -> Answer:
    """The packs on sale."""
    # Before the packs: one that is set in between has terms newer than its version, and a writer is told.
    versions = await call.services.packs.latest_versions()
    packs = await call.services.catalogue.packs()
    if call.credential.customer_id is not None:
        return Answer(PacksAnswer([PackAnswer(**_as_seen(pack)) for pack in packs]))
    return Answer(PacksAnswer([WholePackAnswer(**_as_kept(pack, versions.get(pack.code, 0))) for pack in packs]))


async def list_pack_versions(call: Call) -> Answer:
    """What a pack was, newest first."""
    code = _code(call)
    versions = await call.services.packs.versions(code)
    if not versions:
        raise NotFound(f"There is no pack {code!r}.", pack=code)
    return Answer(
        PackVersionsAnswer(
            [
                PackVersionAnswer(
                    **_as_kept(one.pack, one.version), archived=one.archived, created_at=rfc3339(one.created_at)
                )
                for one in versions
            ]
        )
    )


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
    version = await call.services.packs.put(pack, expected_version=body.expected_version, actor=call.actor)
    tell_of_prices(call)
    return Answer(WholePackAnswer(**_as_kept(pack, version)))


def _as_kept(pack: Pack, version: int) -> dict[str, Any]:
    mine = {"stripe_price": pack.stripe_price, "expires_with_period": pack.expires_with_period, "version": version}
    return _as_seen(pack) | mine


def _as_seen(pack: Pack) -> dict[str, Any]:
    custom = None
    if pack.amount_min is not None and pack.amount_max is not None:
        custom = AmountRange(min=pack.amount_min, max=pack.amount_max)
    same = ("code", "name", "credits", "amount", "currency", "bonus_credits", "bonus_days", "currencies")
    return {name: getattr(pack, name) for name in same} | {"custom_amount": custom}


async def archive_pack(call: Call) -> Answer:
    """Takes a pack off sale."""
    await call.services.packs.archive(_code(call), actor=call.actor)
    tell_of_prices(call)
    return Answer(b"", 204)


def _code(call: Call) -> str:
    code = call.params["code"]
    if not _CODE.match(code):
        raise InvalidRequest("code: letters, digits, '_' and '-', up to 100.", field="code")
    return code


_CHANGE = Access("prices")

ROUTES = (
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
        errors=(VersionConflict,),
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
    Route(
        method="GET",
        path="/v1/packs/{code}/versions",
        access=Access("meter", also="prices"),
        handler=list_pack_versions,
        summary="List a pack's versions",
        answers={200: PackVersionsAnswer},
        errors=(NotFound,),
    ),
)
