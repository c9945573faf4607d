"""Prices and their use in situations that are worked out by hand: what is to be advised in each, and why."""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from app.rules.advice_facts import DayOfModel, EventUsage, Market
from app.rules.advisor import COSTS_NOTHING, NO_COST, NO_CREDIT_VALUE, NO_UNITS, OUT_OF_RANGE, THIN_COSTS, Withheld

CENT = 10_000_000
"""In billionths of a dollar. A credit is worth a cent here, so that a cost in cents is a price without a margin."""
FIRST = 20_000
PERIOD = range(28)
MARKET = Market(target_margin_percent=50, days=len(PERIOD), first_day=FIRST, pack_credit_nanos=None)


def days(
    units: int,
    cost: int | None,
    *,
    on: Sequence[int] = PERIOD,
    model: str = "",
    credits: int = 1,
    costed: int | None = None,
    paid: int | None = None,
    worth: int = CENT,
) -> list[DayOfModel]:
    """So many units on each day: a unit costs `cost`, and is charged `credits`; `paid` of these were bought."""
    costed = 0 if cost is None else units if costed is None else costed
    paid = units * credits if paid is None else paid
    return [
        DayOfModel(
            day=FIRST + day,
            model=model,
            count=units,
            quantity=units,
            credits=units * credits,
            costed=costed,
            cost_nanos=costed * (cost or 0),
            cost_low_nanos=cost,
            cost_high_nanos=cost,
            paid_credits=paid,
            revenue_nanos=paid * worth,
        )
        for day in on
    ]


def usage(
    credits: int, days: Sequence[DayOfModel], event: str = "chat.reply", per_model: Mapping[str, int] | None = None
) -> EventUsage:
    return EventUsage(
        event=event, label=event.title(), credits=credits, per_model=per_model or {}, version=7, days=days
    )


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    kind: str
    credits: int
    per_model: dict[str, int] = {}
    confidence: str = "high"
    limits: list[str] = []
    lift: int
    reason: str
    event: str = "chat.reply"


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    usages: list[EventUsage]
    market: Market = MARKET
    expected: list[Expected | Withheld] = []


def one(*usages: EventUsage, expected: Expected | Withheld, market: Market = MARKET) -> Situation:
    return Situation(usages=list(usages), expected=[expected], market=market)


def withheld(reason: str, event: str = "chat.reply") -> Withheld:
    return Withheld(event=event, reason=reason)


# 100 units a day for 28 days are 2,800 units. The target of 50 % doubles a cost, and a credit is worth a cent.
WELL_PRICED = usage(8, days(100, 4 * CENT, credits=8))
TWO_MODELS = [*days(40, 8 * CENT, model="gpt-5", credits=5), *days(60, CENT, model="gpt-5-mini", credits=5)]

SITUATIONS = {
    # 4 ¢ ÷ 0.5 ÷ 1 ¢ = 8 credits, as it is.
    "well priced": Situation(usages=[WELL_PRICED]),
    # 8 are needed and 3 asked: 3 ¢ − 4 ¢ = −1 ¢. Lift: 2,800 × (8 − 3) × 1 ¢ = 14,000 ¢ = 140 USD.
    "at a loss": one(
        usage(3, days(100, 4 * CENT, credits=3)),
        expected=Expected(
            kind="raise",
            credits=8,
            lift=140 * 10**9,
            reason="A unit costs 0.04 USD and earns 0.03 USD at 3 credits, so each one loses 0.01 USD; "
            "8 credits reach the target of 50 %.",
        ),
    ),
    # 8 are needed of 20, which is 40 %. Margin: (20 − 4) ÷ 20 = 80 %. Lift: 2,800 × −12 ¢ = −33,600 ¢.
    # Volume: 20 ÷ 8 − 1 = 150 %; after costs (20 − 4) ÷ (8 − 4) − 1 = 300 %.
    "over-priced": one(
        usage(20, days(100, 4 * CENT, credits=20)),
        expected=Expected(
            kind="lower",
            credits=8,
            lift=-336 * 10**9,
            reason="A unit costs 0.04 USD and earns 0.2 USD at 20 credits, a margin of 80 %; "
            "8 credits reach the target of 50 %. "
            "Volume would have to grow by 150 % to bring in as much, and by 300 % to leave as much after costs.",
        ),
    ),
    # 0.4 ¢ ÷ 0.5 ÷ 1 ¢ = 0.8, so 1 credit of 2 (50 %). Margin: 1.6 ÷ 2 = 80 %. Lift: 2,800 × −1 ¢ = −28 USD.
    # Volume: 2 ÷ 1 − 1 = 100 %; after costs (2 − 0.4) ÷ (1 − 0.4) − 1 = 166.7 %, rounded up to 167.
    "over-priced by one credit": one(
        usage(2, days(100, CENT * 4 // 10, credits=2)),
        expected=Expected(
            kind="lower",
            credits=1,
            lift=-28 * 10**9,
            reason="A unit costs 0.004 USD and earns 0.02 USD at 2 credits, a margin of 80 %; "
            "1 credit reaches the target of 50 %. "
            "Volume would have to grow by 100 % to bring in as much, and by 167 % to leave as much after costs.",
        ),
    ),
    # With a target of 0, 4 credits leave nothing over 4 ¢: no growth makes up for what is left now. 8 ÷ 4 − 1 = 100 %.
    "over-priced for who wants no margin": one(
        usage(8, days(100, 4 * CENT, credits=8)),
        market=replace(MARKET, target_margin_percent=0),
        expected=Expected(
            kind="lower",
            credits=4,
            lift=-112 * 10**9,
            reason="A unit costs 0.04 USD and earns 0.08 USD at 8 credits, a margin of 50 %; "
            "4 credits reach the target of 0 %. Volume would have to grow by 100 % to bring in as much.",
        ),
    ),
    # The last 7 of 28 days cost 5 ¢ a unit, before it was 3 ¢: 67 % up, so 5 ÷ 0.5 = 10 credits.
    # Margin: (6 − 5) ÷ 6 = 16.7 %. Lift: 2,800 × 4 ¢ = 112 USD.
    "drifting cost up": one(
        usage(6, [*days(100, 3 * CENT, on=range(21), credits=6), *days(100, 5 * CENT, on=range(21, 28), credits=6)]),
        expected=Expected(
            kind="raise",
            credits=10,
            confidence="medium",
            limits=["drift"],
            lift=112 * 10**9,
            reason="A unit costs 0.05 USD, up from 0.03 USD before the last 7 days, and earns 0.06 USD at 6 credits, "
            "a margin of 16.7 %; 10 credits reach the target of 50 %.",
        ),
    ),
    # From 5 ¢ to 3 ¢ is 40 % down: 3 ÷ 0.5 = 6 credits of 10 (60 %). Margin: 7 ÷ 10. Lift: 2,800 × −4 ¢ = −112 USD.
    # Volume: 10 ÷ 6 − 1 = 66.7 %; after costs 7 ÷ 3 − 1 = 133.3 %; both rounded up.
    "drifting cost down": one(
        usage(10, [*days(100, 5 * CENT, on=range(21), credits=10), *days(100, 3 * CENT, on=range(21, 28), credits=10)]),
        expected=Expected(
            kind="lower",
            credits=6,
            confidence="medium",
            limits=["drift"],
            lift=-112 * 10**9,
            reason="A unit costs 0.03 USD, down from 0.05 USD before the last 7 days, and earns 0.1 USD at 10 credits, "
            "a margin of 70 %; 6 credits reach the target of 50 %. "
            "Volume would have to grow by 67 % to bring in as much, and by 134 % to leave as much after costs.",
        ),
    ),
    # A quarter of 4 days is 1. 400 units × 4 ¢ = 16 USD. 400 units on 4 days are medium in both.
    "drifting cost in a short period": one(
        usage(6, [*days(100, 3 * CENT, on=range(3), credits=6), *days(100, 5 * CENT, on=[3], credits=6)]),
        market=replace(MARKET, days=4),
        expected=Expected(
            kind="raise",
            credits=10,
            confidence="medium",
            limits=["days", "drift", "units"],
            lift=16 * 10**9,
            reason="A unit costs 0.05 USD, up from 0.03 USD before the last day, and earns 0.06 USD at 6 credits, "
            "a margin of 16.7 %; 10 credits reach the target of 50 %.",
        ),
    ),
    # gpt-5: 8 ÷ 0.5 = 16; 5 ¢ − 8 ¢ = −3 ¢. gpt-5-mini: 1 ÷ 0.5 = 2 of 5; margin 4 ÷ 5. The dearest costs 8 times as
    # much. Mix: 0.4 × 8 ¢ + 0.6 × 1 ¢ = 3.8 ¢, so 7.6, rounded up to 8; 5 leave 24 %.
    # Lift: 40 × 28 = 1,120 × 11 ¢ − 60 × 28 = 1,680 × 3 ¢ = 12,320 ¢ − 5,040 ¢ = 72.80 USD.
    "two kinds of models": one(
        usage(5, TWO_MODELS),
        expected=Expected(
            kind="per_model",
            credits=8,
            per_model={"gpt-5": 16, "gpt-5-mini": 2},
            lift=72_800_000_000,
            reason="The dearest of its models costs 8 times as much as the cheapest. "
            "With gpt-5 a unit costs 0.08 USD and earns 0.05 USD at 5 credits, so each one loses 0.03 USD; "
            "16 credits reach the target of 50 %. "
            "With gpt-5-mini a unit costs 0.01 USD and earns 0.05 USD at 5 credits, a margin of 80 %; "
            "2 credits reach the target of 50 %. "
            "Any other model gets 8 credits, which the mix of all needs.",
        ),
    ),
    # gpt-5 and gpt-5-mini as above, and 10 units a day that name no model: 1.5 ÷ 0.5 = 3 of 5 (60 %), margin 3.5 ÷ 5.
    # Lift: 1,120 × 11 ¢ − 1,400 × 3 ¢ − 280 × 2 ¢ = 12,320 − 4,200 − 560 = 7,560 ¢. 280 units are medium.
    "two kinds of models and a rest": one(
        usage(
            5,
            [
                *days(40, 8 * CENT, model="gpt-5", credits=5),
                *days(50, CENT, model="gpt-5-mini", credits=5),
                *days(10, CENT * 3 // 2, credits=5),
            ],
        ),
        expected=Expected(
            kind="per_model",
            credits=3,
            per_model={"gpt-5": 16, "gpt-5-mini": 2},
            confidence="medium",
            limits=["units"],
            lift=75_600_000_000,
            reason="The dearest of its models costs 8 times as much as the cheapest. "
            "With gpt-5 a unit costs 0.08 USD and earns 0.05 USD at 5 credits, so each one loses 0.03 USD; "
            "16 credits reach the target of 50 %. "
            "With gpt-5-mini a unit costs 0.01 USD and earns 0.05 USD at 5 credits, a margin of 80 %; "
            "2 credits reach the target of 50 %. "
            "With other models a unit costs 0.015 USD and earns 0.05 USD at 5 credits, a margin of 70 %; "
            "3 credits reach the target of 50 %.",
        ),
    ),
    # gpt-5 needs 16 of 10, margin 2 ÷ 10; gpt-5-mini 2 of 10, margin 9 ÷ 10. Mix: 0.2 × 8 + 0.8 × 1 = 2.4 ¢: 4.8, so 5.
    # Lift: 560 × 6 ¢ − 2,240 × 8 ¢ = 3,360 − 17,920 = −14,560 ¢. Volume: 2,800 × 10 = 28,000 credits become
    # 560 × 16 + 2,240 × 2 = 13,440: 108.3 %. Costs are 560 × 8 + 2,240 = 6,720 ¢: 21,280 ÷ 6,720 − 1 = 216.7 %.
    "two kinds of models, of which the cheap one pays for the dear": one(
        usage(
            10,
            [
                *days(20, 8 * CENT, model="gpt-5", credits=10),
                *days(80, CENT, model="gpt-5-mini", credits=10),
            ],
        ),
        expected=Expected(
            kind="per_model",
            credits=5,
            per_model={"gpt-5": 16, "gpt-5-mini": 2},
            confidence="medium",
            limits=["units"],
            lift=-145_600_000_000,
            reason="The dearest of its models costs 8 times as much as the cheapest. "
            "With gpt-5 a unit costs 0.08 USD and earns 0.1 USD at 10 credits, a margin of 20 %; "
            "16 credits reach the target of 50 %. "
            "With gpt-5-mini a unit costs 0.01 USD and earns 0.1 USD at 10 credits, a margin of 90 %; "
            "2 credits reach the target of 50 %. "
            "Any other model gets 5 credits, which the mix of all needs. "
            "Volume would have to grow by 109 % to bring in as much, and by 217 % to leave as much after costs.",
        ),
    ),
    # A model of one's own costs nothing and keeps its 5 credits. gpt-5: 16, 3 ¢ lost. Mix: 0.4 × 8 = 3.2 ¢: 6.4, so 7;
    # 5 leave 36 %. From 0 to 8 ¢ is a wide range for the mix. Lift: 1,120 × 11 ¢ = 123.20 USD.
    "a model that costs nothing": one(
        usage(5, [*days(40, 8 * CENT, model="gpt-5", credits=5), *days(60, 0, model="own-7b", credits=5)]),
        expected=Expected(
            kind="per_model",
            credits=7,
            per_model={"gpt-5": 16, "own-7b": 5},
            confidence="medium",
            limits=["cost_range"],
            lift=123_200_000_000,
            reason="One of its models costs nothing. "
            "With gpt-5 a unit costs 0.08 USD and earns 0.05 USD at 5 credits, so each one loses 0.03 USD; "
            "16 credits reach the target of 50 %. "
            "Any other model gets 7 credits, which the mix of all needs.",
        ),
    ),
    # 16 and 2 are what gpt-5 and gpt-5-mini need; nobody paid the 5.
    "right prices for models": Situation(usages=[usage(5, TWO_MODELS, per_model={"gpt-5": 16, "gpt-5-mini": 2})]),
    # gpt-5 needs 16 of 6: 6 ¢ − 8 ¢ = −2 ¢. The others stay. Lift: 1,120 × 10 ¢ = 112 USD.
    "one wrong price for a model": one(
        usage(5, TWO_MODELS, per_model={"gpt-4": 9, "gpt-5": 6, "gpt-5-mini": 2}),
        expected=Expected(
            kind="raise",
            credits=5,
            per_model={"gpt-4": 9, "gpt-5": 16, "gpt-5-mini": 2},
            lift=112 * 10**9,
            reason="With gpt-5 a unit costs 0.08 USD and earns 0.06 USD at 6 credits, so each one loses 0.02 USD; "
            "16 credits reach the target of 50 %.",
        ),
    ),
    # gpt-5 up by 10, gpt-5-mini from 8 down to 2 (25 %), margin 7 ÷ 8. Lift: 1,120 × 10 ¢ − 1,680 × 6 ¢ = 1,120 ¢.
    "prices for models that are wrong both ways": one(
        usage(5, TWO_MODELS, per_model={"gpt-5": 6, "gpt-5-mini": 8}),
        expected=Expected(
            kind="per_model",
            credits=5,
            per_model={"gpt-5": 16, "gpt-5-mini": 2},
            lift=11_200_000_000,
            reason="With gpt-5 a unit costs 0.08 USD and earns 0.06 USD at 6 credits, so each one loses 0.02 USD; "
            "16 credits reach the target of 50 %. "
            "With gpt-5-mini a unit costs 0.01 USD and earns 0.08 USD at 8 credits, a margin of 87.5 %; "
            "2 credits reach the target of 50 %.",
        ),
    ),
    # 2 units on each of 2 days. Lift: 4 × 5 ¢ = 20 ¢.
    "too little data": one(
        usage(3, days(2, 4 * CENT, on=[0, 20], credits=3)),
        expected=Expected(
            kind="raise",
            credits=8,
            confidence="low",
            limits=["days", "units"],
            lift=200_000_000,
            reason="A unit costs 0.04 USD and earns 0.03 USD at 3 credits, so each one loses 0.01 USD; "
            "8 credits reach the target of 50 %.",
        ),
    ),
    "no costs": one(usage(3, days(100, None, credits=3)), expected=withheld(NO_COST)),
    "costs of nothing": one(usage(3, days(100, 0, credits=3)), expected=withheld(COSTS_NOTHING)),
    "no use": Situation(
        usages=[WELL_PRICED, usage(3, days(9, CENT, on=[-1, 28]), "image.draw")],
        expected=[withheld(NO_UNITS, "image.draw")],
    ),
    "no value of a credit": one(usage(3, days(100, 4 * CENT, paid=0)), expected=withheld(NO_CREDIT_VALUE)),
    # 90 of 300 credits a day were bought: 70 % earned nothing, and 30 % of the lift of 140 USD are 42.
    "given away for the most part": one(
        usage(3, days(100, 4 * CENT, credits=3, paid=90)),
        expected=Expected(
            kind="raise",
            credits=8,
            confidence="medium",
            limits=["promotional"],
            lift=42 * 10**9,
            reason="A unit costs 0.04 USD and earns 0.03 USD at 3 credits, so each one loses 0.01 USD; "
            "8 credits reach the target of 50 %. "
            "70 % of the credits charged earned nothing; this looks at paid ones alone.",
        ),
    ),
    # A credit is a cent in the packs, too. Every credit counts as sold.
    "packs only": one(
        usage(3, days(100, 4 * CENT, credits=3, paid=0)),
        market=replace(MARKET, pack_credit_nanos=CENT),
        expected=Expected(
            kind="raise",
            credits=8,
            confidence="medium",
            limits=["credit_value"],
            lift=140 * 10**9,
            reason="A unit costs 0.04 USD and earns 0.03 USD at 3 credits, so each one loses 0.01 USD; "
            "8 credits reach the target of 50 %. "
            "No payment says what a credit is worth, so it counts as 0.01 USD, as packs ask.",
        ),
    ),
    # 60 × 28 = 1,680 of 2,800 units, which are 60 %.
    "partly costed": one(
        usage(3, days(100, 4 * CENT, credits=3, costed=60)),
        expected=Expected(
            kind="raise",
            credits=8,
            confidence="medium",
            limits=["costed"],
            lift=140 * 10**9,
            reason="A unit costs 0.04 USD and earns 0.03 USD at 3 credits, so each one loses 0.01 USD; "
            "8 credits reach the target of 50 %. "
            "The cost is known of 1680 of 2800 units.",
        ),
    ),
    # They need 20, 21 and 22 credits: 22 is 10 % above 20. All units: 2,800 + 112 + 112 + 84 = 3,108, of which 5 % are
    # 155. ask.a and ask.b are used most. Together: (112 × 10 + 112 × 10.5 + 84 × 11) ÷ 308 = 3,220 ÷ 308 = 10.4545 ¢,
    # so 20.9, rounded up to 21. ask.b earns 10 ¢ of its 10.5. Lift: 112 × 1 + 112 × 11 − 84 × 9 = 588 ¢.
    "too finely split": one(
        WELL_PRICED,
        usage(20, days(4, 10 * CENT, credits=20), "ask.a"),
        usage(10, days(4, CENT * 21 // 2, credits=10), "ask.b"),
        usage(30, days(3, 11 * CENT, credits=30), "ask.c"),
        expected=Expected(
            event="ask.a",
            kind="merge",
            credits=21,
            confidence="medium",
            limits=["units"],
            lift=5_880_000_000,
            reason="ask.a, ask.b and ask.c need nearly the same price, and each has less than 5 % of all units. "
            "Each unit of ask.b loses money at its price. "
            "Together, a unit costs 0.1045 USD and in one event 21 credits reach the target of 50 %.",
        ),
    ),
    # 50 × 14 = 700 units become 150 × 14 = 2,100: 200 % more.
    "growing volume": one(
        usage(3, [*days(50, 4 * CENT, on=range(14), credits=3), *days(150, 4 * CENT, on=range(14, 28), credits=3)]),
        expected=Expected(
            kind="raise",
            credits=8,
            lift=140 * 10**9,
            reason="A unit costs 0.04 USD and earns 0.03 USD at 3 credits, so each one loses 0.01 USD; "
            "8 credits reach the target of 50 %. "
            "Units rose by 200 % from the first half of the period to the second.",
        ),
    ),
    # 150 × 14 = 2,100 become 700: 1,400 ÷ 2,100 = 66.7 % less.
    "falling volume": one(
        usage(3, [*days(150, 4 * CENT, on=range(14), credits=3), *days(50, 4 * CENT, on=range(14, 28), credits=3)]),
        expected=Expected(
            kind="raise",
            credits=8,
            lift=140 * 10**9,
            reason="A unit costs 0.04 USD and earns 0.03 USD at 3 credits, so each one loses 0.01 USD; "
            "8 credits reach the target of 50 %. "
            "Units fell by 66.7 % from the first half of the period to the second.",
        ),
    ),
    # 14 × 100 = 1,400 units × 5 ¢ = 70 USD.
    "a new event": one(
        usage(3, days(100, 4 * CENT, on=range(14, 28), credits=3)),
        expected=Expected(
            kind="raise",
            credits=8,
            lift=70 * 10**9,
            reason="A unit costs 0.04 USD and earns 0.03 USD at 3 credits, so each one loses 0.01 USD; "
            "8 credits reach the target of 50 %. "
            "All units are of the second half of the period.",
        ),
    ),
    # 1 ÷ 0.5 = 2 credits. Half of all credits charged elsewhere were bought, so half of 2,800 × 2 ¢ = 56 USD.
    "free and not without cost": one(
        usage(8, days(100, 4 * CENT, credits=8, paid=400)),
        usage(0, days(100, CENT, credits=0), "title.guess"),
        expected=Expected(
            event="title.guess",
            kind="raise",
            credits=2,
            lift=28 * 10**9,
            reason="A unit costs 0.01 USD and is free, so each one loses 0.01 USD; 2 credits reach the target of 50 %.",
        ),
    ),
    # A trillionth of a dollar for a credit: 4 ¢ ÷ 0.5 are 80,000,000 nanos, which is more than 10¹² credits.
    "worthless credits": one(
        usage(3, [replace(day, paid_credits=100_000, revenue_nanos=1) for day in days(200_000, 4 * CENT)]),
        expected=withheld(OUT_OF_RANGE),
    ),
    # 12 models with prices of their own have one costed unit each, which is neither 20 nor 10 % of 12.
    "costs spread too thin": one(
        usage(
            3,
            [day for model in "abcdefghijkl" for day in days(1, CENT, on=[0], model=model)],
            per_model=dict.fromkeys("abcdefghijkl", 3),
        ),
        expected=withheld(THIN_COSTS),
    ),
}
