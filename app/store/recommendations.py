"""Advice on prices: made from usage, kept, applied through the door that a person's price takes, or rejected."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from app.errors import NotFound, RecommendationNotOpen
from app.rules.advice_facts import DayOfModel, EventUsage, Market
from app.rules.advisor import Recommendation, Withheld, advise, is_as_rejected
from app.rules.periods import DAY_MS
from app.rules.pricing import FLAT_RATE, Catalogue
from app.rules.times import rfc3339
from app.rules.usage import Used
from app.rules.worth import of_packs
from app.store.catalogue import BUMP, CatalogueStore, PriceDraft
from app.store.db import Database, Script
from app.store.ids import new_id, now_ms
from app.store.usage import UsageStore

Status = Literal["pending", "applied", "rejected", "expired"]

HAS_TIERS: Final = "Its price has tiers or a minimum, and advice is on one price for every unit."


class Advice(Recommendation, frozen=True, kw_only=True):
    """A recommendation as it is kept.

    `version_to` is the version that it became, and `decided_because` why it was rejected or has expired.
    """

    id: str
    status: Status
    created_at: int
    version_to: int | None = None
    decided_at: int | None = None
    decided_by: str | None = None
    decided_because: str | None = None


_COLUMNS: Final = Advice.__struct_fields__
_LISTED: Final = ", ".join(_COLUMNS)
_DOCUMENTS: Final = ("per_model", "facts")
_INSERT: Final = f"INSERT INTO recommendations ({_LISTED}) VALUES ({', '.join('?' * len(_COLUMNS))})"


class RecommendationStore:
    """Makes advice, keeps it, and does what is decided of it.

    Args:
        db: where it is.
        catalogue: the prices in force.
        usage: what advice rests on.

    """

    def __init__(self, db: Database, catalogue: CatalogueStore, usage: UsageStore) -> None:
        self._db = db
        self._catalogue = catalogue
        self._usage = usage

    async def make(self, *, target_margin_percent: int, days: int) -> tuple[list[Advice], list[Withheld]]:
        """Advises on the prices in force, by the usage of the last days, today among them.

        Of an event whose advice is open and the same, nothing new is made. What is open and not advised any more has
        expired.

        Args:
            target_margin_percent: what is to be left of a price after the provider's cost.
            days: how many.

        Returns:
            The open recommendations, and the events that there is none on, with why.

        Raises:
            InvalidRequest: the target cannot be.

        """
        await self._usage.catch_up_whole()
        catalogue = (await self._catalogue.fresh()).at(now_ms())
        today = now_ms() // DAY_MS
        first = today - days + 1
        found = await self._usage.by_day_and_model(first * DAY_MS, (today + 1) * DAY_MS)
        asked = of_packs(catalogue.packs.values())
        market = Market(
            target_margin_percent=target_margin_percent,
            days=days,
            first_day=first,
            pack_credit_nanos=asked.nanos if asked is not None and asked.currency == "usd" else None,
        )
        usages, withheld = _usages(catalogue, found)
        items = advise(usages, market)
        made = [_dated(item, catalogue) for item in items if isinstance(item, Recommendation)]
        withheld += [item for item in items if isinstance(item, Withheld)]
        kept, rejected = await self._db.transact(lambda: self._keep(made))
        return kept, sorted([*withheld, *rejected], key=lambda one: one.event)

    def _keep(self, made: Sequence[Recommendation]) -> Script[tuple[list[Advice], list[Withheld]]]:
        # One at a time: two that advise at once would each find nothing open.
        yield "UPDATE instance SET generation = generation", ()
        rows = yield f"SELECT {_LISTED} FROM recommendations WHERE status = 'pending'", ()
        there = {advice.event: advice for advice in map(_advice, rows)}
        now = now_ms()
        kept, withheld = [], []
        for one in made:
            rested_on = one.facts["versions"]
            if rested_on != (yield from self._versions([*rested_on])):
                continue  # its price was changed just now
            if (rejected := (yield from _rejected(one))) is not None:
                withheld.append(Withheld(event=one.event, reason=_why_not_again(rejected)))
                continue
            known = there.pop(one.event, None)
            if known is not None and _says(known) == _says(one):
                kept.append(known)
                continue
            if known is not None:
                yield _decide("expired"), (now, None, "The facts have changed.", None, known.id)
            fields = {name: getattr(one, name) for name in Recommendation.__struct_fields__}
            kept.append(Advice(id=new_id("rec", ""), status="pending", created_at=now, **fields))
            yield _INSERT, [_column(getattr(kept[-1], name)) for name in _COLUMNS]
        for known in there.values():
            yield _decide("expired"), (now, None, "The facts have changed.", None, known.id)
        return kept, withheld

    async def page(
        self, *, event: str | None, status: Status | None, limit: int, before: str | None
    ) -> tuple[list[Advice], str | None]:
        """A page of recommendations, newest first, and the id to go on before, None on the last page."""
        where, values = ["1 = 1"], dict[str, Any](most=limit + 1)
        for name, value, operator in (("event", event, "="), ("status", status, "="), ("id", before, "<")):
            if value is not None:
                where.append(f"{name} {operator} :{name}")
                values[name] = value
        rows = await self._db.fetch_all(
            f"SELECT {_LISTED} FROM recommendations WHERE {' AND '.join(where)} ORDER BY id DESC LIMIT :most", values
        )
        found = [_advice(row) for row in rows]
        return found[:limit], found[limit - 1].id if len(found) > limit else None

    async def find(self, id: str) -> Advice:
        """One recommendation.

        Raises:
            NotFound: there is none of that id.

        """
        row = await self._db.fetch_one(f"SELECT {_LISTED} FROM recommendations WHERE id = :id", {"id": id})
        if row is None:
            raise _unknown()
        return _advice(row)

    async def apply(self, id: str, *, actor: str | None) -> Advice:
        """Makes a recommendation the price in force; of a merge, that of each of its events.

        Raises:
            NotFound: there is none of that id.
            RecommendationNotOpen: it was decided, or its price has been changed.

        """

        def script() -> Script[Advice]:
            yield BUMP, ()
            advice = yield from _open(id)
            rested_on = advice.facts["versions"]
            if rested_on != (yield from self._versions([*rested_on])):
                yield _decide("expired"), (now_ms(), None, "Its price was changed.", None, id)
                return msgspec.structs.replace(advice, status="expired")
            yield _decide("applied"), (now_ms(), actor, None, None, id)
            drafts = yield from self._drafts(advice)
            made = yield from self._catalogue.making(drafts, {}, actor)
            [version_to] = [one.version for one in made if one.event == advice.event]
            rows = yield f"UPDATE recommendations SET version_to = ? WHERE id = ? RETURNING {_LISTED}", (version_to, id)
            return _advice(rows[0])

        applied = await self._db.transact(script)
        await self._catalogue.refresh()
        if applied.status != "applied":
            raise _not_open(applied)
        return applied

    def _versions(self, events: Sequence[str]) -> Script[dict[str, int]]:
        """The versions in force of some events' prices, 0 for none."""
        there = yield from self._catalogue.in_force(events)
        return {event: there[event].version if event in there else 0 for event in events}

    def _drafts(self, advice: Advice) -> Script[list[PriceDraft]]:
        events = [str(event) for event in advice.facts.get("merge", [advice.event])]
        there = yield from self._catalogue.in_force(events)
        drafts = []
        for event in events:
            now = there.get(event)
            drafts.append(
                PriceDraft(
                    event=event,
                    credits=advice.recommended_credits,
                    label=now.label if now else event,
                    per_model=advice.per_model,
                )
            )
        return drafts

    async def reject(self, id: str, *, reason: str | None, actor: str | None) -> Advice:
        """Closes a recommendation; the price stays.

        Raises:
            NotFound: there is none of that id.
            RecommendationNotOpen: it was decided.

        """

        def script() -> Script[Advice]:
            yield "UPDATE instance SET generation = generation", ()
            yield from _open(id)
            rows = yield f"{_decide('rejected')} RETURNING {_LISTED}", (now_ms(), actor, reason, None, id)
            return _advice(rows[0])

        return await self._db.transact(script)


def _usages(
    catalogue: Catalogue, found: Sequence[tuple[int, str, str, str, Used]]
) -> tuple[list[EventUsage], list[Withheld]]:
    """The usage of each event that has a price; those that no advice is given on."""
    days: dict[str, dict[tuple[int, str], dict[str, Used]]] = defaultdict(lambda: defaultdict(dict))
    for day, event, model, currency, used in found:
        days[event][day, model][currency] = used
    usages, withheld = [], []
    for event in sorted({*days, *catalogue.prices} - {FLAT_RATE}):
        price = catalogue.find(event)
        if price is None:
            continue
        if price.tiers or price.minimum:
            withheld.append(Withheld(event=event, reason=HAS_TIERS))
            continue
        own = price.event == event
        usages.append(
            EventUsage(
                event=event,
                label=catalogue.label(event),
                credits=price.credits,
                per_model=price.per_model,
                version=price.version if own else 0,
                days=[_day_of(day, model, used) for (day, model), used in sorted(days[event].items())],
            )
        )
    return usages, withheld


def _dated(made: Recommendation, catalogue: Catalogue) -> Recommendation:
    """With the versions of all prices that it rests on, 0 for none: where one has moved, it is of no use."""
    events = [str(event) for event in made.facts.get("merge", [made.event])]
    if any(event not in catalogue.prices for event in events):
        events.append(FLAT_RATE)
    versions = {event: price.version if (price := catalogue.prices.get(event)) else 0 for event in events}
    return msgspec.structs.replace(made, facts={**made.facts, "versions": versions})


def _day_of(day: int, model: str, by_currency: Mapping[str, Used]) -> DayOfModel:
    """A day as the advisor takes it: of a unit that was reversed, the cost counts and the unit does not."""
    used, earned = by_currency.get("", Used()), by_currency.get("usd", Used())
    quantity = max(0, used.quantity)
    credits = max(0, used.credits)
    return DayOfModel(
        day=day,
        model=model,
        count=max(0, used.count),
        quantity=quantity,
        credits=credits,
        costed=max(0, min(used.costed, quantity)),
        cost_nanos=used.cost_nanos,
        cost_low_nanos=used.cost_low,
        cost_high_nanos=used.cost_high,
        paid_credits=max(0, min(earned.paid_credits, credits)),
        revenue_nanos=max(0, earned.revenue_nanos),
    )


def _rejected(one: Recommendation) -> Script[Advice | None]:
    """The advice that was rejected last on the same event, where it said the same."""
    rows = yield (
        f"SELECT {_LISTED} FROM recommendations WHERE event = ? AND status = 'rejected' ORDER BY id DESC LIMIT 1",
        (one.event,),
    )
    latest = _advice(rows[0]) if rows else None
    return latest if latest is not None and is_as_rejected(latest, one) else None


def _why_not_again(rejected: Advice) -> str:
    day = rfc3339(rejected.decided_at or 0)[:10]
    why = f": {rejected.decided_because}" if rejected.decided_because else "."
    return f"The same, {rejected.recommended_credits} credits, was rejected on {day}{why}"


def _says(advice: Advice | Recommendation) -> tuple[Any, ...]:
    """What makes two recommendations on an event the same."""
    return (
        advice.kind,
        advice.recommended_credits,
        dict(advice.per_model),
        advice.facts["versions"],
        advice.facts["target_margin_percent"],
        advice.facts.get("merge"),
    )


def _open(id: str) -> Script[Advice]:
    rows = yield f"SELECT {_LISTED} FROM recommendations WHERE id = ?", (id,)
    if not rows:
        raise _unknown()
    advice = _advice(rows[0])
    if advice.status != "pending":
        raise _not_open(advice)
    return advice


def _decide(status: Status) -> str:
    return (
        f"UPDATE recommendations SET status = '{status}', decided_at = ?, decided_by = ?, decided_because = ?,"
        " version_to = ? WHERE id = ?"
    )


def _unknown() -> NotFound:
    return NotFound("There is no such recommendation.")


def _not_open(advice: Advice) -> RecommendationNotOpen:
    return RecommendationNotOpen(f"This recommendation is {advice.status}.", status=advice.status)


def _column(value: Any) -> Any:
    if isinstance(value, Mapping):
        return msgspec.json.encode(value, order="deterministic").decode()
    return value


def _advice(row: Sequence[Any]) -> Advice:
    columns = dict(zip(_COLUMNS, (row[at] for at in range(len(_COLUMNS))), strict=True))
    return Advice(**columns | {name: msgspec.json.decode(columns[name]) for name in _DOCUMENTS})
