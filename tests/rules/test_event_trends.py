"""How an event goes, worked out by hand."""

import pytest

from app.rules.event_trends import NOTHING, EventSpan, Margin, event_trend, is_large_loss, margin_of
from app.rules.usage import Used

NANOS = 10**9


def span(
    count: int, credits: int = 0, cost: float | None = None, revenue: float = 0, *, euros: bool = False
) -> EventSpan:
    """So many events of one unit, and dollars."""
    used = Used(count=count, quantity=count, credits=credits)
    if cost is not None:
        used.costed, used.cost_nanos = count, round(cost * NANOS)
    return EventSpan(used, round(revenue * NANOS), {"eur": NANOS} if euros else {})


def test_credits_are_compared_with_as_much_time_before() -> None:
    assert event_trend(span(3, 30), span(2, 24), [NOTHING, NOTHING]).change_percent == 25.0
    assert event_trend(span(3, 18), span(2, 24), [NOTHING, NOTHING]).change_percent == -25.0
    assert event_trend(span(3, 18), NOTHING, [NOTHING, NOTHING]).change_percent is None  # from nothing, no percentage


@pytest.mark.parametrize(
    ("before", "last", "is_spike"),
    [
        (10, 20, True),
        (10, 19, False),
        (100, 199, False),
        (100, 200, True),
        (0, 20, False),
        (1, 20, True),
        (2, 4, False),
        (40, 20, False),
    ],
)
def test_twice_as_many_in_a_week_is_a_spike(before: int, last: int, *, is_spike: bool) -> None:
    assert event_trend(NOTHING, NOTHING, [span(500), span(before), span(last)]).is_spike is is_spike


def test_the_band_of_margins_is_that_of_the_weeks_that_have_one() -> None:
    weeks = [
        span(9, cost=2, revenue=10),  # 80 %
        span(9, cost=12, revenue=10),  # -20 %
        span(9, revenue=10),  # no cost is known
        span(9, cost=1),  # nothing was earned
        span(9, cost=1, revenue=10, euros=True),  # and in euros, of which the worth is not known
        span(9, cost=5, revenue=10),  # 50 %
    ]
    trend = event_trend(NOTHING, NOTHING, weeks)
    assert (trend.margin_low, trend.margin_high) == (-20.0, 80.0)


def test_what_was_spent_for_events_given_back_lowers_the_margin() -> None:
    reversed_all = EventSpan(Used(cost_nanos=4 * NANOS), 10 * NANOS, {})
    assert reversed_all.margin == 60.0
    assert reversed_all.unit_cost_nanos is None


@pytest.mark.parametrize(
    ("now", "percent", "is_drifting"), [(115, 15.0, True), (114, 14.0, False), (85, -15.0, True), (100, 0.0, False)]
)
def test_the_cost_of_a_unit_drifts_from_fifteen_percent_on(now: float, percent: float, *, is_drifting: bool) -> None:
    weeks = [*[span(100, cost=100)] * 6, *[span(100, cost=now)] * 2]  # a quarter of eight weeks is two
    trend = event_trend(NOTHING, NOTHING, weeks)
    assert (trend.unit_cost_before, trend.unit_cost_now) == (NANOS, round(now * NANOS / 100))
    assert (trend.cost_change_percent, trend.is_drifting) == (percent, is_drifting)


def test_too_few_units_show_no_drift() -> None:
    trend = event_trend(NOTHING, NOTHING, [span(100, cost=100), span(19, cost=100)])
    assert (trend.unit_cost_before, trend.unit_cost_now, trend.cost_change_percent) == (None, None, None)
    assert not trend.is_drifting


def test_a_cost_out_of_nothing_has_no_percentage() -> None:
    trend = event_trend(NOTHING, NOTHING, [span(100, cost=0), span(100, cost=100)])
    assert (trend.unit_cost_before, trend.cost_change_percent, trend.is_drifting) == (0, None, False)


def test_a_margin_is_of_what_has_a_known_cost() -> None:
    costed, unknown = span(4, cost=2, revenue=10), span(9, revenue=30)
    assert margin_of([costed, unknown], NOTHING) == Margin(percent=80.0, covers_percent=25.0)
    assert margin_of([unknown], NOTHING) == Margin(None, None)
    assert margin_of([], NOTHING) == Margin(None, None)
    assert margin_of([span(4, cost=2)], NOTHING) == Margin(None, None)  # it earned nothing, and no share of nothing
    assert margin_of([costed, span(1, cost=1, revenue=1, euros=True)], NOTHING) == Margin(None, None)
    assert margin_of([costed, span(1, revenue=30, euros=True)], NOTHING) == Margin(percent=80.0, covers_percent=25.0)
    assert margin_of([costed], span(1, revenue=30)) == Margin(percent=80.0, covers_percent=25.0)


@pytest.mark.parametrize(
    ("one", "loss", "is_large"),
    [
        (span(4, cost=3, revenue=2), 1, True),
        (span(4, cost=3), 3, True),  # it earned nothing
        (span(4, cost=2, revenue=2), 0, False),
        (span(4, revenue=2), 0, False),  # no cost is known
        (span(4, cost=3, revenue=2, euros=True), 0, False),  # and who knows how many euros
    ],
)
def test_a_loss_is_what_it_cost_more_than_it_earned(one: EventSpan, loss: int, *, is_large: bool) -> None:
    assert one.loss_nanos == loss * NANOS
    assert is_large_loss(one.loss_nanos, 100 * NANOS) is is_large
    assert not is_large_loss(NANOS, 101 * NANOS)
    assert not is_large_loss(0, 0)
