"""Whether a price reaches its margin: that of a whole event, or each of those that its models have of their own."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Final, Literal

import msgspec

from app.rules.advice_facts import CreditValue, DayOfModel, EventUsage, Market, Use, in_period, use_of

Verdict = Literal["raise", "lower"]

BAND_PERCENT: Final = 10
"""Of the price in force: a needed price that is nearer may be near enough."""
BAND_POINTS: Final = 5
"""Of margin, which near enough takes too."""
LOWER_PERCENT: Final = 75
"""Of the price in force: a needed price above it is no reason to give money away."""
MODEL_SHARE_PERCENT: Final = 10
MODEL_UNITS_MIN: Final = 20
MODEL_COST_RATIO: Final = 2

_UNNAMED: Final = ""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an event that pays one price.

    Args:
        of: the whole event; one model; the models without a price of their own; or the mix of all, as a guess at
            models of which nothing is known yet.
        model: its name, where it is one.
        basis: what its cost is known from.
        units: those that pay the price, which of a mix are not those of its basis.
        current: credits a unit, now.
        needed: credits a unit that reach the target.
        verdict: what is to be done; None where the price is right.
        is_new: whether the model would have a price of its own for the first time.

    """

    of: Literal["all", "model", "others", "mix"]
    model: str = _UNNAMED
    basis: Use
    units: int
    current: int
    needed: int
    verdict: Verdict | None
    is_new: bool = False

    @property
    def recommended(self) -> int:
        """Credits a unit, once the advice is taken: a price that is right stays, whatever happens to others."""
        return self.needed if self.verdict else self.current


def needed_credits(unit_cost: Fraction, target_percent: int, value: Fraction) -> int:
    """The lowest price that leaves the target margin, in credits a unit, at least 1.

    Args:
        unit_cost: in billionths of a dollar.
        target_percent: 0 to 99.
        value: of one credit, in billionths of a dollar, above zero.

    """
    return max(1, math.ceil(unit_cost * 100 / ((100 - target_percent) * value)))


def margin_percent(unit_cost: Fraction, credits: int, value: Fraction) -> Fraction:
    """What a price above zero leaves after the cost, in percent of it; below zero where it loses."""
    return 100 - unit_cost * 100 / (credits * value)


def verdict_on(unit_cost: Fraction, current: int, needed: int, target_percent: int, value: Fraction) -> Verdict | None:
    """What is to be done with a price.

    - One that loses is raised, however little it loses, and so is a free one that costs.
    - One that is the needed one is right, whatever margin it leaves: no other price is nearer to the target.
    - One is right too where the needed one is a single credit away or less than 10 % of it, and the margin is at most
      5 points from the target.
    - Else it is raised to a needed price above it, and lowered to one of at most 75 % of it. What lies between is left
      alone: it earns a little more than was asked for.
    """
    if unit_cost > current * value:
        return "raise"
    step = abs(needed - current)
    is_near = step <= 1 or step * 100 < BAND_PERCENT * current
    if not step or (is_near and abs(margin_percent(unit_cost, current, value) - target_percent) <= BAND_POINTS):
        return None
    if needed > current:
        return "raise"
    return "lower" if needed * 100 <= LOWER_PERCENT * current else None


def parts_of(usage: EventUsage, whole: Use, market: Market, value: CreditValue) -> list[Part]:
    """Judges an event: each model with a price of its own by that, and all others together by the event's.

    Models that share the event's price are told apart where two or more of them have 10 % of its units and 20 costed
    ones each, the dearest costs at least twice what the cheapest does, and one of them is not priced right. Each of
    those then gets a price of its own, and the event's price is for the rest, or for the mix of all where no more is
    known of a rest.

    A part is judged where 20 of its units are costed, or 10 % of the event's costed units are its: a rare model's few
    units move no price of a busy event, and few units of a new event do. Who is not judged keeps the price. A part
    whose units cost exactly nothing keeps it too: no margin says what to ask for them.

    Args:
        usage: the event.
        whole: what all its days of the period add up to.
        market: of the period.
        value: of one credit.

    """
    shared: list[DayOfModel] = []
    own: dict[str, list[DayOfModel]] = defaultdict(list)
    for day in in_period(usage.days, market):
        (own[day.model] if day.model in usage.per_model else shared).append(day)
    judge = _Judge(whole, market, value)
    priced = {model: use_of(days, market) for model, days in own.items()}
    parts = [
        judge.part("model", use, usage.per_model[model], model=model)
        for model, use in sorted(priced.items())
        if judge.has_data(use)
    ]
    split, rest_days = _split(shared, usage.credits, judge)
    rest = use_of(rest_days, market)
    if judge.has_data(rest):
        of: Literal["all", "others"] = "others" if split or usage.per_model else "all"
        return [*parts, *split, judge.part(of, rest, usage.credits)]
    if split:
        return [*parts, *split, judge.part("mix", whole, usage.credits, units=rest.units)]
    return parts


class _Judge:
    """Makes parts of one event."""

    def __init__(self, whole: Use, market: Market, value: CreditValue) -> None:
        self.whole = whole
        self.market = market
        self.value = value.nanos

    def has_data(self, use: Use) -> bool:
        few = min(MODEL_UNITS_MIN * 100, self.whole.costed_units * MODEL_SHARE_PERCENT)
        return use.unit_cost is not None and use.costed_units * 100 >= few

    def part(
        self,
        of: Literal["all", "model", "others", "mix"],
        use: Use,
        current: int,
        *,
        model: str = _UNNAMED,
        units: int | None = None,
        is_new: bool = False,
    ) -> Part:
        cost = use.unit_cost
        needed, verdict = current, None
        if cost:
            target = self.market.target_margin_percent
            needed = needed_credits(cost, target, self.value)
            verdict = verdict_on(cost, current, needed, target, self.value)
        return Part(
            of=of,
            model=model,
            basis=use,
            units=use.units if units is None else units,
            current=current,
            needed=needed,
            verdict=verdict,
            is_new=is_new,
        )


def _split(days: Sequence[DayOfModel], current: int, judge: _Judge) -> tuple[list[Part], Sequence[DayOfModel]]:
    """The models that need prices of their own, and the days of all others."""
    by_model: dict[str, list[DayOfModel]] = defaultdict(list)
    for day in days:
        by_model[day.model].append(day)
    costs = _costs_of_large(by_model, judge)
    if len(costs) < 2 or max(costs.values()) < MODEL_COST_RATIO * min(costs.values()):
        return [], days
    split = [
        judge.part("model", use_of(by_model[model], judge.market), current, model=model, is_new=True)
        for model in sorted(costs)
    ]
    if not any(part.verdict for part in split):
        return [], days
    return split, [day for day in days if day.model not in costs]


def _costs_of_large(by_model: Mapping[str, Sequence[DayOfModel]], judge: _Judge) -> dict[str, Fraction]:
    costs = {}
    for model, days in by_model.items():
        use = use_of(days, judge.market)
        is_large = use.units * 100 >= MODEL_SHARE_PERCENT * judge.whole.units
        if model != _UNNAMED and is_large and use.costed_units >= MODEL_UNITS_MIN and use.unit_cost is not None:
            costs[model] = use.unit_cost
    return costs
