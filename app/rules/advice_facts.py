"""What advice on prices rests on: the usage of a period, and what follows from it by counting alone.

Money is in billionths of a US dollar, and what is divided stays an exact fraction: nothing is rounded before it is
shown.
"""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Final, Literal

import msgspec

RECENT_PART: Final = 4
"""The last quarter of a period's days is what a drift of costs is looked for in."""
DRIFT_PERCENT: Final = 15
DRIFT_UNITS_MIN: Final = 20
"""Costed units that either side of a drift needs: below it, two of them are enough to look like one."""

_SIGNIFICANT_DIGITS: Final = 4
_CENTS: Final = 2
_PLACES_MAX: Final = 24
_NANOS: Final = 10**9


class DayOfModel(msgspec.Struct, frozen=True, kw_only=True):
    """What one event did on one day by one model; several of a day and a model add up.

    Args:
        day: days since 1970, in UTC.
        model: '' where the event named none.
        count: events.
        quantity: units in them.
        credits: what was charged.
        costed: units whose provider cost is known, of `quantity`.
        cost_nanos: what these cost together.
        cost_low_nanos: the lowest cost of one unit that was seen; None where none was.
        cost_high_nanos: the highest.
        paid_credits: credits drawn from grants whose money is known, of `credits`. Gifts belong to the rest.
        revenue_nanos: what the paid credits earned.

    """

    day: int
    model: str
    count: int
    quantity: int
    credits: int
    costed: int
    cost_nanos: int
    cost_low_nanos: int | None
    cost_high_nanos: int | None
    paid_credits: int
    revenue_nanos: int


class EventUsage(msgspec.Struct, frozen=True, kw_only=True):
    """An event, its price in force (`version`), and its days. `credits` and `per_model` are for one unit."""

    event: str
    label: str
    credits: int
    per_model: Mapping[str, int]
    version: int
    days: Sequence[DayOfModel]


class Market(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for all events of a period.

    Args:
        target_margin_percent: what is to be left of a price after the provider's cost, 0 to 99.
        days: how long the period is. Days outside of it do not count.
        first_day: its first, in days since 1970.
        pack_credit_nanos: what one credit costs in the packs on sale; None where no pack is priced in US dollars.

    """

    target_margin_percent: int
    days: int
    first_day: int
    pack_credit_nanos: int | None

    @property
    def recent_days(self) -> int:
        """How many days the last quarter has; 0 in a period too short for one."""
        return self.days // RECENT_PART


class CreditValue(msgspec.Struct, frozen=True, kw_only=True):
    """What one credit is worth, from where that is known, and which share of all credits was paid for."""

    nanos: Fraction
    source: Literal["payments", "packs"]
    paid_share: Fraction


class Drift(msgspec.Struct, frozen=True):
    """The cost of a unit before the last quarter and in it, in billionths of a dollar."""

    before: Fraction
    after: Fraction


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """What some days add up to. `unit_cost` is the cost that counts, None where none is known."""

    units: int
    costed_units: int
    costed_days: int
    cost_nanos: int
    cost_low_nanos: int | None
    cost_high_nanos: int | None
    credits: int
    paid_credits: int
    revenue_nanos: int
    unit_cost: Fraction | None
    drift: Drift | None


class Trend(msgspec.Struct, frozen=True):
    """Units of the first half of a period and of the second; the middle day of an odd one is in neither."""

    first: int
    second: int

    @property
    def percent(self) -> Fraction | None:
        """How far the second is above the first, below zero where it fell; None where the first had no unit."""
        return Fraction((self.second - self.first) * 100, self.first) if self.first else None


def in_period(days: Iterable[DayOfModel], market: Market) -> list[DayOfModel]:
    """Those of the period."""
    return [one for one in days if 0 <= one.day - market.first_day < market.days]


def use_of(days: Sequence[DayOfModel], market: Market) -> Use:
    """Adds up days of a period.

    The cost of a unit is what the costed units cost on average. Where it differs by 15 % or more in the last quarter
    of the days from what it was before, with 20 costed units on either side, the recent cost counts alone: it is what
    the next unit will cost, be it for the provider's price or for another mix of models.
    """
    costed = sum(one.costed for one in days)
    cost = sum(one.cost_nanos for one in days)
    drift = _drift(days, market)
    average = Fraction(cost, costed) if costed else None
    return Use(
        units=sum(one.quantity for one in days),
        costed_units=costed,
        costed_days=len({one.day for one in days if one.costed}),
        cost_nanos=cost,
        cost_low_nanos=min((one.cost_low_nanos for one in days if one.cost_low_nanos is not None), default=None),
        cost_high_nanos=max((one.cost_high_nanos for one in days if one.cost_high_nanos is not None), default=None),
        credits=sum(one.credits for one in days),
        paid_credits=sum(one.paid_credits for one in days),
        revenue_nanos=sum(one.revenue_nanos for one in days),
        unit_cost=drift.after if drift else average,
        drift=drift,
    )


def _drift(days: Sequence[DayOfModel], market: Market) -> Drift | None:
    recent_from = market.first_day + market.days - market.recent_days
    recent = [one for one in days if one.day >= recent_from]
    before = [one for one in days if one.day < recent_from]
    units, units_before = (sum(one.costed for one in side) for side in (recent, before))
    if min(units, units_before) < DRIFT_UNITS_MIN:
        return None
    drift = Drift(
        Fraction(sum(one.cost_nanos for one in before), units_before),
        Fraction(sum(one.cost_nanos for one in recent), units),
    )
    change = abs(drift.after - drift.before)
    return drift if change and change * 100 >= DRIFT_PERCENT * drift.before else None


def trend_of(days: Sequence[DayOfModel], market: Market) -> Trend:
    """How the use of the second half of the period compares with the first."""
    half = market.days // 2
    second_from = market.first_day + market.days - half
    return Trend(
        sum(one.quantity for one in days if one.day < market.first_day + half),
        sum(one.quantity for one in days if one.day >= second_from),
    )


def credit_value_of(usages: Iterable[EventUsage], market: Market) -> CreditValue | None:
    """What one credit is worth: what customers paid for those they spent, or what packs ask where nobody paid.

    Paid credits that earned nothing at all say no more than none. With packs every credit counts as paid for, since
    it is not known which were not. None where neither payments nor packs say anything.
    """
    days = [one for usage in usages for one in in_period(usage.days, market)]
    paid = [one for one in days if one.paid_credits > 0]
    revenue = sum(one.revenue_nanos for one in paid)
    if revenue > 0:
        credits = sum(one.paid_credits for one in paid)
        share = share_of(credits, sum(one.credits for one in days))
        return CreditValue(nanos=Fraction(revenue, credits), source="payments", paid_share=share)
    if market.pack_credit_nanos:
        return CreditValue(nanos=Fraction(market.pack_credit_nanos), source="packs", paid_share=Fraction(1))
    return None


def paid_share_of(use: Use, value: CreditValue) -> Fraction:
    """Which share of an event's credits earns money.

    An event that charged nothing, as a free one, has none of its own and is taken to be as all others are.
    """
    if value.source == "packs" or not use.credits:
        return value.paid_share
    return share_of(use.paid_credits, use.credits)


def share_of(part: int, whole: int) -> Fraction:
    """A part of a whole, at most all of it; all of nothing is all."""
    return min(Fraction(1), Fraction(part, whole)) if whole else Fraction(1)


def usd_text(nanos: Fraction | int) -> str:
    """An amount of US dollars for a person: four significant digits, cents always, no trailing zeros."""
    dollars = Fraction(nanos) / _NANOS
    places = _CENTS
    while 0 < dollars * 10**places < 10 ** (_SIGNIFICANT_DIGITS - 1) and places < _PLACES_MAX:
        places += 1
    return _decimal_text(dollars, places)


def percent_text(percent: Fraction | int) -> str:
    """A percentage for a person: one decimal, and none where it is zero."""
    return _decimal_text(Fraction(percent), 1)


def _decimal_text(number: Fraction, places: int) -> str:
    rounded = round(number * 10**places)
    whole, rest = divmod(abs(rounded), 10**places)
    return ("-" if rounded < 0 else "") + f"{whole}.{rest:0{places}d}".rstrip("0").rstrip(".")
