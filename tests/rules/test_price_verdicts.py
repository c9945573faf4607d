"""Which prices are right, what a drift of costs is, and which models need prices of their own."""

from fractions import Fraction

import pytest
from rules.priced import CENT, MARKET, TWO_MODELS, days, usage

from app.rules.advice_facts import percent_text, usd_text
from app.rules.advisor import Recommendation, advise
from app.rules.price_verdicts import needed_credits, verdict_on


@pytest.mark.parametrize(
    ("current", "cost", "target", "needed", "verdict"),
    [
        # Under 10 % off: 9 of 100 are (margin 45.5), 10 are not (45.25, as near to the target).
        (100, "54.5", 50, 109, None),
        (100, "54.75", 50, 110, "raise"),
        # Within 5 points: 100 − 85 = 15 of 20 are, and a hundredth less is not; both need 7 of 100 more.
        (100, "85", 20, 107, None),
        (100, "85.01", 20, 107, "raise"),
        # A single credit is near on a small price, where the margin is: 5 − 2.75 of 5 are 45 %, 5 − 2.76 are less.
        (5, "2.75", 50, 6, None),
        (5, "2.76", 50, 6, "raise"),
        (5, "4.9", 2, 5, None),
        # No price is nearer than the needed one: a margin of 99 % at 1 credit.
        (1, "0.01", 50, 1, None),
        # A loss is told, though 102 credits are 2 % off and −1 % is within 5 points of 0.
        (100, "101", 0, 101, "raise"),
        (100, "100", 0, 100, None),
        (0, "0.01", 50, 1, "raise"),
        # At most 75 %: 75 of 100 are, 76 are not, whatever the margin.
        (100, "37.5", 50, 75, "lower"),
        (100, "37.51", 50, 76, None),
        # 3 of 4 are 75 %, but the margin of 95 % at 4 credits is within 5 points of 93.
        (4, "0.2", 93, 3, None),
        (4, "0.2", 94, 4, None),
        (4, "0.2", 89, 2, "lower"),
        (4, "1.5", 50, 3, "lower"),
    ],
)
def test_the_edges_of_a_right_price(current: int, cost: str, target: int, needed: int, verdict: str | None) -> None:
    unit_cost, value = Fraction(cost) * CENT, Fraction(CENT)
    assert needed_credits(unit_cost, target, value) == needed
    assert verdict_on(unit_cost, current, needed, target, value) == verdict


@pytest.mark.parametrize(("cost", "drifts"), [(46, True), (45, False), (34, True), (35, False)])
def test_a_drift_is_15_percent_or_more(cost: int, drifts: bool) -> None:
    """On 4 ¢: 4.6 and 3.4 are 15 % off."""
    usual = days(100, 4 * CENT, on=range(21))
    [item] = advise([usage(1, [*usual, *days(100, cost * CENT // 10, on=range(21, 28))])], MARKET)
    assert isinstance(item, Recommendation)
    assert ("drift" in item.facts["parts"][0]) is drifts


@pytest.mark.parametrize(("recent", "before", "drifts"), [(20, 20, True), (19, 20, False), (20, 19, False)])
def test_a_drift_takes_20_costed_units_on_either_side(recent: int, before: int, drifts: bool) -> None:
    usual = days(before, 4 * CENT, on=[0])
    [item] = advise([usage(1, [*usual, *days(recent, 8 * CENT, on=[27])])], MARKET)
    assert isinstance(item, Recommendation)
    assert ("drift" in item.facts["parts"][0]) is drifts


@pytest.mark.parametrize(
    ("dear", "share", "kind"),
    [(20, 10, "per_model"), (19, 10, "raise"), (20, 9, "raise")],
)
def test_models_are_told_apart_by_twice_the_cost_and_a_tenth_of_the_units(dear: int, share: int, kind: str) -> None:
    by_model = [
        *days(share, dear * CENT, model="gpt-5"),
        *days(100 - share, 10 * CENT, model="gpt-5-mini"),
    ]
    [item] = advise([usage(1, by_model)], MARKET)
    assert isinstance(item, Recommendation)
    assert item.kind == kind


def test_a_model_needs_20_costed_units_to_be_told_apart() -> None:
    for costed, kind in ((20, "per_model"), (19, "raise")):
        by_model = [*days(25, 80 * CENT, model="gpt-5", on=[0], costed=costed), *days(25, CENT, model="mini", on=[0])]
        [item] = advise([usage(1, by_model)], MARKET)
        assert isinstance(item, Recommendation)
        assert item.kind == kind


def test_models_that_one_price_is_right_for_are_not_told_apart() -> None:
    """A fifth and a half of a cent take 1 credit each: only gpt-5 needs another price."""
    by_model = [
        *days(50, 8 * CENT, model="gpt-5"),
        *days(50, CENT // 2, model="mini"),
        *days(50, CENT // 5, model="nano"),
    ]
    [item] = advise([usage(1, by_model, per_model={"gpt-5": 8})], MARKET)
    assert isinstance(item, Recommendation)
    assert (item.kind, item.recommended_credits, item.per_model) == ("raise", 1, {"gpt-5": 16})


def test_models_of_which_no_cost_is_known_pay_what_the_mix_needs_once_others_are_told_apart() -> None:
    """Mix of what is known: 3.8 ¢ as in the table, so 8. Lift: 72.80 USD, and 28 units × 3 ¢."""
    [item] = advise([usage(5, [*TWO_MODELS, *days(1, None, model="new", credits=5)])], MARKET)
    assert isinstance(item, Recommendation)
    assert (item.recommended_credits, item.per_model) == (8, {"gpt-5": 16, "gpt-5-mini": 2})
    assert item.estimated_lift_nanos == 73_640_000_000


def test_a_price_for_others_changes_and_those_of_models_stay() -> None:
    by_model = [*days(50, 8 * CENT, model="gpt-5", credits=16), *days(50, 4 * CENT, credits=3)]
    [item] = advise([usage(3, by_model, per_model={"gpt-5": 16})], MARKET)
    assert isinstance(item, Recommendation)
    assert (item.kind, item.recommended_credits, item.per_model) == ("raise", 8, {"gpt-5": 16})
    assert item.reason == (
        "With other models a unit costs 0.04 USD and earns 0.03 USD at 3 credits, so each one loses 0.01 USD; "
        "8 credits reach the target of 50 %."
    )


@pytest.mark.parametrize(("costed", "price"), [(20, 2), (19, 9)])
def test_few_units_of_a_rare_model_move_no_price_of_its_own(costed: int, price: int) -> None:
    by_model = [*days(100, 8 * CENT, model="gpt-5"), *days(costed, CENT, model="rare", on=[5])]
    [item] = advise([usage(8, by_model, per_model={"gpt-5": 8, "rare": 9})], MARKET)
    assert isinstance(item, Recommendation)
    assert (item.per_model, item.recommended_credits) == ({"gpt-5": 16, "rare": price}, 8)


@pytest.mark.parametrize(
    ("nanos", "text"),
    [
        (150_000_000, "0.15"),
        (0, "0"),
        (2 * 10**9, "2"),
        (1_234_567_890_123, "1234.57"),
        (Fraction(10**9, 3), "0.3333"),
        (Fraction(1, 3), "0.0000000003333"),
        (99_999, "0.0001"),
    ],
)
def test_money_is_shown_with_cents_and_four_digits(nanos: Fraction | int, text: str) -> None:
    assert usd_text(nanos) == text


@pytest.mark.parametrize(("percent", "text"), [(Fraction(50), "50"), (Fraction(-100, 3), "-33.3"), (0, "0")])
def test_percentages_are_shown_with_one_decimal(percent: Fraction | int, text: str) -> None:
    assert percent_text(percent) == text
