"""Why a price should change, in sentences for an operator.

They are written from the facts of a recommendation alone, so no number stands in them that the facts do not have.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

COSTED_PERCENT_TOLD: Final = 95
"""A reason says how many units have a known cost where fewer do."""
PROMOTIONAL_PERCENT: Final = 50
TREND_PERCENT: Final = 50

Facts = Mapping[str, Any]


def reason_of(facts: Facts) -> str:
    """What leads to the advice, part by part; then what it would take, and what it rests on."""
    sentences = [*_opening(facts), *_prices(facts), *_growth(facts), *_costed(facts), *_worth(facts), *_trend(facts)]
    return " ".join(f"{sentence}." for sentence in sentences)


def names_text(names: Sequence[str]) -> str:
    """A list as it is read out."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _opening(facts: Facts) -> list[str]:
    if "model_cost_ratio" in facts:
        return [f"The dearest of its models costs {facts['model_cost_ratio']} times as much as the cheapest"]
    return ["One of its models costs nothing"] if facts.get("has_free_model") else []


def _prices(facts: Facts) -> list[str]:
    if "merge" in facts:
        return _merge(facts)
    return [_price(part, facts) for part in facts["parts"] if part["credits"] != part["recommended_credits"]]


def _merge(facts: Facts) -> list[str]:
    names = names_text(facts["merge"])
    share = facts["merge_share_percent"]
    sentences = [f"{names} need nearly the same price, and each has less than {share} % of all units"]
    if facts["losing"]:
        sentences.append(f"Each unit of {names_text(facts['losing'])} loses money at its price")
    [together] = facts["parts"]
    cost, reach = _cost(together, facts), _reach(facts, together)
    return [*sentences, f"Together, a unit costs {cost} and in one event {reach}"]


def _price(part: Facts, facts: Facts) -> str:
    if part["of"] == "mix":
        return f"Any other model gets {_credits(part['recommended_credits'])}, which the mix of all needs"
    subject = {"all": "A unit", "others": "With other models a unit"}.get(part["of"]) or f"With {part['model']} a unit"
    earns = f"earns {part['unit_earns_usd']} USD at {_credits(part['credits'])}" if part["credits"] else "is free"
    loss = part.get("unit_loss_usd")
    outcome = f"so each one loses {loss} USD" if loss else f"a margin of {part['margin_percent']} %"
    return f"{subject} costs {_cost(part, facts)} and {earns}, {outcome}; {_reach(facts, part)}"


def _cost(part: Facts, facts: Facts) -> str:
    """With what it was before it drifted, as an insertion that ends in a comma."""
    cost = f"{part['unit_cost_usd']} USD"
    if "drift" not in part:
        return cost
    days = facts["recent_days"]
    last = "the last day" if days == 1 else f"the last {days} days"
    return f"{cost}, {part['drift']} from {part['drift_from_usd']} USD before {last},"


def _reach(facts: Facts, part: Facts) -> str:
    credits = part["recommended_credits"]
    verb = "reaches" if credits == 1 else "reach"
    return f"{_credits(credits)} {verb} the target of {facts['target_margin_percent']} %"


def _credits(credits: int) -> str:
    return f"{credits} {'credit' if credits == 1 else 'credits'}"


def _growth(facts: Facts) -> list[str]:
    if "volume_growth_percent" not in facts:
        return []
    grow = f"Volume would have to grow by {facts['volume_growth_percent']} % to bring in as much"
    if "volume_growth_after_costs_percent" in facts:
        grow += f", and by {facts['volume_growth_after_costs_percent']} % to leave as much after costs"
    return [grow]


def _costed(facts: Facts) -> list[str]:
    costed, units = facts["costed_units"], facts["units"]
    if costed * 100 >= COSTED_PERCENT_TOLD * units:
        return []
    return [f"The cost is known of {costed} of {units} units"]


def _worth(facts: Facts) -> list[str]:
    if facts["credit_value_from"] == "packs":
        return [
            f"No payment says what a credit is worth, so it counts as {facts['credit_value_usd']} USD, as packs ask"
        ]
    if not is_promotional(facts):
        return []
    return [f"{facts['promotional_percent']} % of the credits charged earned nothing; this looks at paid ones alone"]


def is_promotional(facts: Facts) -> bool:
    """Whether half of the credits or more earned nothing."""
    credits, paid = facts["credits"], facts["paid_credits"]
    return "promotional_percent" in facts and bool((credits - paid) * 100 >= PROMOTIONAL_PERCENT * credits)


def _trend(facts: Facts) -> list[str]:
    first, second = facts["first_half_units"], facts["second_half_units"]
    if not first:
        return ["All units are of the second half of the period"] if second else []
    if abs(Fraction((second - first) * 100, first)) < TREND_PERCENT:
        return []
    verb = "rose" if second > first else "fell"
    return [f"Units {verb} by {facts['trend_percent']} % from the first half of the period to the second"]
