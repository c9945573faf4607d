"""How an event goes: against the time before, from week to week, and what its unit costs now.

What is a drift of costs is the same here as for advice on prices (`advice_facts`).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from app.rules.advice_facts import DRIFT_PERCENT, DRIFT_UNITS_MIN, RECENT_PART
from app.rules.usage import Used, margin_percent, together

LARGE_LOSS_PERCENT: Final = 1
"""A loss of so much of all revenue needs somebody at once; a smaller one is to be watched."""
SPIKE_FACTOR: Final = 2
SPIKE_COUNT_MIN: Final = 20
"""Events that a week needs to be a spike: from two to four is none."""


class EventSpan(msgspec.Struct, frozen=True):
    """What one event did in some time.

    Args:
        used: its sums; `revenue_nanos` is not read.
        revenue_nanos: what it earned in US dollars, in billionths.
        revenue_in: what it earned in currencies without a rate, in billionths; with any its margin is not known.

    """

    used: Used
    revenue_nanos: int
    revenue_in: Mapping[str, int]

    @property
    def margin(self) -> float | None:
        """What is left of the revenue once the cost is paid, in percent; None where it is not known."""
        if self.revenue_in or not (self.used.costed or self.used.cost_nanos):
            return None
        return margin_percent(self.revenue_nanos, self.used.cost_nanos)

    @property
    def loss_nanos(self) -> int:
        """By how much it cost more than it earned, in billionths of a US dollar; 0 where that is not known."""
        return 0 if self.revenue_in else max(0, self.used.cost_nanos - self.revenue_nanos)

    @property
    def unit_cost_nanos(self) -> int | None:
        """What one of the units cost whose cost is known, in billionths of a US dollar."""
        return self.used.cost_nanos // self.used.costed if self.used.costed > 0 else None


NOTHING: Final = EventSpan(Used(), 0, {})


def is_large_loss(loss_nanos: int, revenue_nanos: int) -> bool:
    """Whether an event's loss is large beside what all events earned."""
    return loss_nanos > 0 and loss_nanos * 100 >= LARGE_LOSS_PERCENT * revenue_nanos


class Margin(msgspec.Struct, frozen=True):
    """What is left of revenue whose cost is known, and which share of all revenue that is; both in percent."""

    percent: float | None
    covers_percent: float | None


def margin_of(spans: Iterable[EventSpan], beside: EventSpan) -> Margin:
    """The margin of several events together.

    An event of which no cost is known would count as pure profit, so it is left out. With money in currencies without
    a rate nothing is known.

    Args:
        spans: each event's.
        beside: what was earned otherwise, by events that are not told apart too: it is not covered.

    """
    whole = [*spans]
    costed = [span for span in whole if span.used.costed or span.used.cost_nanos]
    if not costed or any(span.revenue_in for span in costed):
        return Margin(None, None)
    revenue = sum(span.revenue_nanos for span in costed)
    of_all = sum(span.revenue_nanos for span in whole) + beside.revenue_nanos
    return Margin(
        percent=margin_percent(revenue, sum(span.used.cost_nanos for span in costed)),
        covers_percent=None if of_all <= 0 else round(min(100.0, revenue * 100 / of_all), 1),
    )


class EventTrend(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from an event's weeks.

    Args:
        change_percent: of its credits against as much time before, None where there were none.
        is_spike: whether there were twice as many in the last seven days as in the seven before. What was not there
            before has begun, and is none.
        margin_low, margin_high: the least and the highest margin of a week, None where none is known.
        unit_cost_before, unit_cost_now: what a unit cost before the last quarter of the weeks and in it, in
            billionths of a US dollar; None where too few units on either side have a known cost.
        cost_change_percent: by how much that differs.
        is_drifting: whether it differs by so much that advice goes by the recent cost.

    """

    change_percent: float | None
    is_spike: bool
    margin_low: float | None
    margin_high: float | None
    unit_cost_before: int | None
    unit_cost_now: int | None
    cost_change_percent: float | None
    is_drifting: bool


def event_trend(whole: EventSpan, before: EventSpan, weeks: Sequence[EventSpan]) -> EventTrend:
    """How an event goes.

    Args:
        whole: the time that is asked for.
        before: as much time before it.
        weeks: seven days each, the last one last; at least two.

    """
    margins = [week.margin for week in weeks if week.margin is not None]
    recent = max(1, len(weeks) // RECENT_PART)
    earlier, later = (together(week.used for week in part) for part in (weeks[:-recent], weeks[-recent:]))
    known = min(earlier.costed, later.costed) >= DRIFT_UNITS_MIN
    cost_before = earlier.cost_nanos // earlier.costed if known else None
    cost_now = later.cost_nanos // later.costed if known else None
    change = _change(cost_before, cost_now)
    last, week_before = weeks[-1].used.count, weeks[-2].used.count
    return EventTrend(
        change_percent=_change(before.used.credits, whole.used.credits),
        is_spike=0 < week_before * SPIKE_FACTOR <= last and last >= SPIKE_COUNT_MIN,
        margin_low=min(margins, default=None),
        margin_high=max(margins, default=None),
        unit_cost_before=cost_before,
        unit_cost_now=cost_now,
        cost_change_percent=change,
        is_drifting=change is not None and abs(change) >= DRIFT_PERCENT,
    )


def _change(before: int | None, now: int | None) -> float | None:
    """By how many percent the second lies above the first, to a tenth; None where the first is nothing."""
    return None if now is None or before is None or before <= 0 else round((now - before) * 100 / before, 1)
