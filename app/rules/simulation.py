"""The past priced again: what the same events would have brought in at other prices, had they all happened."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from fractions import Fraction

import msgspec

from app.errors import InvalidRequest
from app.rules.pricing import Price


class Lot(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Events that are alike, and so are priced alike: so many units of an event by a model, '' for none.

    `is_fixed` are those whose credits their caller named, which no price changes.
    """

    event: str
    model: str
    quantity: int
    is_fixed: bool
    count: int
    credits: int


class Earned(msgspec.Struct, frozen=True, gc=False):
    """What an event earned by a model, and what its provider charged, in billionths of a US dollar."""

    revenue_nanos: int
    cost_nanos: int | None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What some events brought in, and would have at other prices. Money in billionths of a US dollar."""

    count: int
    credits_now: int
    credits_then: int
    revenue_now_nanos: int
    revenue_then_nanos: int
    cost_nanos: int | None


def credits_then(lot: Lot, price: Price) -> int:
    """What one event of a lot would cost whose credits its caller did not name.

    Raises:
        InvalidRequest: more than one operation may move (field `prices`).

    """
    try:
        return price.rate(lot.model or None).total(lot.quantity)
    except InvalidRequest as error:
        raise InvalidRequest(f"prices.{lot.event}: {error.message}", field=f"prices.{lot.event}") from error


def outcomes(
    lots: Iterable[Lot], prices: Mapping[str, Price], earned: Mapping[tuple[str, str], Earned], for_a_credit: Fraction
) -> dict[tuple[str, str], Outcome]:
    """What each event and model would have brought in.

    Revenue grows as the credits do: who paid for a part of them would have paid for as large a part. Of what was free
    it is not known, so it earns what a credit of any event did.

    Args:
        lots: what happened, without what was reversed.
        prices: the candidates, by event; each lot has one.
        earned: by event and model.
        for_a_credit: what a credit charged earned over all events, in billionths of a US dollar.

    """
    found: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for lot in lots:
        sums = found[lot.event, lot.model]
        sums[0] += lot.count
        sums[1] += lot.credits
        sums[2] += lot.credits if lot.is_fixed else credits_then(lot, prices[lot.event]) * lot.count
    made = {}
    for key, (count, now, then) in found.items():
        revenue = earned.get(key, Earned(0, None))
        grown = Fraction(revenue.revenue_nanos * then, now) if now else for_a_credit * then
        made[key] = Outcome(
            count=count,
            credits_now=now,
            credits_then=then,
            revenue_now_nanos=revenue.revenue_nanos,
            revenue_then_nanos=round(grown),
            cost_nanos=revenue.cost_nanos,
        )
    return made


def total(parts: Iterable[Outcome]) -> Outcome:
    """All of them together; the cost is that of those whose cost is known, None where none is."""
    listed = list(parts)
    costs = [part.cost_nanos for part in listed if part.cost_nanos is not None]
    return Outcome(
        count=sum(part.count for part in listed),
        credits_now=sum(part.credits_now for part in listed),
        credits_then=sum(part.credits_then for part in listed),
        revenue_now_nanos=sum(part.revenue_now_nanos for part in listed),
        revenue_then_nanos=sum(part.revenue_then_nanos for part in listed),
        cost_nanos=sum(costs) if costs else None,
    )
