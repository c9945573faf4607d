"""What was used, for how many credits, at what cost, and what it earned; and how the loop of credits stands."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, Final, Literal, get_args

import msgspec

from app.api import fields
from app.api.auth import Access
from app.api.http import Answer, Call, Route
from app.api.spreadsheet import cell, csv_rows
from app.errors import InvalidRequest
from app.rules.event_trends import EventSpan, margin_of
from app.rules.periods import DAY_MS, RECURS_BEFORE, Per, periods_between, whole_hours
from app.rules.times import rfc3339
from app.rules.usage import BESIDE_EVENTS, Flow, Used, margin_percent, together
from app.store.ids import now_ms
from app.store.usage import OTHERS, Grouping, GroupUse

Interval = Literal["hour"] | Per

INTERVALS: Final[Sequence[str]] = ("hour", *get_args(Per))
_OTHERS: Final = "(others)"
_DAYS_DEFAULT: Final = 30
USD: Final = "usd"
BALANCES: Final = (-1, 0, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 100_000)
"""Where the balances of wallets are divided."""


class UsageRow(msgspec.Struct, frozen=True, kw_only=True):
    """What was used of one event, or by one model, member or customer, in one period.

    `others` is true in a row of all those that are not among the `top` asked for.
    `credits` were charged for `count` events of `quantity` units, without the `reversed` ones. `cost_usd` is what
    providers charged, None where nothing is known of any; `costed` counts the units that it is known of. `paid_credits`
    earned `revenue_usd`; what was paid in a currency without a rate is in `revenue_in`.
    """

    period: str
    event: str | None | msgspec.UnsetType = msgspec.UNSET
    model: str | None | msgspec.UnsetType = msgspec.UNSET
    member: str | None | msgspec.UnsetType = msgspec.UNSET
    customer: str | None | msgspec.UnsetType = msgspec.UNSET
    others: bool | msgspec.UnsetType = msgspec.UNSET
    count: int
    reversed: int
    quantity: int
    credits: int
    paid_credits: int
    costed: int
    cost_usd: str | None
    revenue_usd: str
    revenue_in: dict[str, str]
    margin_percent: float | None


class UsageAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Usage from a time until another, both on whole hours. Not `complete` is one that is still being added up."""

    since: str = msgspec.field(name="from")
    until: str = msgspec.field(name="to")
    interval: str
    group_by: str
    complete: bool
    rows: list[UsageRow]


async def read_usage(call: Call) -> Answer:
    """Usage by period and by event, model, member or customer."""
    since, until = span_asked_for(call)
    interval = choice(call, "interval", INTERVALS, "day")
    grouping: Grouping = choice(call, "group_by", get_args(Grouping), "event")
    customer_id = call.query.get("customer_id")
    if customer_id is not None:
        fields.customer(customer_id)
    periods = periods_between(interval, since, until, call.services.config.limits.usage_periods_max)
    complete = await call.services.usage.catch_up()
    usage, top, names = call.services.usage, _top(call), None
    if top is not None:
        names = await usage.largest(periods[0][0], periods[-1][1], grouping, customer_id, top)
    found = await usage.report(periods, grouping, customer_id, names)
    rows = [
        _row(period, grouping, name, {currency: used for _, _, currency, used in sums})
        for (period, name), sums in groupby(found, key=lambda one: (one[0], one[1]))
    ]
    rows.sort(key=lambda row: (row.period, row.others is True))
    if fields.wants_csv(call):
        return _csv(rows, grouping)
    return Answer(
        UsageAnswer(
            since=rfc3339(periods[0][0]),
            until=rfc3339(periods[-1][1]),
            interval=interval,
            group_by=grouping,
            complete=complete,
            rows=rows,
        )
    )


def _top(call: Call) -> int | None:
    """How many groups are shown by themselves; None for all."""
    text, most = call.query.get("top"), call.services.config.limits.usage_groups_max
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= most):
        raise InvalidRequest(f"top: a whole number from 1 to {most}.", field="top")
    return int(text)


def span_asked_for(call: Call) -> tuple[int, int]:
    """From when until when, the last 30 days by default; both in milliseconds since 1970.

    Raises:
        InvalidRequest: a time is none, or `from` does not lie before `to`.

    """
    until = fields.time_ms(call, "to")
    until = now_ms() if until is None else until
    since = fields.time_ms(call, "from")
    since = until - _DAYS_DEFAULT * DAY_MS if since is None else since
    if since >= until:
        raise InvalidRequest("from: it must lie before to.", field="from")
    for name, at in (("from", since), ("to", until)):
        if not 0 <= at < RECURS_BEFORE:
            raise InvalidRequest(f"{name}: from 1970 to 9998.", field=name)
    return since, until


def choice(call: Call, name: str, known: Sequence[str], default: str) -> Any:
    """A parameter that is one of several words.

    Raises:
        InvalidRequest: it is none of them.

    """
    value = call.query.get(name, default)
    if value not in known:
        raise InvalidRequest(f"{name}: one of {', '.join(known)}.", field=name)
    return value


def _row(period: int, grouping: Grouping, name: str, by_currency: dict[str, Used]) -> UsageRow:
    """One row, of sums by the currency of what they earned, '' for all that has none."""
    used = by_currency.get("", Used())
    earned = {currency: sums.revenue_nanos for currency, sums in by_currency.items() if currency and sums.revenue_nanos}
    cost = used.cost_nanos if used.costed or used.cost_nanos else None
    only_dollars = earned.keys() <= {USD}
    group: dict[str, Any] = {grouping: name if grouping == "customer" else name or None}
    if name == OTHERS:
        group = {grouping: None, "others": True}
    return UsageRow(
        period=rfc3339(period),
        **group,
        count=used.count,
        reversed=used.reversed,
        quantity=used.quantity,
        credits=used.credits,
        paid_credits=sum(sums.paid_credits for sums in by_currency.values()),
        costed=used.costed,
        cost_usd=fields.usd(cost),
        revenue_usd=fields.dollars(earned.get(USD, 0)),
        revenue_in={currency: fields.dollars(nanos) for currency, nanos in earned.items() if currency != USD},
        margin_percent=margin_percent(earned.get(USD, 0), cost) if cost is not None and only_dollars else None,
    )


def _csv(rows: Sequence[UsageRow], grouping: Grouping) -> Answer:
    left_out = {*get_args(Grouping), "others"} - {grouping}
    columns = [name for name in UsageRow.__struct_fields__ if name not in left_out]
    lines = (
        [_OTHERS if name == grouping and row.others is True else _cell(getattr(row, name)) for name in columns]
        for row in rows
    )
    return Answer(
        csv_rows([columns, *lines]),
        headers=(
            (b"content-type", b"text/csv; charset=utf-8"),
            (b"content-disposition", b'attachment; filename="usage.csv"'),
        ),
    )


def _cell(value: Any) -> str | int:
    return str(value) if isinstance(value, float) else cell(value)


class Balances(msgspec.Struct, frozen=True):
    """How many wallets have a balance up to one and above that of the line before; None is any."""

    up_to: int | None
    wallets: int


class OverviewAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """How the loop of credits goes, from a time until another, and how wallets stood at `balances_at`.

    `margin_percent` is that of events whose cost is known; they brought `margin_covers_percent` of the revenue.
    `credits_in` came by top-ups, grants and corrections upward, by kind in `credits_in_by`; `credits_out` were charged
    for `events`, less what was given back. `top_up_revenue` is money paid by currency in minor units, less what was
    refunded or is disputed; what was used cost `cost_usd` and earned `revenue_usd`, as of `UsageRow`.
    """

    since: str = msgspec.field(name="from")
    until: str = msgspec.field(name="to")
    complete: bool
    credits_in: int
    credits_in_by: dict[str, int]
    credits_out: int
    credits_expired: int
    credits_taken_back: int
    credits_voided: int
    credits_corrected: int
    events: int
    cost_usd: str | None
    revenue_usd: str
    revenue_in: dict[str, str]
    margin_percent: float | None
    margin_covers_percent: float | None
    top_up_revenue: dict[str, int]
    balances_at: str
    wallets: int
    low_wallets: int
    in_debt_wallets: int
    frozen_wallets: int
    credits_owed: int
    balances: list[Balances]


async def read_overview(call: Call) -> Answer:
    """How the loop goes: credits in, credits out, balances."""
    since, until = whole_hours(*span_asked_for(call))
    usage = call.services.usage
    complete = await usage.catch_up()
    whole = [(since, until)]
    flows = (await usage.flows_by(whole)).get(since, {})
    money = (await usage.money_by(whole)).get(since, {})
    shown = await usage.largest(since, until, "event", None, call.services.config.limits.usage_groups_max)
    found = await usage.report(whole, "event", None, shown)
    spans = event_spans(found)
    used = _row(since, "event", "", _by_currency(found))
    apart = {event: by_start[since] for event, by_start in spans.items() if event not in (BESIDE_EVENTS, OTHERS)}
    beside = sum(spans[name][since].revenue_nanos for name in (BESIDE_EVENTS, OTHERS) if name in spans)
    margin = margin_of(apart.values(), EventSpan(Used(), beside, {}))
    standings = await call.services.standings.recent()

    def flow(kind: str) -> Flow:
        return flows.get(kind, Flow())

    came = {kind: flow(kind).credits_in for kind in ("top_up", "grant", "adjustment") if flow(kind).credits_in}
    taken = ("refund", "dispute", "dispute_reversal")
    return Answer(
        OverviewAnswer(
            since=rfc3339(since),
            until=rfc3339(until),
            complete=complete,
            credits_in=sum(came.values()),
            credits_in_by=came,
            credits_out=used.credits,
            credits_expired=flow("expiry").credits_out,
            credits_taken_back=sum(flow(kind).credits_out - flow(kind).credits_in for kind in taken),
            credits_voided=flow("void").credits_out,
            credits_corrected=flow("adjustment").credits_out,
            events=used.count,
            cost_usd=used.cost_usd,
            revenue_usd=used.revenue_usd,
            revenue_in=used.revenue_in,
            margin_percent=margin.percent,
            margin_covers_percent=margin.covers_percent,
            top_up_revenue={currency: paid - back for currency, (paid, back) in money.items()},
            balances_at=rfc3339(standings.at),
            wallets=sum(standings.counts),
            low_wallets=standings.low,
            in_debt_wallets=standings.counts[0],
            frozen_wallets=standings.frozen,
            credits_owed=standings.owed,
            balances=[
                Balances(up_to, wallets) for up_to, wallets in zip((*BALANCES, None), standings.counts, strict=True)
            ],
        )
    )


def event_spans(found: Iterable[GroupUse]) -> dict[str, dict[int, EventSpan]]:
    """What each event did, by when each period began; that beside all events too."""
    spans: dict[str, dict[int, EventSpan]] = {}
    for (period, event), parts in groupby(found, key=lambda one: (one[0], one[1])):
        by_currency = _by_currency([*parts])
        spans.setdefault(event, {})[period] = EventSpan(
            by_currency.get("", Used()),
            by_currency.get(USD, Used()).revenue_nanos,
            {
                name: used.revenue_nanos
                for name, used in by_currency.items()
                if name not in ("", USD) and used.revenue_nanos
            },
        )
    return spans


def _by_currency(found: Iterable[GroupUse]) -> dict[str, Used]:
    parts: dict[str, list[Used]] = {}
    for _, _, currency, used in found:
        parts.setdefault(currency, []).append(used)
    return {currency: together(several) for currency, several in parts.items()}


ROUTES = (
    Route(
        method="GET",
        path="/v1/usage",
        access=Access("admin"),
        handler=read_usage,
        summary="Read usage",
        query=("from", "to", "interval", "group_by", "customer_id", "top"),
        answers={200: UsageAnswer},
    ),
    Route(
        method="GET",
        path="/v1/overview",
        access=Access("admin"),
        handler=read_overview,
        summary="Read how the loop of credits goes",
        query=("from", "to"),
        answers={200: OverviewAnswer},
    ),
)
