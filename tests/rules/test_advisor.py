"""What prices should be, and why: in situations worked out by hand, and what holds for any."""

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rules.priced import CENT, FIRST, MARKET, SITUATIONS, WELL_PRICED, days, usage

from app.config import CREDITS_MAX
from app.errors import InvalidRequest
from app.rules.advice_facts import DayOfModel, EventUsage, Market
from app.rules.advisor import Recommendation, Withheld, advise


@pytest.mark.parametrize("name", SITUATIONS)
def test_advice_in_a_situation(name: str) -> None:
    situation = SITUATIONS[name]
    given = {one.event: one for one in situation.usages}
    advice = advise(situation.usages, situation.market)
    assert len(advice) == len(situation.expected)
    for item, expected in zip(advice, situation.expected, strict=True):
        if isinstance(expected, Withheld):
            assert item == expected
            continue
        assert isinstance(item, Recommendation)
        assert item.reason == expected.reason
        assert (item.event, item.kind, item.recommended_credits) == (expected.event, expected.kind, expected.credits)
        assert item.per_model == expected.per_model
        assert (item.confidence, item.facts["confidence_limited_by"]) == (expected.confidence, expected.limits)
        assert item.estimated_lift_nanos == expected.lift
        assert (item.current_credits, item.version_from) == (given[item.event].credits, 7)
        check_numbers(item)


def test_the_facts_have_what_the_advice_rests_on() -> None:
    [item] = advise([usage(3, days(100, 4 * CENT, credits=3, paid=90, costed=60))], MARKET)
    assert isinstance(item, Recommendation)
    assert item.facts == {
        "event": "chat.reply",
        "label": "Chat.Reply",
        "first_day": 20_000,
        "days": 28,
        "recent_days": 7,
        "target_margin_percent": 50,
        "credit_value_usd": "0.01",
        "credit_value_from": "payments",
        "units": 2_800,
        "costed_units": 1_680,
        "cost_usd": "67.2",
        "credits": 8_400,
        "paid_credits": 2_520,
        "revenue_usd": "25.2",
        "promotional_percent": "70",
        "lift_paid_percent": "30",
        "first_half_units": 1_400,
        "second_half_units": 1_400,
        "trend_percent": "0",
        "parts": [
            {
                "of": "all",
                "units": 2_800,
                "credits": 3,
                "needed_credits": 8,
                "recommended_credits": 8,
                "unit_cost_usd": "0.04",
                "unit_earns_usd": "0.03",
                "unit_loss_usd": "0.01",
                "margin_percent": "-33.3",
                "costed_units": 1_680,
                "costed_days": 28,
                "costed_percent": "60",
                "cost_low_usd": "0.04",
                "cost_high_usd": "0.04",
            }
        ],
        "confidence_limited_by": ["costed", "promotional"],
    }


def test_what_events_are_merged_is_told() -> None:
    [item] = advise(SITUATIONS["too finely split"].usages, MARKET)
    assert isinstance(item, Recommendation)
    assert item.facts["merge"] == ["ask.a", "ask.b", "ask.c"]
    assert [one["needed_credits"] for one in item.facts["members"]] == [20, 21, 22]


@pytest.mark.parametrize(
    ("names", "costs", "units", "merged"),
    [
        (("ask.a", "ask.b", "ask.c"), (100, 105, 110), 99, True),
        # 1,700 + 3 × 100 = 2,000, of which 100 are 5 %.
        (("ask.a", "ask.b", "ask.c"), (100, 105, 110), 100, False),
        (("ask.a", "ask.b", "ask.c"), (100, 105, 115), 99, False),  # 20 and 23 credits
        (("ask.a", "ask.b", "say.c"), (100, 105, 110), 99, False),
        (("a", "b", "c"), (100, 105, 110), 99, False),
        (("ask.a", "ask.b"), (100, 105), 99, False),
    ],
)
def test_what_is_merged_is_small_alike_and_of_one_family(
    names: Sequence[str], costs: Sequence[int], units: int, merged: bool
) -> None:
    events = [usage(1, days(units, cost * CENT // 10), name) for name, cost in zip(names, costs, strict=True)]
    items = advise([usage(8, days(1_700, 4 * CENT, credits=8)), *events], MARKET)
    kinds = [item.kind for item in items if isinstance(item, Recommendation)]
    assert kinds == (["merge"] if merged else ["raise"] * len(names))


def test_the_most_used_event_stays_of_those_that_are_merged() -> None:
    """At 11 ¢ in the last quarter, after 8 ¢, each needs 22 of 30 credits: 26.7 % less, or 36.4 % more volume."""
    drifting = [days(units, 8 * CENT, on=range(21)) + days(units, 11 * CENT, on=range(21, 28)) for units in (4, 4, 5)]
    events = [usage(30, several, f"ask.{name}") for name, several in zip("abc", drifting, strict=True)]
    [item] = advise([WELL_PRICED, *events], MARKET)
    assert isinstance(item, Recommendation)
    assert (item.event, item.kind, item.recommended_credits) == ("ask.c", "merge", 22)
    # After costs: (30 − 11) ÷ (22 − 11) − 1 = 72.7 %. Lift: 13 × 28 = 364 × −8 ¢ = −2,912 ¢.
    assert item.estimated_lift_nanos == -29_120_000_000
    assert item.reason == (
        "ask.a, ask.b and ask.c need nearly the same price, and each has less than 5 % of all units. "
        "Together, a unit costs 0.11 USD, up from 0.08 USD before the last 7 days, "
        "and in one event 22 credits reach the target of 50 %. "
        "Volume would have to grow by 37 % to bring in as much, and by 73 % to leave as much after costs."
    )
    check_numbers(item)


def test_events_whose_cost_ends_where_they_are_seen_together_are_not_merged() -> None:
    """7 units each since it ended are no drift, 21 of all are one: a price for nothing is not known."""
    cheap = [*days(1, 10 * CENT, on=range(21)), *days(1, 0, on=range(21, 28))]
    items = advise([usage(8, days(1_000, 4 * CENT, credits=8)), *(usage(1, cheap, f"ask.{x}") for x in "abc")], MARKET)
    assert [(item.event, getattr(item, "kind", None)) for item in items] == [(f"ask.{x}", "raise") for x in "abc"]


def test_events_with_prices_for_models_are_not_merged() -> None:
    *others, last = SITUATIONS["too finely split"].usages
    kinds = {item.event: item for item in advise([*others, replace(last, per_model={"gpt-5": 9})], MARKET)}
    assert {event: getattr(item, "kind", None) for event, item in kinds.items()} == {
        "ask.b": "raise",  # 21 of 10
        "ask.c": "lower",  # 22 of 30
    }


@pytest.mark.parametrize(
    ("units", "on", "costed", "confidence"),
    [
        (200, 7, 190, "high"),
        (200, 7, 189, "medium"),
        (142, 7, 142, "medium"),
        (200, 6, 200, "medium"),
        (40, 3, 34, "medium"),
        (33, 3, 33, "low"),
        (100, 2, 100, "low"),
        (200, 7, 100, "medium"),
        (200, 7, 99, "low"),
    ],
)
def test_confidence_comes_of_units_days_and_how_many_have_a_cost(
    units: int, on: int, costed: int, confidence: str
) -> None:
    [item] = advise([usage(1, days(units, 4 * CENT, on=range(on), costed=costed))], MARKET)
    assert isinstance(item, Recommendation)
    assert item.confidence == confidence


@pytest.mark.parametrize(
    ("low", "high", "confidence"), [(CENT, 10 * CENT, "high"), (CENT, 10 * CENT + 1, "medium"), (None, None, "medium")]
)
def test_confidence_is_high_where_costs_are_within_ten_times_the_lowest(
    low: int | None, high: int | None, confidence: str
) -> None:
    several = [replace(one, cost_low_nanos=low, cost_high_nanos=high) for one in days(100, 4 * CENT)]
    [item] = advise([usage(1, several)], MARKET)
    assert isinstance(item, Recommendation)
    assert item.confidence == confidence


@pytest.mark.parametrize(
    ("several", "said"),
    [
        (days(100, 4 * CENT, costed=95), ""),
        (days(100, 4 * CENT, costed=94), "The cost is known of 2632 of 2800 units."),
        (days(100, 4 * CENT, paid=50), "50 % of the credits charged earned nothing; this looks at paid ones alone."),
        (days(100, 4 * CENT, paid=51), ""),
        (
            [*days(100, 4 * CENT, on=range(14)), *days(150, 4 * CENT, on=range(14, 28))],
            "Units rose by 50 % from the first half of the period to the second.",
        ),
        ([*days(100, 4 * CENT, on=range(14)), *days(149, 4 * CENT, on=range(14, 28))], ""),
    ],
)
def test_what_a_reason_tells_of_its_facts(several: Sequence[DayOfModel], said: str) -> None:
    [item] = advise([usage(1, several)], MARKET)
    assert isinstance(item, Recommendation)
    assert item.reason.partition("the target of 50 %.")[2].strip() == said


@pytest.mark.parametrize("target", [-1, 100])
def test_a_target_out_of_range_is_refused(target: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        advise([], replace(MARKET, target_margin_percent=target))
    assert refused.value.facts["field"] == "target_margin_percent"


NUMBER = re.compile(r"\d+(?:\.\d+)?")


def texts(facts: Any) -> Iterator[str]:
    """Every text and number of the facts, as it is written; a float or any other kind fails."""
    if isinstance(facts, dict):
        for key, one in facts.items():
            assert isinstance(key, str)
            yield from texts(one)
    elif isinstance(facts, list):
        for one in facts:
            yield from texts(one)
    else:
        assert isinstance(facts, int | str)
        yield str(facts)


def check_numbers(item: Recommendation) -> None:
    """Each number of the reason is a fact, or is in the name of an event or a model that is one."""
    known = set(texts(item.facts))
    names = {number for text in known if not NUMBER.fullmatch(text) for number in NUMBER.findall(text)}
    missing = [number for number in NUMBER.findall(item.reason) if number not in known | names]
    assert missing == []


EVENTS = ("ask.a", "ask.b", "ask.c", "ask.d2", "chat.reply", "ping", "*")
MODELS = ("", "gpt-5", "gpt-5-mini", "o3")


@st.composite
def any_day(draw: st.DrawFn, scale: int) -> DayOfModel:
    quantity = draw(st.integers(0, 60)) * scale
    costed = draw(st.sampled_from((quantity, quantity // 2, 0)))
    credits = draw(st.integers(0, 12)) * quantity
    paid = draw(st.sampled_from((credits, credits // 3, 0)))
    unit_cost = draw(st.sampled_from((0, 1, CENT // 100, CENT, 3 * CENT, 40 * CENT, 10**13)))
    off = draw(st.integers(0, 3))
    return DayOfModel(
        day=FIRST + draw(st.integers(-1, 8)),
        model=draw(st.sampled_from(MODELS)),
        count=draw(st.integers(0, quantity)),
        quantity=quantity,
        credits=credits,
        costed=costed,
        cost_nanos=costed * unit_cost + off * bool(costed),
        cost_low_nanos=unit_cost if costed else None,
        cost_high_nanos=unit_cost + off if costed else None,
        paid_credits=paid,
        revenue_nanos=paid * draw(st.sampled_from((CENT, CENT // 3, 1, 0))),
    )


@st.composite
def any_usages(draw: st.DrawFn) -> list[EventUsage]:
    """Any events, at times with a family of small ones beside a large one."""
    prices = st.sampled_from((0, 1, 2, 3, 4, 8, 20, 75, 100, 1_000, CREDITS_MAX))
    family = []
    if draw(st.booleans()):
        small = st.builds(days, st.integers(1, 9), st.sampled_from((CENT, 4 * CENT, 40 * CENT)), on=st.just(range(8)))
        family = [usage(draw(prices), draw(small), f"say.{name}") for name in "abcd"]
        family.append(usage(draw(prices), days(10_000, CENT, on=range(8)), "render"))
    return family + [
        EventUsage(
            event=event,
            label=event,
            credits=draw(prices),
            per_model=draw(st.dictionaries(st.sampled_from(MODELS[1:]), prices, max_size=2)),
            version=draw(st.integers(1, 9)),
            days=draw(st.lists(any_day(draw(st.sampled_from((1, 50)))), max_size=8)),
        )
        for event in draw(st.lists(st.sampled_from(EVENTS), unique=True))
    ]


MARKETS = st.builds(
    Market,
    target_margin_percent=st.integers(0, 99),
    days=st.integers(1, 8),
    first_day=st.just(FIRST),
    pack_credit_nanos=st.sampled_from((None, 0, 1, CENT)),
)


@given(any_usages(), MARKETS, st.randoms(use_true_random=False))
def test_the_same_facts_give_the_same_advice_in_any_order(
    usages: list[EventUsage], market: Market, chance: Any
) -> None:
    advice = advise(usages, market)
    mixed = [
        replace(
            one,
            days=chance.sample(one.days, len(one.days)),
            per_model=dict(chance.sample(sorted(one.per_model.items()), len(one.per_model))),
        )
        for one in chance.sample(usages, len(usages))
    ]
    assert msgspec.json.encode(advise(mixed, market)) == msgspec.json.encode(advice)
    names = [item.event for item in advice]
    assert names == sorted(set(names))
    assert set(names) <= {one.event for one in usages}


@given(any_usages(), MARKETS)
def test_advice_differs_from_what_is_in_force_and_shows_its_numbers(usages: list[EventUsage], market: Market) -> None:
    given = {one.event: one for one in usages}
    for item in advise(usages, market):
        if isinstance(item, Withheld):
            continue
        price = given[item.event]
        assert (item.current_credits, item.version_from) == (price.credits, price.version)
        assert item.kind == "merge" or (item.recommended_credits, item.per_model) != (price.credits, price.per_model)
        assert set(price.per_model) <= set(item.per_model)
        assert all(0 <= credits <= CREDITS_MAX for credits in (item.recommended_credits, *item.per_model.values()))
        assert type(item.estimated_lift_nanos) is int
        assert item.kind not in ("raise", "lower") or item.estimated_lift_nanos * (-1, 1)[item.kind == "raise"] >= 0
        check_numbers(item)


@given(any_usages(), MARKETS)
def test_a_price_reaches_the_target_and_one_credit_less_does_not(usages: list[EventUsage], market: Market) -> None:
    usages = [replace(one, per_model={}) for one in usages]
    counted = {one.event: [day for day in one.days if FIRST <= day.day < FIRST + market.days] for one in usages}
    paid = [day for of_event in counted.values() for day in of_event if day.paid_credits]
    revenue = sum(day.revenue_nanos for day in paid)
    for item in advise(usages, market):
        if isinstance(item, Withheld) or item.kind in ("per_model", "merge") or "drift" in item.facts["parts"][0]:
            continue
        value = (
            Fraction(revenue, sum(day.paid_credits for day in paid))
            if revenue
            else Fraction(market.pack_credit_nanos or 0)
        )
        costed = sum(day.costed for day in counted[item.event])
        cost = Fraction(sum(day.cost_nanos for day in counted[item.event]), costed)
        credits, target = item.recommended_credits, market.target_margin_percent
        assert (credits * value - cost) * 100 >= target * credits * value
        if credits > 1:
            assert ((credits - 1) * value - cost) * 100 < target * (credits - 1) * value
