"""How credits, money and events go over time."""

from collections.abc import Sequence

import msgspec

from app.api import fields
from app.api.auth import Access
from app.api.http import Answer, Call, Route
from app.api.reports import INTERVALS, choice, event_spans, span_asked_for
from app.rules.event_trends import NOTHING, EventSpan, EventTrend, event_trend, is_large_loss
from app.rules.periods import DAY_MS, HOUR_MS, periods_between, whole_hours
from app.rules.pricing import Catalogue, Price
from app.rules.times import rfc3339
from app.rules.usage import BESIDE_EVENTS
from app.store.ids import now_ms
from app.store.usage import OTHERS

_WEEK_MS = 7 * DAY_MS
_WEEKS_MIN = 2
_WEEKS_MAX = 53


class FlowRow(msgspec.Struct, frozen=True, kw_only=True):
    """How credits moved in one period, by the kind of their entries, and what was paid.

    `top_up_revenue` is money by currency in minor units, of purchases begun in the period, less what was refunded or
    is disputed.
    """

    period: str
    credits_in: dict[str, int]
    credits_out: dict[str, int]
    top_up_revenue: dict[str, int]


class FlowsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Every period from a time until another, both on whole hours."""

    since: str = msgspec.field(name="from")
    until: str = msgspec.field(name="to")
    interval: str
    complete: bool
    rows: list[FlowRow]


async def read_flows(call: Call) -> Answer:
    """Credits in and out, and money in, by period."""
    interval = choice(call, "interval", INTERVALS, "day")
    periods = periods_between(interval, *span_asked_for(call), call.services.config.limits.usage_periods_max)
    complete = await call.services.usage.catch_up()
    flows = await call.services.usage.flows_by(periods)
    money = await call.services.usage.money_by(periods)
    rows = [
        FlowRow(
            period=rfc3339(period),
            credits_in={kind: flow.credits_in for kind, flow in flows.get(period, {}).items() if flow.credits_in},
            credits_out={kind: flow.credits_out for kind, flow in flows.get(period, {}).items() if flow.credits_out},
            top_up_revenue={currency: paid - back for currency, (paid, back) in money.get(period, {}).items()},
        )
        for period, _ in periods
    ]
    first, last = periods[0][0], periods[-1][1]
    return Answer(
        FlowsAnswer(since=rfc3339(first), until=rfc3339(last), interval=interval, complete=complete, rows=rows)
    )


class EventWeek(msgspec.Struct, frozen=True, kw_only=True):
    """Seven days of one event, from a time on."""

    since: str = msgspec.field(name="from")
    count: int
    credits: int
    margin_percent: float | None
    unit_cost_usd: str | None


class EventRow(msgspec.Struct, frozen=True, kw_only=True):
    """How one event goes.

    `count`, `credits`, cost, revenue and margin are those of the time asked for, `credits_before` of as much time
    before it. `loss_usd` is by how much it cost more than it earned, since its price was changed or in all. Where the
    price was changed in that time, the three of `repriced` tell when, and how it went since, from the next whole hour
    on. `is_spike`, the lowest and highest margin of a week, and what a unit cost before the last quarter and in it are
    of `weeks`, the newest of which ends with that time.
    """

    event: str
    label: str
    count: int
    credits: int
    credits_before: int
    change_percent: float | None
    is_spike: bool
    repriced_at: str | None
    count_since_repriced: int | None
    margin_since_repriced_percent: float | None
    loss_usd: str
    is_large_loss: bool
    cost_usd: str | None
    revenue_usd: str
    revenue_in: dict[str, str]
    margin_percent: float | None
    margin_low_percent: float | None
    margin_high_percent: float | None
    unit_cost_before_usd: str | None
    unit_cost_now_usd: str | None
    unit_cost_change_percent: float | None
    is_drifting: bool
    weeks: list[EventWeek]


class EventsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """How each event goes, those with the most credits first; `credits_of_others` were charged for those left out."""

    since: str = msgspec.field(name="from")
    until: str = msgspec.field(name="to")
    complete: bool
    events: list[EventRow]
    credits_of_others: int


async def read_events(call: Call) -> Answer:
    """How each event goes."""
    since, until = whole_hours(*span_asked_for(call))
    count = min(_WEEKS_MAX, max(_WEEKS_MIN, -(-(until - since) // _WEEK_MS)))
    weeks = [(until - at * _WEEK_MS, until - (at - 1) * _WEEK_MS) for at in range(count, 0, -1)]
    spans = [(since, until), (since - (until - since), since)]
    usage = call.services.usage
    complete = await usage.catch_up()
    limits = call.services.config.limits
    first = min(spans[1][0], weeks[0][0])
    # Those that cost the most too: one that is given away may cost more than all others earn.
    a_quarter = max(1, limits.usage_groups_max // 4)
    names = await usage.largest(first, until, "event", None, limits.usage_groups_max - a_quarter)
    names += await usage.largest(first, until, "event", None, a_quarter, by="cost_nanos")
    names = [*dict.fromkeys(names)]
    by_week = event_spans(await usage.report(weeks, "event", None, names, rows_max=limits.usage_days_max))
    by_span = event_spans(await usage.report(spans, "event", None, names, rows_max=limits.usage_days_max))
    catalogue = (await call.services.catalogue.fresh()).at(now_ms())
    since_repriced = await _since_repriced(call, catalogue, names, since, until)
    earned = sum(by_start[since].revenue_nanos for by_start in by_span.values() if since in by_start)
    rows = []
    for event in (by_week.keys() | by_span.keys()) - {BESIDE_EVENTS, OTHERS}:
        of_weeks = [by_week.get(event, {}).get(start, NOTHING) for start, _ in weeks]
        whole, before = (by_span.get(event, {}).get(start, NOTHING) for start, _ in spans)
        price, repriced = catalogue.find(event), since_repriced.get(event)
        rows.append(
            _row(
                event,
                price,
                whole,
                event_trend(whole, before, of_weeks),
                credits_before=before.used.credits,
                weeks=[_week(start, week) for (start, _), week in zip(weeks, of_weeks, strict=True)],
                is_repriced=price is not None and _is_repriced(price, since, until),
                repriced=repriced,
                earned=earned,
            )
        )
    rows.sort(key=lambda row: (-row.credits, row.event))
    others = by_span.get(OTHERS, {}).get(since, NOTHING).used.credits
    return Answer(
        EventsAnswer(
            since=rfc3339(since), until=rfc3339(until), complete=complete, events=rows, credits_of_others=others
        )
    )


async def _since_repriced(
    call: Call, catalogue: Catalogue, names: Sequence[str], since: int, until: int
) -> dict[str, EventSpan]:
    """What each event did since its price was changed, from the next whole hour on; those changed in a span alone."""
    changed = {
        price.event: -(-price.effective_at // HOUR_MS) * HOUR_MS
        for price in catalogue.prices.values()
        if _is_repriced(price, since, until)
    }
    newest = sorted({*changed.values()})[-call.services.config.limits.repricings_max :]
    periods = [(start, until) for start in newest if start < until]
    found: dict[str, dict[int, EventSpan]] = {}
    if periods:
        rows_max = call.services.config.limits.usage_days_max
        found = event_spans(await call.services.usage.report(periods, "event", None, names, rows_max=rows_max))
    return {event: found.get(event, {}).get(start, NOTHING) for event, start in changed.items() if start in newest}


def _is_repriced(price: Price, since: int, until: int) -> bool:
    return price.version > 1 and since < price.effective_at < until


def _row(
    event: str,
    price: Price | None,
    whole: EventSpan,
    trend: EventTrend,
    *,
    credits_before: int,
    weeks: list[EventWeek],
    is_repriced: bool,
    repriced: EventSpan | None,
    earned: int,
) -> EventRow:
    used = whole.used
    loss = (repriced or whole).loss_nanos
    return EventRow(
        event=event,
        label=price.label if price and price.event == event else event,
        count=used.count,
        credits=used.credits,
        credits_before=credits_before,
        change_percent=trend.change_percent,
        is_spike=trend.is_spike,
        repriced_at=rfc3339(price.effective_at) if price and is_repriced else None,
        count_since_repriced=None if repriced is None else repriced.used.count,
        margin_since_repriced_percent=None if repriced is None else repriced.margin,
        loss_usd=fields.dollars(loss),
        is_large_loss=is_large_loss(loss, earned),
        cost_usd=fields.usd(used.cost_nanos if used.costed or used.cost_nanos else None),
        revenue_usd=fields.dollars(whole.revenue_nanos),
        revenue_in={currency: fields.dollars(nanos) for currency, nanos in whole.revenue_in.items()},
        margin_percent=whole.margin,
        margin_low_percent=trend.margin_low,
        margin_high_percent=trend.margin_high,
        unit_cost_before_usd=fields.usd(trend.unit_cost_before),
        unit_cost_now_usd=fields.usd(trend.unit_cost_now),
        unit_cost_change_percent=trend.cost_change_percent,
        is_drifting=trend.is_drifting,
        weeks=weeks,
    )


def _week(start: int, week: EventSpan) -> EventWeek:
    return EventWeek(
        since=rfc3339(start),
        count=week.used.count,
        credits=week.used.credits,
        margin_percent=week.margin,
        unit_cost_usd=fields.usd(week.unit_cost_nanos),
    )


ROUTES = (
    Route(
        method="GET",
        path="/v1/usage/events",
        access=Access("admin"),
        handler=read_events,
        summary="Read how each event goes",
        query=("from", "to"),
        answers={200: EventsAnswer},
    ),
    Route(
        method="GET",
        path="/v1/flows",
        access=Access("admin"),
        handler=read_flows,
        summary="Read how credits and money flow",
        query=("from", "to", "interval"),
        answers={200: FlowsAnswer},
    ),
)
