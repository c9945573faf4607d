"""What the last days' events would have brought in at other prices; nothing is changed."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any

import msgspec

from app.api import fields
from app.api.auth import Access
from app.api.fields import Name, Strict, UnitCredits
from app.api.http import Answer, Call, Route
from app.api.prices import PriceRequest, TierRequest, draft_of
from app.errors import InvalidRequest, Unavailable
from app.rules.periods import DAY_MS
from app.rules.pricing import Price
from app.rules.simulation import Earned, Outcome, outcomes, total
from app.rules.times import rfc3339
from app.rules.usage import Used, margin_percent
from app.store.ids import now_ms
from app.store.simulation import replay


class Candidate(Strict, frozen=True, kw_only=True):
    """A price to try; fields as of a price."""

    credits: UnitCredits
    per_model: dict[Name, UnitCredits] = {}
    tiers: list[TierRequest] | None = None
    minimum: UnitCredits = 0


class SimulationRequest(Strict, frozen=True, kw_only=True):
    """Prices to try, by event, on the events of the last days, today among them."""

    prices: dict[str, Candidate]
    days: Annotated[int, msgspec.Meta(ge=1, le=366)] = 30


class OutcomeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What some events brought in, and would have: all of them as they happened, without those that were reversed."""

    count: int
    credits_now: int
    credits_then: int
    revenue_usd_now: str
    revenue_usd_then: str
    cost_usd: str | None
    margin_percent_now: float | None
    margin_percent_then: float | None


class OutcomeOfModel(OutcomeAnswer, frozen=True, kw_only=True):
    """Of one model, None where events named none."""

    model: str | None


class SimulationRow(OutcomeAnswer, frozen=True, kw_only=True):
    """Of one event. In `wallets_short_then` wallets it would have been refused at least once."""

    event: str
    wallets_short_then: int
    models: list[OutcomeOfModel]


class SimulationAnswer(OutcomeAnswer, frozen=True, kw_only=True):
    """Of all events that were priced again, since a time."""

    since: str = msgspec.field(name="from")
    wallets_short_then: int
    rows: list[SimulationRow]


async def simulate(call: Call) -> Answer:
    """Prices the last days' events again."""
    body: SimulationRequest = call.body
    limits = call.services.config.limits
    if not body.prices or len(body.prices) > limits.simulation_prices_max:
        raise InvalidRequest(f"prices: from 1 to {limits.simulation_prices_max}, by event.", field="prices")
    prices = {event: _price(call, event, candidate) for event, candidate in body.prices.items()}
    await call.services.usage.catch_up_whole()
    today = now_ms() // DAY_MS
    since, until = (today - body.days + 1) * DAY_MS, (today + 1) * DAY_MS
    try:
        async with asyncio.timeout(limits.simulation_seconds_max):
            replayed = await replay(call.services.db, prices, since, limits)
    except TimeoutError as error:
        raise Unavailable("These are too many events to price again in a request: take fewer days.") from error
    earned, for_a_credit = await _earned(call, since, until)
    made = outcomes(replayed.lots, prices, earned, for_a_credit)
    rows = []
    for event in sorted(prices):
        models = {model: outcome for (name, model), outcome in sorted(made.items()) if name == event}
        rows.append(
            SimulationRow(
                event=event,
                wallets_short_then=replayed.short.get(event, 0),
                models=[OutcomeOfModel(model=model or None, **_told(outcome)) for model, outcome in models.items()],
                **_told(total(models.values())),
            )
        )
    return Answer(
        SimulationAnswer(
            since=rfc3339(since), wallets_short_then=replayed.short_in_all, rows=rows, **_told(total(made.values()))
        )
    )


def _price(call: Call, event: str, candidate: Candidate) -> Price:
    """A candidate as a price.

    Raises:
        InvalidRequest: names the field.

    """
    fields.event_name(event, f"prices.{event}"[:200])
    request = PriceRequest(
        credits=candidate.credits, per_model=candidate.per_model, tiers=candidate.tiers, minimum=candidate.minimum
    )
    try:
        draft = draft_of(event, request, call.services.config.limits)
    except InvalidRequest as refused:
        field = f"prices.{event}.{refused.facts.get('field', '')}"
        raise InvalidRequest(f"prices.{event}.{refused.message}", field=field) from refused
    return Price(event, 0, draft.credits, draft.label, draft.per_model, draft.tiers, draft.minimum)


async def _earned(call: Call, since: int, until: int) -> tuple[Mapping[tuple[str, str], Earned], Fraction]:
    """What each event and model earned in dollars and cost; and what a credit earned over all of them."""
    sums: dict[tuple[str, str], Used] = defaultdict(Used)
    for _, event, model, currency, used in await call.services.usage.by_day_and_model(since, until):
        both = sums[event, model]
        if currency == "usd":
            both.revenue_nanos += used.revenue_nanos
        elif not currency:
            both.credits += used.credits
            both.costed += used.costed
            both.cost_nanos += used.cost_nanos
    credits = sum(used.credits for used in sums.values())
    revenue = sum(used.revenue_nanos for used in sums.values())
    return (
        {
            key: Earned(used.revenue_nanos, used.cost_nanos if used.costed or used.cost_nanos else None)
            for key, used in sums.items()
        },
        Fraction(revenue, credits) if credits > 0 else Fraction(0),
    )


def _told(outcome: Outcome) -> dict[str, Any]:
    now, then, cost = outcome.revenue_now_nanos, outcome.revenue_then_nanos, outcome.cost_nanos
    return {
        "count": outcome.count,
        "credits_now": outcome.credits_now,
        "credits_then": outcome.credits_then,
        "revenue_usd_now": fields.dollars(now),
        "revenue_usd_then": fields.dollars(then),
        "cost_usd": fields.usd(cost),
        "margin_percent_now": None if cost is None else margin_percent(now, cost),
        "margin_percent_then": None if cost is None else margin_percent(then, cost),
    }


ROUTES = (
    Route(
        method="POST",
        path="/v1/prices/simulate",
        access=Access("prices"),
        handler=simulate,
        summary="Price past events again",
        request=SimulationRequest,
        answers={200: SimulationAnswer},
    ),
)
