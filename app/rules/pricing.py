"""What an action costs: per action, per model, a flat rate for the rest; times a quantity, or by tiers of it."""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from app.config import CREDITS_MAX
from app.errors import InvalidRequest, UnknownEvent
from app.rules.costs import Cost
from app.rules.packs import Pack

FLAT_RATE: Final = "*"
"""The event whose price covers every name that has none of its own."""
EVENT_PATTERN: Final = r"^[a-z0-9_]+(\.[a-z0-9_]+)*$"
EVENT_LENGTH_MAX: Final = 100

_ALIKE_RATIO_MIN: Final = 0.7
_EVENT = re.compile(EVENT_PATTERN.removesuffix("$") + r"\Z")


class Tier(msgspec.Struct, frozen=True):
    """What each unit costs up to the `up_to`th, in credits; None is for all the rest."""

    up_to: int | None
    credits: int


class Rate(msgspec.Struct, frozen=True):
    """What any quantity of one action costs: each unit `unit` credits, or as its tiers say.

    Tiers are graduated: each unit costs what the tier says that it lies in, whatever comes after it. An action costs
    `minimum` credits at least.
    """

    unit: int
    tiers: tuple[Tier, ...] = ()
    minimum: int = 0

    def total(self, quantity: int) -> int:
        """What so many units cost, in credits.

        Raises:
            InvalidRequest: it passes the limit of a credit amount (field `quantity`).

        """
        credits = self.sum_of(quantity)
        if credits > CREDITS_MAX:
            raise InvalidRequest(
                f"{quantity} units cost {credits} credits, which is more than one operation may move ({CREDITS_MAX}).",
                field="quantity",
            )
        return credits

    def sum_of(self, quantity: int) -> int:
        """The same, though it may be more than one operation may move."""
        return max(self.minimum, self._graduated(quantity) if self.tiers else self.unit * quantity)

    def _graduated(self, quantity: int) -> int:
        credits, counted = 0, 0
        for tier in self.tiers:
            upper = quantity if tier.up_to is None else min(tier.up_to, quantity)
            if upper > counted:
                credits += (upper - counted) * tier.credits
                counted = upper
        return credits

    @property
    def is_plain(self) -> bool:
        """Whether every unit costs the same."""
        return not self.tiers and not self.minimum


class Price(msgspec.Struct, frozen=True):
    """One immutable version of an event's price, in force from `effective_at` on, in milliseconds since 1970.

    `credits` is what one unit costs, in credits (0 is free); `per_model` overrides it for a model's name. With `tiers`
    it is that of the first one. `archived` is a version that ends the event's price.
    """

    event: str
    version: int
    credits: int
    label: str
    per_model: Mapping[str, int]
    tiers: tuple[Tier, ...] = ()
    minimum: int = 0
    effective_at: int = 0
    archived: bool = False

    def rate(self, model: str | None) -> Rate:
        """What an action with a model costs: a model that has a price of its own has no tiers."""
        unit = None if model is None else self.per_model.get(model)
        if unit is None:
            return Rate(self.credits, self.tiers, self.minimum)
        return Rate(unit, (), self.minimum)


class Quote(msgspec.Struct, frozen=True):
    """What one action costs: `credits` in all, by that version of a price, where one said so.

    `unit_credits` is what each unit costs, None where they do not cost the same.
    """

    credits: int
    unit_credits: int | None
    price_version: int | None
    label: str
    rate: Rate | None = None

    @classmethod
    def by(cls, rate: Rate, quantity: int, price_version: int | None, label: str) -> "Quote":
        """What so many units cost.

        Raises:
            InvalidRequest: more than one operation may move (field `quantity`).

        """
        credits = rate.total(quantity)
        unit = rate.unit if credits == rate.unit * quantity else None
        return cls(credits, unit, price_version, label, rate)


def check_tiers(credits: int, tiers: Sequence[Tier]) -> None:
    """Refuses tiers that leave a quantity without a price, or with two.

    Args:
        credits: the price of one unit beside them.
        tiers: in their order; none at all are as good.

    Raises:
        InvalidRequest: names the field.

    """
    last = 0
    for number, tier in enumerate(tiers):
        where = f"tiers[{number}].up_to"
        if (tier.up_to is None) is not (number == len(tiers) - 1):
            raise InvalidRequest(f"{where}: the last tier alone has null, and is for all the rest.", field=where)
        if tier.up_to is not None and tier.up_to <= last:
            raise InvalidRequest(f"{where}: it must be above {last}.", field=where)
        last = tier.up_to or last
    if tiers and tiers[0].credits != credits:
        raise InvalidRequest(
            f"credits: with tiers it is what the first unit costs, {tiers[0].credits}.", field="credits"
        )


class Catalogue(msgspec.Struct, frozen=True):
    """The prices in force, the packs on sale and the costs of events. `generation` rises with every change of any.

    `upcoming` are versions of prices that come into force later, by that time.
    """

    generation: int
    prices: Mapping[str, Price]
    packs: Mapping[str, Pack] = {}
    upcoming: tuple[Price, ...] = ()
    costs: Mapping[str, Cost] = {}

    def at(self, now: int) -> "Catalogue":
        """The catalogue at a time after it was read, in milliseconds since 1970."""
        if not self.upcoming or self.upcoming[0].effective_at > now:
            return self
        prices = dict(self.prices)
        later = []
        for price in self.upcoming:
            if price.effective_at > now:
                later.append(price)
            elif price.archived:
                prices.pop(price.event, None)
            else:
                prices[price.event] = price
        return replace(self, prices=prices, upcoming=tuple(later))

    def find(self, event: str) -> Price | None:
        """The event's own price, or the flat rate where one is set."""
        return self.prices.get(event) or self.prices.get(FLAT_RATE)

    def quote(self, event: str, model: str | None = None, quantity: int = 1) -> Quote:
        """Prices an action.

        A model without a price of its own pays the event's. A name that the flat rate covers is called by its name.

        Raises:
            UnknownEvent: neither the name nor the flat rate has a price; `did_you_mean` names a near one.
            InvalidRequest: it costs more than one operation may move (field `quantity`).

        """
        price = self.find(event)
        if price is None:
            raise self._unknown(event)
        return Quote.by(price.rate(model), quantity, price.version, self.label(event))

    def cost(self, event: str, model: str | None, quantity: int) -> int | None:
        """What an action costs its operator in billionths of a US dollar, None where that is unknown."""
        cost = self.costs.get(event) or self.costs.get(FLAT_RATE)
        return None if cost is None else cost.of(model, quantity)

    def label(self, event: str) -> str:
        """What a customer reads: the price's label, or the name where it has no price of its own."""
        price = self.prices.get(event)
        return price.label if price else event

    def _unknown(self, event: str) -> UnknownEvent:
        names = [name for name in self.prices if name != FLAT_RATE]
        near = difflib.get_close_matches(event, names, n=1, cutoff=_ALIKE_RATIO_MIN)
        if near:
            return UnknownEvent(
                f"The event {event!r} has no price; did you mean {near[0]!r}?", event=event, did_you_mean=near[0]
            )
        return UnknownEvent(
            f"The event {event!r} has no price. "
            f"Set one with PUT /v1/prices/{event}, or a flat rate with PUT /v1/prices/*.",
            event=event,
        )


def is_event_name(text: str) -> bool:
    """Whether a text may name an event: lower-case words of letters, digits and `_`, joined by dots."""
    return len(text) <= EVENT_LENGTH_MAX and _EVENT.match(text) is not None
