"""What a price should be so that a target margin is reached, and why: advice that changes nothing by itself.

The same facts give the same advice, in whichever order they come. Money is in billionths of a US dollar. How costs are
counted stands in `advice_facts.py`, when a price is right in `price_verdicts.py`.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final, Literal

import msgspec

from app.config import CREDITS_MAX
from app.errors import InvalidRequest
from app.rules.advice_facts import (
    CreditValue,
    EventUsage,
    Market,
    Use,
    credit_value_of,
    in_period,
    paid_share_of,
    percent_text,
    share_of,
    trend_of,
    usd_text,
    use_of,
)
from app.rules.advice_reason import is_promotional, reason_of
from app.rules.price_verdicts import Part, margin_percent, needed_credits, parts_of

Kind = Literal["raise", "lower", "per_model", "merge"]
Confidence = Literal["high", "medium", "low"]

TARGET_MARGIN_PERCENT_MAX: Final = 99

MERGE_EVENTS_MIN: Final = 3
MERGE_ALIKE_PERCENT: Final = 10
MERGE_SHARE_PERCENT: Final = 5
"""Of all units of the period: an event is small below it."""

HIGH_UNITS_MIN: Final = 1_000
HIGH_DAYS_MIN: Final = 7
HIGH_COSTED_PERCENT_MIN: Final = 95
HIGH_COST_RATIO_MAX: Final = 10
MEDIUM_UNITS_MIN: Final = 100
MEDIUM_DAYS_MIN: Final = 3
MEDIUM_COSTED_PERCENT_MIN: Final = 50

LIFT_NANOS_MAX: Final = 9 * 10**18
"""Nine billion dollars: more is told as so much, which a column can hold."""

NO_CREDIT_VALUE: Final = "No payment and no pack says what a credit is worth."
NO_UNITS: Final = "It was not used in the period."
NO_COST: Final = "None of its units has a known provider cost; send cost_usd with each event."
THIN_COSTS: Final = "Too few units have a known provider cost to tell its prices apart."
COSTS_NOTHING: Final = "Its units cost nothing, so any price reaches the target."
OUT_OF_RANGE: Final = "A unit would need more credits than a price may have."


class Recommendation(msgspec.Struct, frozen=True, kw_only=True):
    """What the price of one event should be.

    Args:
        event: its name.
        kind: `per_model` gives models prices of their own, or moves such prices apart; `merge` makes one event of
            several, named in `facts["merge"]`; any other advice raises or lowers all that it changes.
        current_credits: a unit's price in force, for models without one of their own.
        recommended_credits: the same, as it should be.
        per_model: as it should be, with what stays.
        reason: sentences for a person. Each number in it is in the facts.
        confidence: how far the facts carry it; `facts["confidence_limited_by"]` has what a better one lacks.
        estimated_lift_nanos: how the revenue of the period changes if volume stays: paid credits alone, at what one
            is worth. Below zero where a price is lowered.
        version_from: the version of the price in force.
        facts: what it rests on, for JSON: numbers as integers, money and percentages as decimal text.

    """

    event: str
    kind: Kind
    current_credits: int
    recommended_credits: int
    per_model: Mapping[str, int]
    reason: str
    confidence: Confidence
    estimated_lift_nanos: int
    version_from: int
    facts: Mapping[str, Any]


REJECTED_PERCENT: Final = 10
"""Advice within so much of what was rejected is the same again."""


def is_as_rejected(rejected: Recommendation, advice: Recommendation) -> bool:
    """Whether advice says what was rejected: the same kind, on the same versions, and as much or nearly so."""

    def near(one: int, other: int) -> bool:
        return abs(one - other) * 100 <= REJECTED_PERCENT * max(one, other)

    return (
        rejected.kind == advice.kind
        and rejected.facts["versions"] == advice.facts["versions"]
        and near(rejected.recommended_credits, advice.recommended_credits)
        and rejected.per_model.keys() == advice.per_model.keys()
        and all(near(credits, advice.per_model[model]) for model, credits in rejected.per_model.items())
    )


class Withheld(msgspec.Struct, frozen=True, kw_only=True):
    """An event that no advice can be given on, and why."""

    event: str
    reason: str


class _Judged(msgspec.Struct, frozen=True, kw_only=True):
    usage: EventUsage
    use: Use
    parts: Sequence[Part]

    @property
    def is_whole(self) -> bool:
        """Whether the event has one price alone, and needs one alone."""
        return [part.of for part in self.parts] == ["all"]


def advise(usages: Sequence[EventUsage], market: Market) -> list[Recommendation | Withheld]:
    """Judges the prices of a period.

    - A credit is worth what customers paid for those they spent: `revenue_nanos` by `paid_credits` over all events.
      Where nobody paid, it is what packs ask, and where they say nothing either all advice is withheld.
    - An event needs ⌈cost of a unit ÷ (1 − target) ÷ value of a credit⌉ credits, 1 at least, and nothing is said of
      one whose price is right (`price_verdicts.verdict_on`) for each of its parts (`price_verdicts.parts_of`).
    - Where a price is lowered, the reason says how far volume would have to grow to make up for it.
    - Three or more small events that share their name up to the last dot and need nearly the same price are advised
      to become one, instead of what each of them needs. The most used one is named, or the first by name of several.
    - The lift counts as large a share of credits as was paid for of the event's own, and confidence is medium at most
      where half of them or more earned nothing.
    - An event without units, without known costs, or whose units cost nothing, is withheld with the reason.

    Args:
        usages: each event once.
        market: what holds for all of them.

    Returns:
        At most one item for an event, in the order of their names.

    Raises:
        InvalidRequest: the target is not 0 to 99 (field `target_margin_percent`).

    """
    if not 0 <= market.target_margin_percent <= TARGET_MARGIN_PERCENT_MAX:
        raise InvalidRequest(
            f"target_margin_percent: from 0 to {TARGET_MARGIN_PERCENT_MAX}.", field="target_margin_percent"
        )
    value = credit_value_of(usages, market)
    if value is None:
        return [Withheld(event=one.event, reason=NO_CREDIT_VALUE) for one in sorted(usages, key=_name)]
    advice: dict[str, Recommendation | Withheld | None] = {}
    judged = []
    units = 0
    for usage in usages:
        use = use_of(in_period(usage.days, market), market)
        units += use.units
        parts = parts_of(usage, use, market, value)
        reason = _withheld(use, parts)
        if reason:
            advice[usage.event] = Withheld(event=usage.event, reason=reason)
            continue
        one = _Judged(usage=usage, use=use, parts=parts)
        judged.append(one)
        advice[usage.event] = _recommend(one, market, value)
    for group in _alike(judged, units):
        merged = _merge(group, market, value)
        if merged:
            advice |= {one.usage.event: None for one in group} | {merged.event: merged}
    return [item for _, item in sorted(advice.items()) if item]


def _name(usage: EventUsage) -> str:
    return usage.event


def _withheld(use: Use, parts: Sequence[Part]) -> str | None:
    if not use.units:
        return NO_UNITS
    if not use.costed_units:
        return NO_COST
    if not parts:
        return THIN_COSTS
    if not any(part.basis.unit_cost for part in parts):
        return COSTS_NOTHING
    return OUT_OF_RANGE if any(part.needed > CREDITS_MAX for part in parts) else None


def _recommend(one: _Judged, market: Market, value: CreditValue) -> Recommendation | None:
    changed = [part for part in one.parts if part.verdict]
    if not changed:
        return None
    usage = one.usage
    credits = next((part.recommended for part in one.parts if part.of != "model"), usage.credits)
    own = {part.model: part.recommended for part in one.parts if part.of == "model"}
    facts = _facts_of([usage], one.use, market, value)
    facts["parts"] = [_part_facts(part, value) for part in one.parts]
    facts |= _ratio_facts(one.parts) | _growth_facts(changed, value)
    confidence, limits = _confidence([part.basis for part in changed], facts)
    facts["confidence_limited_by"] = limits
    return Recommendation(
        event=usage.event,
        kind=_kind(one.parts),
        current_credits=usage.credits,
        recommended_credits=credits,
        per_model=dict(sorted((dict(usage.per_model) | own).items())),
        reason=reason_of(facts),
        confidence=confidence,
        estimated_lift_nanos=_lift(one.parts, one.use, value),
        version_from=usage.version,
        facts=facts,
    )


def _kind(parts: Sequence[Part]) -> Kind:
    """What raises one part and lowers another moves its models apart, as new prices for models do."""
    verdicts = {part.verdict for part in parts if part.verdict}
    if len(verdicts) > 1 or any(part.is_new for part in parts):
        return "per_model"
    return verdicts.pop()


def _lift(parts: Iterable[Part], use: Use, value: CreditValue) -> int:
    credits = sum(part.units * (part.recommended - part.current) for part in parts)
    lift = round(credits * paid_share_of(use, value) * value.nanos)
    return max(-LIFT_NANOS_MAX, min(lift, LIFT_NANOS_MAX))


def _alike(judged: Iterable[_Judged], units: int) -> list[list[_Judged]]:
    """Small events of one family whose needed prices are within 10 % of one another, three or more together.

    An event with prices for models is no part of one: they would be lost. From the lowest price upward, each event
    joins the first group that it fits in.
    """
    families: dict[str, list[_Judged]] = defaultdict(list)
    for one in judged:
        family = one.usage.event.rpartition(".")[0]
        is_small = one.use.units * 100 < MERGE_SHARE_PERCENT * units
        if family and is_small and one.is_whole:
            families[family].append(one)
    groups = []
    for members in families.values():
        left = sorted(members, key=lambda one: (one.parts[0].needed, one.usage.event))
        while left:
            limit = left[0].parts[0].needed * (100 + MERGE_ALIKE_PERCENT)
            group = [one for one in left if one.parts[0].needed * 100 <= limit]
            if len(group) >= MERGE_EVENTS_MIN:
                groups.append(sorted(group, key=lambda one: one.usage.event))
                left = left[len(group) :]
            else:
                left = left[1:]
    return groups


def _merge(group: Sequence[_Judged], market: Market, value: CreditValue) -> Recommendation | None:
    """One event instead of several, at the price that all of them together need.

    The most used one's own price may be that one already: what changes then is that the others go.
    """
    usages = [one.usage for one in group]
    use = use_of([day for usage in usages for day in in_period(usage.days, market)], market)
    kept = min(group, key=lambda one: (-one.use.units, one.usage.event)).usage
    if not use.unit_cost:
        return None
    needed = needed_credits(use.unit_cost, market.target_margin_percent, value.nanos)
    if needed > CREDITS_MAX:
        return None
    members = [
        Part(
            of="all",
            basis=one.use,
            units=one.use.units,
            current=one.usage.credits,
            needed=needed,
            verdict="raise" if needed > one.usage.credits else "lower",
        )
        for one in group
    ]
    facts = _facts_of(usages, use, market, value) | {"event": kept.event, "label": kept.label}
    facts["merge"] = [usage.event for usage in usages]
    facts["merge_share_percent"] = MERGE_SHARE_PERCENT
    facts["members"] = [_part_facts(one.parts[0], value) | {"event": one.usage.event} for one in group]
    facts["losing"] = [member["event"] for member in facts["members"] if "unit_loss_usd" in member]
    facts["parts"] = [{"of": "merge", "recommended_credits": needed} | _cost_facts(use)]
    facts |= _growth_facts(members, value)
    confidence, limits = _confidence([use], facts)
    facts["confidence_limited_by"] = limits
    return Recommendation(
        event=kept.event,
        kind="merge",
        current_credits=kept.credits,
        recommended_credits=needed,
        per_model=dict(kept.per_model),
        reason=reason_of(facts),
        confidence=confidence,
        estimated_lift_nanos=_lift(members, use, value),
        version_from=kept.version,
        facts=facts,
    )


def _facts_of(usages: Sequence[EventUsage], use: Use, market: Market, value: CreditValue) -> dict[str, Any]:
    trend = trend_of([day for usage in usages for day in in_period(usage.days, market)], market)
    facts: dict[str, Any] = {
        "event": usages[0].event,
        "label": usages[0].label,
        "first_day": market.first_day,
        "days": market.days,
        "recent_days": market.recent_days,
        "target_margin_percent": market.target_margin_percent,
        "credit_value_usd": usd_text(value.nanos),
        "credit_value_from": value.source,
        "units": use.units,
        "costed_units": use.costed_units,
        "cost_usd": usd_text(use.cost_nanos),
        "credits": use.credits,
        "paid_credits": use.paid_credits,
        "revenue_usd": usd_text(use.revenue_nanos),
        "lift_paid_percent": percent_text(paid_share_of(use, value) * 100),
        "first_half_units": trend.first,
        "second_half_units": trend.second,
    }
    if trend.percent is not None:
        facts["trend_percent"] = percent_text(abs(trend.percent))
    if value.source == "payments" and use.credits:
        facts["promotional_percent"] = percent_text(100 - share_of(use.paid_credits, use.credits) * 100)
    return facts


def _cost_facts(use: Use) -> dict[str, Any]:
    assert use.unit_cost is not None
    facts: dict[str, Any] = {
        "unit_cost_usd": usd_text(use.unit_cost),
        "costed_units": use.costed_units,
        "costed_days": use.costed_days,
        "costed_percent": percent_text(share_of(use.costed_units, use.units) * 100),
    }
    for name, nanos in (("cost_low_usd", use.cost_low_nanos), ("cost_high_usd", use.cost_high_nanos)):
        if nanos is not None:
            facts[name] = usd_text(nanos)
    if use.drift:
        facts["drift"] = "up" if use.drift.after > use.drift.before else "down"
        facts["drift_from_usd"] = usd_text(use.drift.before)
    return facts


def _part_facts(part: Part, value: CreditValue) -> dict[str, Any]:
    cost, earned = part.basis.unit_cost, part.current * value.nanos
    assert cost is not None
    facts = {
        "of": part.of,
        "units": part.units,
        "credits": part.current,
        "needed_credits": part.needed,
        "recommended_credits": part.recommended,
        "unit_earns_usd": usd_text(earned),
    } | _cost_facts(part.basis)
    if part.model:
        facts["model"] = part.model
    if part.current:
        facts["margin_percent"] = percent_text(margin_percent(cost, part.current, value.nanos))
    if cost > earned:
        facts["unit_loss_usd"] = usd_text(cost - earned)
    return facts


def _ratio_facts(parts: Iterable[Part]) -> dict[str, Any]:
    costs = [part.basis.unit_cost for part in parts if part.is_new and part.basis.unit_cost is not None]
    if not costs:
        return {}
    return {"model_cost_ratio": percent_text(max(costs) / min(costs))} if min(costs) else {"has_free_model": True}


def _growth_facts(parts: Sequence[Part], value: CreditValue) -> dict[str, Any]:
    """How far volume would have to grow where prices bring in less: for the revenue, and for what is left of it.

    Nothing is said of the latter where nothing is left before or after, since no growth makes up for that.
    """
    before, after = (
        sum(part.units * credits for part, credits in pairs)
        for pairs in ([(part, part.current) for part in parts], [(part, part.recommended) for part in parts])
    )
    if after >= before:
        return {}
    facts = {"volume_growth_percent": _growth_percent(Fraction(before), Fraction(after))}
    cost = sum((part.units * part.basis.unit_cost for part in parts if part.basis.unit_cost), Fraction(0))
    left = after * value.nanos - cost
    if left > 0:
        facts["volume_growth_after_costs_percent"] = _growth_percent(before * value.nanos - cost, left)
    return facts


def _growth_percent(before: Fraction, after: Fraction) -> int:
    """Rounded up, since less would not make up for it."""
    return math.ceil((before - after) * 100 / after)


def _confidence(bases: Sequence[Use], facts: Mapping[str, Any]) -> tuple[Confidence, list[str]]:
    """How far facts carry an advice, and what the next better one lacks: that of the weakest part that it changes."""
    paid = facts["credit_value_from"] == "payments"
    promotional = ["promotional"] if is_promotional(facts) else []
    medium = [limit for use in bases for limit in _medium_limits(use)]
    if medium:
        return "low", sorted(set(medium))
    high = [limit for use in bases for limit in _high_limits(use)] + promotional + ([] if paid else ["credit_value"])
    return ("medium" if high else "high"), sorted(set(high))


def _medium_limits(use: Use) -> list[str]:
    limits = {
        "units": use.costed_units < MEDIUM_UNITS_MIN,
        "days": use.costed_days < MEDIUM_DAYS_MIN,
        "costed": use.costed_units * 100 < MEDIUM_COSTED_PERCENT_MIN * use.units,
    }
    return [name for name, is_met in limits.items() if is_met]


def _high_limits(use: Use) -> list[str]:
    low, high = use.cost_low_nanos, use.cost_high_nanos
    limits = {
        "units": use.costed_units < HIGH_UNITS_MIN,
        "days": use.costed_days < HIGH_DAYS_MIN,
        "costed": use.costed_units * 100 < HIGH_COSTED_PERCENT_MIN * use.units,
        "drift": use.drift is not None,
        "cost_range": low is None or high is None or high > HIGH_COST_RATIO_MAX * low,
    }
    return [name for name, is_met in limits.items() if is_met]
