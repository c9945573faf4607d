"""What an action costs: per action, per model, a flat rate for the rest, times a quantity."""

import difflib
import re
from collections.abc import Mapping
from typing import Final

import msgspec

from app.config import CREDITS_MAX
from app.errors import InvalidRequest, UnknownEvent
from app.rules.packs import Pack

FLAT_RATE: Final = "*"
"""The event whose price covers every name that has none of its own."""
EVENT_PATTERN: Final = r"^[a-z0-9_]+(\.[a-z0-9_]+)*$"
EVENT_LENGTH_MAX: Final = 100

_ALIKE_RATIO_MIN: Final = 0.7
_EVENT = re.compile(EVENT_PATTERN.removesuffix("$") + r"\Z")


class Price(msgspec.Struct, frozen=True):
    """One immutable version of an event's price.

    `credits` is what one unit costs, in credits (0 is free); `per_model` overrides it for a model's name.
    """

    event: str
    version: int
    credits: int
    label: str
    per_model: Mapping[str, int]


class Quote(msgspec.Struct, frozen=True):
    """What one action costs: `credits` in all; `unit_credits` for each unit by that version, where a price said so."""

    credits: int
    unit_credits: int | None
    price_version: int | None
    label: str


def total_of(unit_credits: int, quantity: int) -> int:
    """What so many units cost, in credits.

    Raises:
        InvalidRequest: the product passes the limit of a credit amount (field `quantity`).

    """
    credits = unit_credits * quantity
    if credits > CREDITS_MAX:
        raise InvalidRequest(
            f"{quantity} × {unit_credits} credits is more than one operation may move ({CREDITS_MAX}).",
            field="quantity",
        )
    return credits


class Catalogue(msgspec.Struct, frozen=True):
    """The prices in force and the packs on sale. `generation` rises with every change of any of them."""

    generation: int
    prices: Mapping[str, Price]
    packs: Mapping[str, Pack] = {}

    def find(self, event: str) -> Price | None:
        """The event's own price, or the flat rate where one is set."""
        return self.prices.get(event) or self.prices.get(FLAT_RATE)

    def quote(self, event: str, model: str | None = None, quantity: int = 1) -> Quote:
        """Prices an action.

        A model without a price of its own pays the event's. A name that the flat rate covers is called by its name.

        Raises:
            UnknownEvent: neither the name nor the flat rate has a price; `did_you_mean` names a near one.
            InvalidRequest: the product passes the limit of a credit amount (field `quantity`).

        """
        price = self.find(event)
        if price is None:
            raise self._unknown(event)
        unit = price.credits if model is None else price.per_model.get(model, price.credits)
        return Quote(total_of(unit, quantity), unit, price.version, self.label(event))

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
