"""What was used, added up: how often, for how many credits, at what cost, and what it earned.

An event counts in the hour when it happened, and a reversal takes it out of that hour again; what its provider charged
stays, and so does its share of what the rest costs. An event earns what the credits are worth that it drew from paid
grants; a promotional credit earns nothing. What was spent from an overdraft earns once it is paid, and what a refund
takes of credits that were spent is earned no more: neither belongs to one event, so both count beside all of them.

Everything here is a sum, so entries may be added up in any order and in any parts.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from app.rules.operations import bonus_id_of, grant_id_of
from app.rules.periods import HOUR_MS
from app.rules.worth import Worth

BESIDE_EVENTS: Final = ""
"""Stands for the event of what belongs to none."""
_PAYS_DEBT: Final = frozenset({"grant", "top_up"})


class UsedEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What usage needs of an entry; columns of its name, and of its `detail`.

    Args:
        checkout_id: what a refund or dispute is about.
        unpaid: how many spent credits of it are not paid for any more.
        event_at: when the event happened that a reversal undoes.
        event_has_cost: whether that event's cost is known.

    """

    customer_id: str
    kind: str
    created_at: int
    event: str | None
    model: str | None
    member: str | None
    quantity: int | None
    credits: int
    cost_nanos: int | None
    draws: tuple[tuple[str, int], ...] | None
    checkout_id: str | None
    unpaid: int | None
    event_at: int | None
    event_has_cost: bool

    @property
    def grants(self) -> set[tuple[str, str]]:
        """The grants whose worth decides what it earned."""
        ids = {grant_id for grant_id, _ in self.draws or ()}
        if self.unpaid and self.checkout_id:
            ids.add(grant_id_of(self.checkout_id))
        return {(self.customer_id, grant_id) for grant_id in ids}


class Used(msgspec.Struct, gc=False):
    """Sums over some entries.

    Args:
        count: events, less those that were reversed.
        reversed: those that were.
        quantity: units of these events.
        credits: what they were charged.
        costed: units whose cost is known.
        cost_nanos: what providers charged for them, and for those that were reversed, in billionths of a US dollar.
        cost_low, cost_high: the least and the most that one unit cost, None where nothing is known.
        paid_credits: of the credits, those drawn from grants that are worth something in the currency they are kept by.
        revenue_nanos: what these earned, in billionths of its major unit.

    """

    count: int = 0
    reversed: int = 0
    quantity: int = 0
    credits: int = 0
    costed: int = 0
    cost_nanos: int = 0
    cost_low: int | None = None
    cost_high: int | None = None
    paid_credits: int = 0
    revenue_nanos: int = 0


_LEAST_AND_MOST: Final = ("cost_low", "cost_high")


def together(parts: Iterable[Used]) -> Used:
    """Several sums as one."""
    whole = Used()
    for part in parts:
        add(whole, part)
    return whole


def add(whole: Used, part: Used) -> None:
    """Adds a part to sums, in place and field by field: this is done several times for each event that is metered."""
    whole.count += part.count
    whole.reversed += part.reversed
    whole.quantity += part.quantity
    whole.credits += part.credits
    whole.costed += part.costed
    whole.cost_nanos += part.cost_nanos
    whole.paid_credits += part.paid_credits
    whole.revenue_nanos += part.revenue_nanos
    low, high = part.cost_low, part.cost_high
    if low is not None and (whole.cost_low is None or low < whole.cost_low):
        whole.cost_low = low
    if high is not None and (whole.cost_high is None or high > whole.cost_high):
        whole.cost_high = high


def without(whole: Used, parts: Iterable[Used]) -> Used:
    """What is left of sums without some of their parts; the least and the most that a unit cost are not known of it."""
    taken = together(parts)
    return Used(
        **{
            name: getattr(whole, name) - getattr(taken, name)
            for name in Used.__struct_fields__
            if name not in _LEAST_AND_MOST
        }
    )


class Flow(msgspec.Struct, gc=False):
    """Credits that came in and went out by entries of one kind."""

    entries: int = 0
    credits_in: int = 0
    credits_out: int = 0


def flows_of(entries: Iterable[UsedEntry]) -> dict[tuple[int, str], Flow]:
    """Adds up by hour and kind how credits moved, each entry in its own hour."""
    flows: dict[tuple[int, str], Flow] = {}
    for entry in entries:
        flow = flows.setdefault((entry.created_at - entry.created_at % HOUR_MS, entry.kind), Flow())
        flow.entries += 1
        if entry.credits > 0:
            flow.credits_in += entry.credits
        else:
            flow.credits_out -= entry.credits
    return flows


class Key(msgspec.Struct, frozen=True, gc=False):
    """What sums are kept by. `currency` is that of the revenue, '' for all that has none; '' is no model or member."""

    customer_id: str
    hour: int
    event: str
    model: str
    member: str
    currency: str


def used_by(entries: Iterable[UsedEntry], worths: Mapping[tuple[str, str], Worth]) -> dict[Key, Used]:
    """Adds up entries.

    Args:
        entries: each once, in any order.
        worths: by customer and id, what the credits of grants are worth; one that is missing is worth nothing.

    """
    sums: dict[Key, Used] = {}
    for entry in entries:
        if entry.kind in ("event", "reversal"):
            _count(_sum_of(sums, entry, ""), entry)
        for grant_id, credits in _earning(entry):
            worth = worths.get((entry.customer_id, grant_id))
            if worth is not None:
                earned = _sum_of(sums, entry, worth.currency)
                earned.paid_credits += credits
                earned.revenue_nanos += credits * worth.nanos
    return sums


def _sum_of(sums: dict[Key, Used], entry: UsedEntry, currency: str) -> Used:
    at = entry.created_at if entry.event_at is None else entry.event_at
    of_event = entry.kind in ("event", "reversal")
    key = Key(
        entry.customer_id,
        at - at % HOUR_MS,
        (entry.event or BESIDE_EVENTS) if of_event else BESIDE_EVENTS,
        (entry.model or "") if of_event else "",
        (entry.member or "") if of_event else "",
        currency,
    )
    return sums.setdefault(key, Used())


def _count(used: Used, entry: UsedEntry) -> None:
    units = entry.quantity or 1
    used.credits -= entry.credits
    if entry.kind == "reversal":
        used.count -= 1
        used.reversed += 1
        used.quantity -= units
        used.costed -= units if entry.event_has_cost else 0
        return
    used.count += 1
    used.quantity += units
    if entry.cost_nanos is not None:
        unit = entry.cost_nanos // units
        used.costed += units
        used.cost_nanos += entry.cost_nanos
        used.cost_low = unit if used.cost_low is None else min(used.cost_low, unit)
        used.cost_high = unit if used.cost_high is None else max(used.cost_high, unit)


def _earning(entry: UsedEntry) -> Iterable[tuple[str, int]]:
    """Which grants earned by how many credits, below zero where they do not earn them any more."""
    draws = entry.draws or ()
    if entry.kind in ("event", "reversal") or entry.kind in _PAYS_DEBT:
        return draws
    if entry.checkout_id is None:
        return ()
    bought = grant_id_of(entry.checkout_id)
    own = (bought, bonus_id_of(entry.checkout_id))
    # Others paid what is owed, or are given back what they paid of it.
    others = [(grant_id, credits) for grant_id, credits in draws if grant_id not in own]
    return [*others, (bought, -entry.unpaid)] if entry.unpaid else others


def margin_percent(revenue_nanos: int, cost_nanos: int) -> float | None:
    """The share of the revenue that is left once the cost is paid, to a tenth of a percent; None without revenue."""
    return None if revenue_nanos <= 0 else round((revenue_nanos - cost_nanos) * 100 / revenue_nanos, 1)
